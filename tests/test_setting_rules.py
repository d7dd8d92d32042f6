"""A setting is used in the form in which it was checked, and what it must be is said in words of our own."""

from pathlib import Path
from typing import Any

import phonenumbers
import pytest

from notifyctl import setting_rules
from notifyctl.errors import ConfigurationError
from notifyctl.settings import Settings, load_settings
from tests.support.settings import PEPPER, SECRET, make_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("NOTIFICATION_SECRET_KEY", SECRET)
    monkeypatch.setenv("OTP_PEPPER", PEPPER)


def loaded(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> Any:
    monkeypatch.setenv(name, text)
    value = getattr(load_settings(), name.lower())
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@pytest.mark.parametrize(
    ("name", "text", "used"),
    [
        ("OTP_DOMAIN", "https://app.cloud.example/", "app.cloud.example"),
        ("OTP_DOMAIN", "http://user@App.Cloud.Example:8443/login?next=1#x", "app.cloud.example"),
        ("OTP_DOMAIN", "@app.cloud.example", "app.cloud.example"),
        ("OTP_DOMAIN", "app.cloud.example.", "app.cloud.example"),
        ("OTP_DOMAIN", "app.cloud.example/login", "app.cloud.example"),
        ("OTP_DOMAIN", "bücher.example", "xn--bcher-kva.example"),
        ("OTP_DOMAIN", "localhost:8080", "localhost"),
        ("HTTP_HOST", "http://127.0.0.1/", "127.0.0.1"),
        ("HTTP_HOST", "[::1]", "::1"),
        ("HTTP_HOST", "::", "::"),
        ("POSTMARK_API_URL", " https://api.example/ ", "https://api.example"),
        ("PUBLIC_BASE_URL", "https://bücher.example/notify/", "https://xn--bcher-kva.example/notify"),
        ("TWILIO_API_URL", "http://127.0.0.1:8026", "http://127.0.0.1:8026"),
        ("POSTMARK_SERVER_TOKEN", " token-1\r\n", "token-1"),
        ("POSTMARK_WEBHOOK_TOKEN", "two words ", "two words"),
        ("TWILIO_ACCOUNT_SID", "ACsandbox\n", "ACsandbox"),
        ("TWILIO_FROM_NUMBER", "+1 (500) 555-0006", "+15005550006"),
        ("TWILIO_FROM_NUMBER", "Acme Shop", "Acme Shop"),
        ("TWILIO_FROM_NUMBER", "12345", "12345"),
        ("EMAIL_SENDER", "\tAcme <hello@acme.example> ", "Acme <hello@acme.example>"),
        ("EMAIL_SENDER", '"Acme, Inc." <hello@acme.example>', '"Acme, Inc." <hello@acme.example>'),
        ("OPS_ALERT_EMAIL", "Ops <ops@acme.example>", "ops@acme.example"),
        ("ADMIN_ALERT_EMAILS", "Ann <ann@acme.example>, bob@acme.example ", ("ann@acme.example", "bob@acme.example")),
        ("OTP_DEFAULT_REGION", "de", "DE"),
        ("OTP_ALLOWED_COUNTRIES", "de, At", ("DE", "AT")),
        ("OTP_SEND_RATE_LIMIT", " 3/30m ", "3/30m"),
        ("QUIET_HOURS", "21:00 - 08:00", "21:00-08:00"),
        ("LOGIN_URL", " https://app.example/in ", "https://app.example/in"),
        ("SMS_ENABLED", " False ", False),
        ("HTTP_PORT", " 8081 ", 8081),
        ("NOTIFICATION_PLAN_REGISTRY", "~/plans.toml", Path("/home/ann/plans.toml")),
        ("DATABASE_URL", "sqlite:///~/notifyctl/n.db", "sqlite:////home/ann/notifyctl/n.db"),
        ("DATABASE_URL", " postgres://db/n\n", "postgresql://db/n"),
        (
            "DATABASE_URL",
            "postgresql://u:p%40w@db1:5432,db2:5433/n?target_session_attrs=read-write",
            "postgresql://u:p%40w@/n?host=db1,db2&port=5432,5433&target_session_attrs=read-write",
        ),
        ("DATABASE_URL", "postgresql://db1:6432,db2/n", "postgresql:///n?host=db1,db2&port=6432,5432"),
        ("STRIPE_LIVEMODE", "no", False),
    ],
)
def test_a_setting_is_used_as_it_was_checked(
    name: str, text: str, used: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loaded(monkeypatch, name, text) == used


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("OTP_DOMAIN", "app example", "'app example' must be a domain such as app.example"),
        ("OTP_DOMAIN", "https:///", "'https:///' must be a domain"),
        ("INSTALLATION_NAME", "a|b", "'a|b' must be a name of at most 32 characters without |, such as acme-prod"),
        ("INSTALLATION_NAME", "x" * 33, "must be a name of at most 32 characters"),
        ("OTP_DOMAIN", "-x.example", "must be a domain"),
        ("HTTP_HOST", "127.0.0.1:8080", "'127.0.0.1:8080' must be an address such as 127.0.0.1 or 0.0.0.0"),
        ("HTTP_HOST", "https://x/y", "must be an address"),
        ("OTP_DOMAIN", "https:/app.cloud.example", "'https:/app.cloud.example' must be a domain such as app.example"),
        ("DATABASE_URL", "sqlite:////srv/n.db?mode=ro", "has options behind a ?"),
        ("HTTP_PORT", "1h", "'1h' must be a whole number, without a unit"),
        ("HTTP_PORT", "0", "'0' must be at least 1"),
        ("HTTP_PORT", "65536", "'65536' must be at most 65535"),
        ("NOTIFICATION_EMAIL_PER_MINUTE_LIMIT", "sixty", "'sixty' must be a whole number, without a unit"),
        ("NOTIFICATION_EMAIL_PER_MINUTE_LIMIT", "9" * 30, "must be at most 1000000000"),
        ("OTP_LOCKOUT_SECONDS", "9" * 15, "must be at most"),
        ("IN_DOUBT_SEARCH_DELAY_SECONDS", "9" * 15, "must be at most"),
        ("NOTIFICATION_SPIKE_WARN_PERCENT", "nan", "must be"),
        ("NOTIFICATION_SPIKE_WARN_PERCENT", "x", "'x' must be a number, without a unit"),
        ("SMS_ENABLED", "maybe", "'maybe' must be true or false"),
        ("LOGIN_URL", "app.example", "'app.example' must be a URL such as https://app.example/page"),
        ("LOGIN_URL", "https:app.example", "must be a URL such as"),
        ("PUBLIC_BASE_URL", "https://x.example/?a=b", "must be a URL without a query"),
        ("STRIPE_API_URL", "https:\\\\x.example", "must be a URL"),
        ("POSTMARK_API_URL", "http://", "must be a URL"),
        ("EMAIL_SENDER", "Acme", "'Acme' must be an email address such as"),
        ("EMAIL_SENDER", "Acme, Inc. <hello@acme.example>", 'write it as "Acme, Inc." <hello@acme.example>'),
        ("EMAIL_REPLY_TO", "mailto:hello@acme.example", "must be an email address"),
        ("EMAIL_SENDER", "a@acme.example, b@acme.example", "must be an email address"),
        ("OPS_ALERT_EMAIL", "ops@localhost", "must be an email address"),
        ("ADMIN_ALERT_EMAILS", "a@acme.example; b@acme.example", "must be an email address"),
        ("OPS_ALERT_SMS_NUMBER", "call me", "'call me' must be a phone number"),
        ("TWILIO_FROM_NUMBER", "004915112345678", "must be a number as +15005550006"),
        ("TWILIO_ACCOUNT_SID", "AC 12", "must be ASCII without blanks"),
        ("POSTMARK_MESSAGE_STREAM", "my stream", "must be ASCII without blanks"),
        ("POSTMARK_SERVER_TOKEN", "tökén", "must be ASCII without blanks"),
        ("POSTMARK_SERVER_TOKEN", "токен", "must be ASCII without blanks"),
        ("OTP_DEFAULT_REGION", "UK", "'UK' must be ISO 3166 codes of countries, such as DE, or GB"),
        ("OTP_ALLOWED_COUNTRIES", "DE,Germany", "must be ISO 3166 codes"),
        ("DATABASE_URL", "sqlite:///~nobody-there/n.db", "begins with ~, and there is no such home directory"),
        ("DATABASE_URL", "sqlite:////~/n.db", "has ~ in the middle of its path"),
        ("DATABASE_URL", "sqlite:///$HOME/n.db", "has a $ in its path, in the place of which nothing is put"),
        ("DATABASE_URL", "sqlite:///${HOME}/n.db", "has a $ in its path"),
        ("NOTIFICATION_PLAN_REGISTRY", "$HOME/plans.toml", "has a $ in its path"),
        ("QUIET_HOURS", "at night", "'at night' must be HH:MM-HH:MM"),
        ("EMAIL_SENDER", "a\nb@acme.example", "has a line break or another control character in it"),
    ],
)
def test_what_a_setting_must_be_is_said_with_its_name_and_value(
    name: str, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        loaded(monkeypatch, name, text)
    (fault,) = refusal.value.faults
    assert fault.startswith(f"{name} ")
    assert words in fault
    assert "nput should" not in fault


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("POSTMARK_SERVER_TOKEN", "s3cret token"),
        ("STRIPE_API_KEY", "s3crét"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_1,s3cret x"),
        ("TWILIO_AUTH_TOKEN", "s3cret\x07x"),
        ("DATABASE_URL", "mysql://u:s3cret@host/n"),
        ("DATABASE_URL", "host=db.example dbname=n user=u password=s3cret"),
        ("STRIPE_API_URL", "https://u:s3cret@proxy.example/?x"),
    ],
)
def test_a_secret_is_not_in_what_is_said(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        loaded(monkeypatch, name, text)
    (fault,) = refusal.value.faults
    assert fault.startswith(f"{name} ")
    assert "s3cr" not in fault


def test_a_fault_of_the_file_says_where_it_stands() -> None:
    Path(".env").write_text("\nHTTP_PORT=no\n")
    with pytest.raises(
        ConfigurationError, match=r"HTTP_PORT 'no' must be a whole number, without a unit \(\.env line 2\)"
    ):
        load_settings()


def test_every_setting_that_is_text_has_a_rule_of_its_own() -> None:
    free = ["POSTMARK_WEBHOOK_TOKEN"]
    """Whatever the operator chose, as Postmark sends it back."""
    texts = {
        name.upper()
        for name, field in Settings.model_fields.items()
        if any(word in str(field.annotation) for word in ("str", "Secret", "Path"))
    }
    ruled = {
        name.upper()
        for name, field in Settings.model_fields.items()
        if field.metadata or "Validator" in str(field.annotation)
    }
    assert sorted(texts - ruled) == free


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_blanks_alone_count_as_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("NOTIFICATION_SECRET_KEY", "OTP_PEPPER"):
        pytest.skip("required")
    before = load_settings()
    monkeypatch.setenv(name, " \t ")
    assert load_settings() == before


def test_regions_are_those_that_the_library_of_phone_numbers_knows() -> None:
    assert setting_rules.REGIONS == phonenumbers.SUPPORTED_REGIONS


def test_a_setting_that_a_program_hands_over_goes_by_the_same_rules() -> None:
    assert make_settings(otp_domain="https://app.example/x").otp_domain == "app.example"
