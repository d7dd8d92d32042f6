import pytest

from notifyctl.models.client import AddressedClient
from notifyctl.models.enums import CHANNELS, Channel
from notifyctl.providers.registry import PROVIDERS, Provider, unset
from notifyctl.settings import Settings
from tests.support.settings import make_settings


def test_each_channel_has_its_row_and_a_provider() -> None:
    assert list(CHANNELS) == list(PROVIDERS) == list(Channel)
    assert all(provider.channel is channel for channel, provider in PROVIDERS.items())


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.name)
def test_what_a_provider_asks_for_are_settings(provider: Provider) -> None:
    asked_for = (*provider.api_settings, *provider.sending_settings, *provider.webhook_settings)
    names = [name for joined in asked_for for name in joined.split(" or ")]
    assert names
    assert {name.lower() for name in names} <= Settings.model_fields.keys()


@pytest.mark.parametrize("channel", Channel)
def test_what_a_channel_names_exists(channel: Channel) -> None:
    spec = CHANNELS[channel]
    assert spec.client_field in AddressedClient._fields
    assert {spec.limit_setting, spec.switch or spec.limit_setting} <= Settings.model_fields.keys()


def test_a_channel_that_is_switched_off_is_not_among_the_settings_channels() -> None:
    assert make_settings(sms_enabled=False).channels == [Channel.EMAIL]
    assert make_settings(sms_enabled=True).channels == list(Channel)


def test_one_of_two_alternatives_is_enough() -> None:
    either = ["TWILIO_MESSAGING_SERVICE_SID or TWILIO_FROM_NUMBER"]
    neither = make_settings(twilio_messaging_service_sid=None, twilio_from_number=None)
    assert unset(neither, either) == either
    assert unset(neither.model_copy(update={"twilio_from_number": "+15005550006"}), either) == []
