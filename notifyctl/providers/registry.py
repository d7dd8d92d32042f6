"""The providers: a row for each, with all that the rest of notifyctl asks of it before it is called.

To add a provider: its modules, its settings, and its row here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from notifyctl.errors import InvalidInput, ProviderError
from notifyctl.models.enums import Channel
from notifyctl.providers.certificates import Authorities, trusted_authorities
from notifyctl.providers.contract import (
    POSTMARK_SEARCH_DELAY,
    POSTMARK_TIMEOUT,
    TWILIO_SEARCH_DELAY,
    TWILIO_TIMEOUT,
    History,
    Lookup,
    Sender,
)
from notifyctl.providers.receipts import TWILIO_STATUS_PATH
from notifyctl.settings import Settings


def secret_text(value: SecretStr | str | None) -> str:
    """Without the line end that a secret pasted or read from a file tends to bring; empty where it is not set."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return (text or "").strip()


def _postmark_sender(settings: Settings, _: int, authorities: Authorities) -> Sender:
    # An SDK costs a quarter of a second and is imported by those who use it; likewise below.
    from notifyctl.providers.postmark.sender import PostmarkSender

    return PostmarkSender(
        server_token=secret_text(settings.postmark_server_token),
        api_url=settings.postmark_api_url,
        sender=settings.email_sender or "",
        reply_to=settings.email_reply_to,
        message_stream=settings.postmark_message_stream,
        authorities=authorities,
    )


def _postmark_lookup(settings: Settings, authorities: Authorities) -> Lookup:
    from notifyctl.providers.postmark.lookup import PostmarkLookup

    return PostmarkLookup(
        server_token=secret_text(settings.postmark_server_token),
        api_url=settings.postmark_api_url,
        message_stream=settings.postmark_message_stream,
        search_delay=_delay(settings, POSTMARK_SEARCH_DELAY),
        authorities=authorities,
    )


def _postmark_history(settings: Settings, authorities: Authorities) -> History:
    from notifyctl.providers.postmark.history import PostmarkHistory

    return PostmarkHistory(
        server_token=secret_text(settings.postmark_server_token),
        api_url=settings.postmark_api_url,
        message_stream=settings.postmark_message_stream,
        search_delay=_delay(settings, POSTMARK_SEARCH_DELAY),
        authorities=authorities,
    )


def _twilio_sender(settings: Settings, concurrency: int, authorities: Authorities) -> Sender:
    from notifyctl.providers.twilio.sender import TwilioSender

    base_url = settings.public_base_url
    return TwilioSender(
        account_sid=settings.twilio_account_sid or "",
        auth_token=secret_text(settings.twilio_auth_token),
        api_url=settings.twilio_api_url,
        messaging_service_sid=settings.twilio_messaging_service_sid,
        from_number=settings.twilio_from_number,
        status_callback=base_url + TWILIO_STATUS_PATH if base_url else None,
        concurrency=concurrency,
        authorities=authorities,
    )


def _twilio_lookup(settings: Settings, authorities: Authorities) -> Lookup:
    from notifyctl.providers.twilio.lookup import TwilioLookup

    return TwilioLookup(
        account_sid=settings.twilio_account_sid or "",
        auth_token=secret_text(settings.twilio_auth_token),
        api_url=settings.twilio_api_url,
        search_delay=_delay(settings, TWILIO_SEARCH_DELAY),
        authorities=authorities,
    )


def _twilio_history(settings: Settings, authorities: Authorities) -> History:
    from notifyctl.providers.twilio.history import TwilioHistory

    return TwilioHistory(
        account_sid=settings.twilio_account_sid or "",
        auth_token=secret_text(settings.twilio_auth_token),
        api_url=settings.twilio_api_url,
        messaging_service_sid=settings.twilio_messaging_service_sid,
        from_number=settings.twilio_from_number,
        search_delay=_delay(settings, TWILIO_SEARCH_DELAY),
        authorities=authorities,
    )


def _delay(settings: Settings, default: timedelta) -> timedelta:
    seconds = settings.in_doubt_search_delay_seconds
    return default if seconds is None else timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Provider:
    """Settings are given by their names, alternatives joined by "or"."""

    name: str
    """As it is stored with each message."""
    channel: Channel
    api_settings: tuple[str, ...]
    """What its API wants; a look-up needs nothing else."""
    sending_settings: tuple[str, ...]
    """What sending needs besides."""
    webhook_settings: tuple[str, ...]
    """Without these every webhook is refused: nothing proves who calls."""
    call_timeout: timedelta
    """A lease must be longer."""
    status_page: str
    """Where it says that it is down."""
    build_sender: Callable[[Settings, int, Authorities], Sender]
    build_lookup: Callable[[Settings, Authorities], Lookup]
    build_history: Callable[[Settings, Authorities], History]
    sends_in_batches: bool = False
    """All answers of a batch come at once: lane URGENT has a sender of its own, so that it need not wait for them."""
    keeps_our_id: bool = False
    """The id of a message goes along and comes back: a look-up searches by it, and every receipt has it."""

    def unset_for_sending(self, settings: Settings) -> list[str]:
        return unset(settings, (*self.api_settings, *self.sending_settings))


PROVIDERS = {
    provider.channel: provider
    for provider in (
        Provider(
            "postmark",
            Channel.EMAIL,
            api_settings=("POSTMARK_SERVER_TOKEN",),
            sending_settings=("EMAIL_SENDER",),
            webhook_settings=("POSTMARK_WEBHOOK_TOKEN",),
            call_timeout=POSTMARK_TIMEOUT,
            status_page="status.postmarkapp.com",
            build_sender=_postmark_sender,
            build_lookup=_postmark_lookup,
            build_history=_postmark_history,
            sends_in_batches=True,
            keeps_our_id=True,
        ),
        Provider(
            "twilio",
            Channel.SMS,
            api_settings=("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
            sending_settings=("TWILIO_MESSAGING_SERVICE_SID or TWILIO_FROM_NUMBER",),
            webhook_settings=("PUBLIC_BASE_URL", "TWILIO_AUTH_TOKEN"),
            call_timeout=TWILIO_TIMEOUT,
            status_page="status.twilio.com",
            build_sender=_twilio_sender,
            build_lookup=_twilio_lookup,
            build_history=_twilio_history,
        ),
    )
}
"""Who carries the messages of each channel."""


def unset(settings: Settings, names: Iterable[str]) -> list[str]:
    return [name for name in names if not any(_is_set(settings, setting) for setting in name.split(" or "))]


def _is_set(settings: Settings, name: str) -> bool:
    return bool(secret_text(getattr(settings, name.lower())))


def build_senders(settings: Settings, channels: Iterable[Channel], concurrency: int) -> dict[Channel, Sender]:
    """`concurrency` is how many SMS are under way at once.

    Raises InvalidInput for a concurrency below 1, and ProviderError that names every variable not set, or the one
    whose certificates cannot be used.
    """
    if concurrency < 1:
        raise InvalidInput(f"--concurrency must be at least 1, got {concurrency}")
    providers = [PROVIDERS[channel] for channel in channels]
    if missing := [name for provider in providers for name in provider.unset_for_sending(settings)]:
        raise ProviderError(
            f"{_channels(providers)} cannot be sent: {', '.join(missing)} not set; "
            "set them in the environment or in .env (`notifyctl sandbox` stands in for both providers)"
        )
    authorities = trusted_authorities(settings)
    return {provider.channel: provider.build_sender(settings, concurrency, authorities) for provider in providers}


def build_lookups(settings: Settings, channels: Iterable[Channel]) -> dict[Channel, Lookup]:
    """Raises ProviderError that names every variable not set, or the one whose certificates cannot be used."""
    providers = _that_can_be_asked(settings, channels)
    authorities = trusted_authorities(settings)
    return {provider.channel: provider.build_lookup(settings, authorities) for provider in providers}


def build_histories(settings: Settings, channels: Iterable[Channel]) -> dict[Channel, History]:
    """Raises ProviderError as `build_lookups` does."""
    providers = _that_can_be_asked(settings, channels)
    authorities = trusted_authorities(settings)
    return {provider.channel: provider.build_history(settings, authorities) for provider in providers}


def _that_can_be_asked(settings: Settings, channels: Iterable[Channel]) -> list[Provider]:
    providers = [PROVIDERS[channel] for channel in channels]
    if missing := unset(settings, (name for provider in providers for name in provider.api_settings)):
        raise ProviderError(f"{_channels(providers)} cannot be looked up: {', '.join(missing)} not set")
    return providers


def _channels(providers: Iterable[Provider]) -> str:
    return " and ".join(provider.channel for provider in providers)
