"""The channels: a row for each, with all in which they differ. What a provider is, is in providers.registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from notifyctl.models.enums import Channel


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    label: str
    """On a page."""
    address: str
    """What a recipient's address is called."""
    client_field: str
    """Where a client has it."""
    limit_setting: str
    """How many messages a minute, until an operator sets another limit."""
    backoff: tuple[timedelta, ...]
    """The wait after the first, second, … failed attempt. When it is used up, the message has failed."""
    has_subject: bool
    """Its templates have a subject and may have HTML: a folder of files each. The others are one file."""
    switch: str | None = None
    """The setting that turns it off."""


CHANNELS: Mapping[Channel, ChannelSpec] = {
    Channel.EMAIL: ChannelSpec(
        label="Email",
        address="email address",
        client_field="email",
        limit_setting="notification_email_per_minute_limit",
        backoff=(timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10)),
        has_subject=True,
    ),
    Channel.SMS: ChannelSpec(
        label="SMS",
        address="phone number",
        client_field="phone_e164",
        limit_setting="notification_sms_per_minute_limit",
        backoff=(timedelta(minutes=1), timedelta(minutes=1)),
        has_subject=False,
        switch="sms_enabled",
    ),
}
