"""One frozen Settings object, loaded once at the edge. Precedence: environment, then the .env file, then defaults."""

import os
import re
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import AnyHttpUrl, Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from notifyctl.errors import ConfigurationError

MIN_SECRET_BYTES = 32
MAX_PORT = 65_535
MAX_DAYS = 36_500
SAMPLE_SECRETS = ("changeme", "change-me", "example", "sample", "secret", "your-", "insecure", "placeholder")
_HTTP_URL = TypeAdapter(AnyHttpUrl)
_NOT_IN_LINK = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")

CommaSeparated = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


def default_database_url() -> str:
    return f"sqlite:///{platformdirs.user_data_path('notifyctl') / 'notifyctl.db'}"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    database_url: str = Field(
        default_factory=default_database_url,
        repr=False,
        description="Where everything is kept: sqlite:///path or postgresql://user:password@host/name.",
    )

    postmark_server_token: SecretStr | None = Field(None, description="Postmark server token.")
    postmark_message_stream: str = Field("outbound", description="Postmark message stream of every email.")
    postmark_webhook_token: SecretStr | None = Field(None, description="What Postmark's webhooks must present.")
    postmark_api_url: str = Field("https://api.postmarkapp.com", description="Base URL of Postmark's API.")
    email_sender: str | None = Field(None, description="From address of every email.")
    email_reply_to: str | None = Field(None, description="Reply-To address of every email.")

    twilio_account_sid: str | None = Field(None, description="Twilio account SID.")
    twilio_auth_token: SecretStr | None = Field(None, description="Twilio auth token.")
    twilio_messaging_service_sid: str | None = Field(
        None, description="Twilio messaging service that sends; preferred over TWILIO_FROM_NUMBER."
    )
    twilio_from_number: str | None = Field(None, description="Number that sends when there is no messaging service.")
    twilio_api_url: str = Field("https://api.twilio.com", description="Base URL of Twilio's API.")
    sms_enabled: bool = Field(True, description="false blocks every SMS with SMS_DISABLED.")

    stripe_api_key: SecretStr | None = Field(None, description="Stripe secret key, for replay and reconcile.")
    stripe_webhook_secret: Secrets = Field(
        (), description="Stripe webhook signing secrets, comma-separated while rolling."
    )
    stripe_api_url: str = Field("https://api.stripe.com", description="Base URL of Stripe's API.")
    stripe_livemode: bool = Field(True, description="Events of the other mode are ignored.")

    ssl_cert_file: str | None = Field(
        None,
        description="PEM file of the authorities that vouch for Postmark, Twilio and Stripe, in the place of the"
        " shipped list: for a private authority, or a proxy that inspects TLS.",
    )
    requests_ca_bundle: str | None = Field(None, description="The same, where SSL_CERT_FILE is not set.")
    curl_ca_bundle: str | None = Field(None, description="The same, where neither of the two is set.")

    ops_alert_email: str | None = Field(None, description="Where operational alerts go.")
    admin_alert_emails: CommaSeparated = Field(
        (), description="Who gets admin mails, comma-separated; OPS_ALERT_EMAIL when empty."
    )
    ops_alert_sms_number: str | None = Field(None, description="Phone for alerts when email is what fails.")

    notification_email_per_minute_limit: int = Field(60, ge=1, description="Emails a minute, over all workers.")
    notification_sms_per_minute_limit: int = Field(30, ge=1, description="SMS a minute, over all workers.")
    in_doubt_search_delay_seconds: int | None = Field(
        None,
        ge=0,
        description="Wait this long before a provider's 'not found' is believed; each provider's own when unset.",
    )
    notification_secret_key: Secrets = Field(
        ...,
        description="Seals sensitive contexts and keys hashes; comma-separated while rotating, the first encrypts.",
    )
    otp_pepper: Secrets = Field(..., description="Keys the hashes of one-time codes; comma-separated while rotating.")

    otp_ttl_seconds: int = Field(600, ge=30, le=600, description="How long a code is valid.")
    otp_max_attempts: int = Field(5, ge=1, le=10, description="Wrong codes before the phone is locked.")
    otp_lockout_seconds: int = Field(900, ge=60, description="How long a phone stays locked.")
    otp_send_rate_limit: str = Field("3/30m", description="Codes a phone may be sent: COUNT/WINDOW.")
    otp_resend_cooldown_seconds: int = Field(0, ge=0, description="Shortest time between two codes to a phone.")
    otp_domain: str | None = Field(None, description="Domain for the WebOTP line of the SMS.")
    otp_default_region: str | None = Field(None, description="Region of numbers without +; none: only + is accepted.")
    otp_allowed_countries: CommaSeparated = Field((), description="Region codes that may get codes; empty: all.")
    otp_prefix_hourly_limit: int | None = Field(None, ge=1, description="Codes an hour to one number prefix.")
    otp_global_hourly_limit: int | None = Field(None, ge=1, description="Codes an hour in all.")

    notification_spike_window_minutes: int = Field(
        15, ge=1, le=525_600, description="Window of the failure-spike monitor."
    )
    notification_spike_warn_percent: float = Field(10, ge=0, le=100, description="Failure rate that warns.")
    notification_spike_warn_min: int = Field(5, ge=1, description="Failures needed to warn.")
    notification_spike_crit_percent: float = Field(25, ge=0, le=100, description="Failure rate that is critical.")
    notification_spike_crit_min: int = Field(10, ge=1, description="Failures needed to be critical.")
    notification_spike_cooldown_minutes: int = Field(30, ge=0, le=525_600, description="Silence after a spike alert.")

    compliance_expiry_windows: CommaSeparated = Field(("30", "14", "7"), description="Days before expiry that remind.")
    compliance_renew_url: str | None = Field(
        None,
        description="Page on which a client renews an item, for the button of the reminder: {reference} and {client_id}"
        " are replaced. Without it the reminder has no button.",
    )
    compliance_sla_days: int = Field(7, ge=0, le=36_500, description="Days past expiry that alert.")
    quiet_hours: str = Field(
        "21:00-08:00", description="No BULK message in these hours of the client's day; 00:00-00:00 is never quiet."
    )
    login_url: str | None = Field(
        None, description="Page on which clients sign in, for WELCOME_EMAIL. Without it none is sent by itself."
    )
    notification_plan_registry: Path | None = Field(None, description="TOML file that replaces the shipped plans.")

    notification_retention_context_days: int = Field(
        14,
        ge=1,
        le=MAX_DAYS,
        description="Days the values of a finished message are kept; without them a failed one cannot be retried.",
    )
    notification_retention_message_days: int = Field(
        400, ge=30, le=MAX_DAYS, description="Days a finished message and its idempotency key are kept."
    )
    notification_retention_otp_days: int = Field(
        30, ge=1, le=MAX_DAYS, description="Days the hashes of one-time codes are kept after they have ended."
    )
    notification_retention_stripe_body_days: int = Field(
        90, ge=7, le=MAX_DAYS, description="Days the body of a processed or ignored Stripe event is kept."
    )
    notification_retention_job_run_days: int = Field(
        14, ge=1, le=MAX_DAYS, description="Days the runs of jobs are kept; the last ones of each stay."
    )
    notification_retention_audit_days: int = Field(
        730, ge=30, le=MAX_DAYS, description="Days audit rows are kept, but never less than messages are."
    )

    public_base_url: str | None = Field(None, description="Where providers reach our webhooks.")
    http_host: str = Field("127.0.0.1", description="Address that `serve` listens on.")
    http_port: int = Field(8080, ge=1, le=65535, description="Port that `serve` listens on.")
    http_docs: bool = Field(False, description="Serve /docs and /openapi.json to everyone.")

    @field_validator(
        "stripe_webhook_secret", "notification_secret_key", "otp_pepper", "admin_alert_emails",
        "otp_allowed_countries", "compliance_expiry_windows", mode="before",
    )  # fmt: skip
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("notification_secret_key", "otp_pepper")
    @classmethod
    def _strong(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not value:
            raise ValueError("is empty; `notifyctl init` writes a fresh one")
        for secret in value:
            _check_secret(secret.get_secret_value())
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value.startswith("postgres://"):
            value = value.replace("postgres://", "postgresql://", 1)
        if not re.match(r"(sqlite:///.|postgresql(\+psycopg)?://)", value):
            raise ValueError("must be sqlite:///path or postgresql://user:password@host/name")
        if value.startswith("postgresql") and (fault := _url_fault(value)):
            raise ValueError(f"{fault}; write postgresql://user:password@host:5432/name")
        return value

    @field_validator("postmark_api_url", "twilio_api_url", "stripe_api_url", "public_base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None:
            _HTTP_URL.validate_python(value)
        return value.rstrip("/") if value else value

    @field_validator("login_url")
    @classmethod
    def _link(cls, value: str | None) -> str | None:
        if value is not None:
            _check_link(value)
        return value

    @field_validator("compliance_renew_url")
    @classmethod
    def _link_with_gaps(cls, value: str | None) -> str | None:
        if value is not None:
            _check_link(value.replace("{reference}", "x").replace("{client_id}", "x"))
        return value

    @field_validator("otp_send_rate_limit")
    @classmethod
    def _rate(cls, value: str) -> str:
        parse_rate(value)
        return value

    @field_validator("compliance_expiry_windows")
    @classmethod
    def _days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(re.fullmatch(r"[0-9]{1,4}", part) for part in value):
            raise ValueError("must be days from 0 to 9999, separated by commas, for example 30,14,7")
        return value

    @field_validator("quiet_hours")
    @classmethod
    def _quiet(cls, value: str) -> str:
        parse_hours(value)
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _utf8(cls, value: Any) -> Any:
        """Defined last, and so asked first. Bytes that are not UTF-8 come as halves of surrogate pairs."""
        if isinstance(value, str) and not value.isascii() and re.search("[\ud800-\udfff]", value):
            raise ValueError("is not UTF-8; write it in UTF-8")
        return value

    def per_minute_limit(self, channel: str) -> int:
        """Until an operator sets another one."""
        if channel == "EMAIL":
            return self.notification_email_per_minute_limit
        return self.notification_sms_per_minute_limit

    @property
    def otp_rate(self) -> tuple[int, timedelta]:
        return parse_rate(self.otp_send_rate_limit)

    @property
    def expiry_windows(self) -> tuple[int, ...]:
        """In days, the longest first."""
        return tuple(sorted({int(days) for days in self.compliance_expiry_windows}, reverse=True))

    @property
    def quiet_span(self) -> tuple[time, time]:
        """From and to; never quiet when they are equal."""
        return parse_hours(self.quiet_hours)

    @property
    def admin_recipients(self) -> tuple[str, ...]:
        return self.admin_alert_emails or ((self.ops_alert_email,) if self.ops_alert_email else ())


def _check_link(url: str) -> None:
    """By the rule of a template's url variable."""
    _HTTP_URL.validate_python(url)
    if _NOT_IN_LINK.search(url):
        raise ValueError("must be a URL with blanks, quotes and brackets encoded")


def _url_fault(url: str) -> str | None:
    """Never repeats the URL: it has a password."""
    # Here, because it takes longer to import than all of this module.
    from sqlalchemy.engine import make_url

    try:
        port = make_url(url).port
    except ValueError:
        port = 0
    return None if port is None or 1 <= port <= MAX_PORT else f"has a port that is no number from 1 to {MAX_PORT}"


def _check_secret(secret: str) -> None:
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(
            f"has {len(secret.encode())} bytes, at least {MIN_SECRET_BYTES} are needed;"
            " `notifyctl init` writes a fresh one"
        )
    if any(word in secret.lower() for word in SAMPLE_SECRETS) or len(set(secret)) < 10:
        raise ValueError("looks like a sample; `notifyctl init` writes a fresh one")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_rate(text: str) -> tuple[int, timedelta]:
    """`3/30m` -> (3, 30 minutes). Raises ValueError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,4})([smhd])", text)
    if match is None:
        raise ValueError("must be COUNT/WINDOW, for example 3/30m")
    return int(match[1]), timedelta(seconds=int(match[2]) * _UNITS[match[3]])


def parse_hours(text: str) -> tuple[time, time]:
    """`21:00-08:00`, from and to. Raises ValueError for anything else."""
    match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", text.replace(" ", ""), re.ASCII)
    if match is None:
        raise ValueError("must be HH:MM-HH:MM, for example 21:00-08:00; 00:00-00:00 is never quiet")
    return time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))


def env_file_path(named: Path | None = None) -> Path:
    """`named`, else NOTIFYCTL_ENV_FILE, else .env in the working directory; whether it is there or not."""
    return named or Path(os.environ.get("NOTIFYCTL_ENV_FILE") or ".env")


def find_env_file(named: Path | None = None) -> Path | None:
    """The file to read, None when there is no .env. Raises ConfigurationError when one was named and is not there."""
    file = env_file_path(named)
    if file.is_file():
        return file
    by = "--env-file" if named else "NOTIFYCTL_ENV_FILE" if os.environ.get("NOTIFYCTL_ENV_FILE") else None
    if by is None:
        return None
    raise ConfigurationError([f"{by} {file}: no such file; `notifyctl init --env-file {file}` writes one"])


def load_settings(env_file: Path | None = None) -> Settings:
    """Reads the environment and a file: `env_file`, else NOTIFYCTL_ENV_FILE, else .env in the working directory.

    Raises ConfigurationError that lists every fault by variable name and never shows a secret.
    """
    file = find_env_file(env_file)
    try:
        return Settings(_env_file=file)
    except ValidationError as error:
        raise ConfigurationError([_fault(item) for item in error.errors(include_input=False)]) from error


def _fault(item: Any) -> str:
    name = str(item["loc"][0]).upper()
    if item["type"] == "missing":
        return f"{name} is not set; `notifyctl init` writes a .env with fresh secrets"
    message = item["msg"].removeprefix("Value error, ")
    return f"{name} {message[0].lower()}{message[1:]}"
