"""The way to ask each channel's provider about an earlier send, from the settings."""

from collections.abc import Iterable
from datetime import timedelta

from pydantic import SecretStr

from notifyctl.errors import ProviderError
from notifyctl.models.template import Channel
from notifyctl.providers.base import Lookup
from notifyctl.providers.certificates import Authorities, trusted_authorities
from notifyctl.settings import Settings


def build_lookups(settings: Settings, channels: Iterable[Channel]) -> dict[Channel, Lookup]:
    """Raises ProviderError that names every variable not set, or the one whose certificates cannot be used."""
    wanted = list(channels)
    missing = [name for channel in wanted for name in _missing(settings, channel)]
    if missing:
        raise ProviderError(f"{' and '.join(wanted)} cannot be looked up: {', '.join(missing)} not set")
    authorities = trusted_authorities(settings)
    return {channel: _build(settings, channel, authorities) for channel in wanted}


def _missing(settings: Settings, channel: Channel) -> list[str]:
    if channel is Channel.EMAIL:
        needed = {"POSTMARK_SERVER_TOKEN": _plain(settings.postmark_server_token)}
    else:
        needed = {
            "TWILIO_ACCOUNT_SID": settings.twilio_account_sid or "",
            "TWILIO_AUTH_TOKEN": _plain(settings.twilio_auth_token),
        }
    return [name for name, value in needed.items() if not value.strip()]


def _build(settings: Settings, channel: Channel, authorities: Authorities) -> Lookup:
    """Imports the SDK that it needs: either costs a quarter of a second."""
    if channel is Channel.EMAIL:
        from notifyctl.providers import postmark_lookup

        return postmark_lookup.PostmarkLookup(
            server_token=_plain(settings.postmark_server_token),
            api_url=settings.postmark_api_url,
            message_stream=settings.postmark_message_stream,
            search_delay=_delay(settings, postmark_lookup.SEARCH_DELAY),
            authorities=authorities,
        )
    from notifyctl.providers import twilio_lookup

    return twilio_lookup.TwilioLookup(
        account_sid=settings.twilio_account_sid or "",
        auth_token=_plain(settings.twilio_auth_token),
        api_url=settings.twilio_api_url,
        search_delay=_delay(settings, twilio_lookup.SEARCH_DELAY),
        authorities=authorities,
    )


def _delay(settings: Settings, default: timedelta) -> timedelta:
    seconds = settings.in_doubt_search_delay_seconds
    return default if seconds is None else timedelta(seconds=seconds)


def _plain(secret: SecretStr | None) -> str:
    """Without the line end that a secret pasted or read from a file tends to bring."""
    return secret.get_secret_value().strip() if secret else ""
