"""The way out of each channel, from the settings."""

from collections.abc import Iterable

from pydantic import SecretStr

from notifyctl.errors import InvalidInput, ProviderError
from notifyctl.models.template import Channel
from notifyctl.providers.base import Sender
from notifyctl.providers.certificates import Authorities, trusted_authorities
from notifyctl.settings import Settings

TWILIO_STATUS_PATH = "/api/webhooks/twilio/status"
TWILIO_INBOUND_PATH = "/api/webhooks/twilio/inbound"


def build_senders(settings: Settings, channels: Iterable[Channel], concurrency: int) -> dict[Channel, Sender]:
    """`concurrency` is how many SMS are under way at once.

    Raises InvalidInput for a concurrency below 1, and ProviderError that names every variable not set, or the one
    whose certificates cannot be used.
    """
    if concurrency < 1:
        raise InvalidInput(f"--concurrency must be at least 1, got {concurrency}")
    wanted = list(channels)
    missing = [name for channel in wanted for name in _missing(settings, channel)]
    if missing:
        raise ProviderError(
            f"{' and '.join(wanted)} cannot be sent: {', '.join(missing)} not set; "
            "set them in the environment or in .env (`notifyctl sandbox` stands in for both providers)"
        )
    authorities = trusted_authorities(settings)
    return {channel: _build(settings, channel, concurrency, authorities) for channel in wanted}


def _missing(settings: Settings, channel: Channel) -> list[str]:
    if channel is Channel.EMAIL:
        needed = {
            "POSTMARK_SERVER_TOKEN": _plain(settings.postmark_server_token),
            "EMAIL_SENDER": settings.email_sender,
        }
    else:
        needed = {
            "TWILIO_ACCOUNT_SID": settings.twilio_account_sid,
            "TWILIO_AUTH_TOKEN": _plain(settings.twilio_auth_token),
            "TWILIO_MESSAGING_SERVICE_SID or TWILIO_FROM_NUMBER": settings.twilio_messaging_service_sid
            or settings.twilio_from_number,
        }
    return [name for name, value in needed.items() if not (value or "").strip()]


def _build(settings: Settings, channel: Channel, concurrency: int, authorities: Authorities) -> Sender:
    """Imports the SDK that it needs: either costs a quarter of a second."""
    if channel is Channel.EMAIL:
        from notifyctl.providers.postmark import PostmarkSender

        return PostmarkSender(
            server_token=_plain(settings.postmark_server_token),
            api_url=settings.postmark_api_url,
            sender=settings.email_sender or "",
            reply_to=settings.email_reply_to,
            message_stream=settings.postmark_message_stream,
            authorities=authorities,
        )
    from notifyctl.providers.twilio import TwilioSender

    base_url = settings.public_base_url
    return TwilioSender(
        account_sid=settings.twilio_account_sid or "",
        auth_token=_plain(settings.twilio_auth_token),
        api_url=settings.twilio_api_url,
        messaging_service_sid=settings.twilio_messaging_service_sid,
        from_number=settings.twilio_from_number,
        status_callback=base_url + TWILIO_STATUS_PATH if base_url else None,
        concurrency=concurrency,
        authorities=authorities,
    )


def _plain(secret: SecretStr | None) -> str:
    """Without the line end that a secret pasted or read from a file tends to bring."""
    return secret.get_secret_value().strip() if secret else ""
