"""One frozen Settings object, loaded once at the edge. Precedence: environment, then the .env file, then defaults."""

from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, get_args

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from notifyctl import setting_rules, setting_types
from notifyctl.env_file import RawSettings, find_env_file
from notifyctl.errors import ConfigurationError
from notifyctl.models.enums import CHANNELS, Channel
from notifyctl.setting_rules import parse_hours, parse_rate
from notifyctl.setting_types import (
    BaseUrl,
    CommaSeparated,
    EmailAddress,
    FilePath,
    HttpsUrl,
    Line,
    Secrets,
    SecretWord,
    Word,
)

MAX_DAYS = 36_500
MAX_SECONDS = MAX_DAYS * 86_400
MAX_COUNT = 1_000_000_000
MAX_CONNECTIONS = 1_000
_SHOWN = 60


def default_database_url() -> str:
    """Raises ConfigurationError for a user without a home directory."""
    try:
        folder = platformdirs.user_data_path("notifyctl")
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute():
        raise ConfigurationError(
            ["DATABASE_URL is not set, and there is no home directory to keep a database in; set it, for example to"
             " sqlite:////var/lib/notifyctl/notifyctl.db"]
        )  # fmt: skip
    return f"sqlite:///{folder / 'notifyctl.db'}"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    installation_name: Annotated[str, AfterValidator(setting_rules.installation_name)] | None = Field(
        None,
        description="What operators call this installation, such as acme-prod: it stands first in health, on the page,"
        " in the monitor's line and in the subjects of alerts.",
    )
    database_url: Annotated[str, AfterValidator(setting_rules.database_url)] = Field(
        default_factory=default_database_url,
        repr=False,
        description="Where everything is kept: sqlite:///path or postgresql://user:password@host/name.",
    )
    database_listen_url: Annotated[str, AfterValidator(setting_rules.listen_url)] | None = Field(
        None,
        repr=False,
        description="Another way to the same PostgreSQL, around a pooler: for the connection of a worker that listens.",
    )
    database_pool_size: int = Field(
        26,
        ge=4,
        le=MAX_CONNECTIONS,
        description="Most connections to PostgreSQL that a process opens, all of them counted.",
    )

    postmark_server_token: SecretWord | None = Field(None, description="Postmark server token.")
    postmark_message_stream: Word = Field("outbound", description="Postmark message stream of every email.")
    postmark_webhook_token: SecretStr | None = Field(None, description="What Postmark's webhooks must present.")
    postmark_api_url: BaseUrl = Field("https://api.postmarkapp.com", description="Base URL of Postmark's API.")
    brand_name: Annotated[str, AfterValidator(setting_rules.brand_name)] | None = Field(
        None,
        description="The company, as its clients know it: in the head of every email, before the address that sends"
        " it, and the first word of every SMS.",
    )
    brand_logo_url: HttpsUrl | None = Field(
        None, description="Picture for the head of every email, on https; shown at most 48 pixels high."
    )
    brand_color: Annotated[str, AfterValidator(setting_rules.brand_color)] = Field(
        "#1a56db", description="Colour of buttons and links, dark enough to be read on white: #RRGGBB."
    )
    brand_url: HttpsUrl | None = Field(None, description="The company's home page, behind the logo and at the foot.")
    brand_address: Line | None = Field(None, description="Postal address, for the foot of every email.")
    brand_imprint: Line | None = Field(
        None,
        description="What the law wants beside it, as register, number and directors, for the foot of every email.",
    )
    support_email: EmailAddress | None = Field(
        None, description="Where clients write to with questions. Without it they are asked to reply."
    )

    email_sender: Annotated[str, AfterValidator(setting_rules.sender)] | None = Field(
        None,
        description="From address of every email. BRAND_NAME stands before it, unless it has a name of its own:"
        " Acme <hello@acme.example>.",
    )
    email_reply_to: Annotated[str, AfterValidator(setting_rules.sender)] | None = Field(
        None, description="Reply-To address of every email."
    )

    twilio_account_sid: Word | None = Field(None, description="Twilio account SID.")
    twilio_auth_token: SecretWord | None = Field(None, description="Twilio auth token.")
    twilio_messaging_service_sid: Word | None = Field(
        None, description="Twilio messaging service that sends; preferred over TWILIO_FROM_NUMBER."
    )
    twilio_from_number: Annotated[str, AfterValidator(setting_rules.sms_sender)] | None = Field(
        None, description="Number that sends when there is no messaging service."
    )
    twilio_api_url: BaseUrl = Field("https://api.twilio.com", description="Base URL of Twilio's API.")
    sms_enabled: bool = Field(True, description="false blocks every SMS with SMS_DISABLED.")

    stripe_api_key: SecretWord | None = Field(None, description="Stripe secret key, for replay and reconcile.")
    stripe_webhook_secret: Annotated[Secrets, AfterValidator(setting_types.words)] = Field(
        (), description="Stripe webhook signing secrets, comma-separated while rolling."
    )
    stripe_api_url: BaseUrl = Field("https://api.stripe.com", description="Base URL of Stripe's API.")
    stripe_livemode: bool = Field(True, description="Events of the other mode are ignored.")

    ssl_cert_file: FilePath | None = Field(
        None,
        description="PEM file of the authorities that vouch for Postmark, Twilio and Stripe, in the place of the"
        " shipped list: for a private authority, or a proxy that inspects TLS.",
    )
    requests_ca_bundle: FilePath | None = Field(None, description="The same; what any of the three names is trusted.")
    curl_ca_bundle: FilePath | None = Field(None, description="The same; what any of the three names is trusted.")

    ops_alert_email: EmailAddress | None = Field(None, description="Where operational alerts go.")
    admin_alert_emails: Annotated[CommaSeparated, setting_types.each(setting_rules.email_address)] = Field(
        (), description="Who gets admin mails, comma-separated; OPS_ALERT_EMAIL when empty."
    )
    ops_alert_sms_number: Annotated[str, AfterValidator(setting_rules.phone)] | None = Field(
        None, description="Phone for alerts when email is what fails."
    )

    notification_email_per_minute_limit: int = Field(
        60, ge=1, le=MAX_COUNT, description="Emails a minute, over all workers."
    )
    notification_sms_per_minute_limit: int = Field(
        30, ge=1, le=MAX_COUNT, description="SMS a minute, over all workers."
    )
    in_doubt_search_delay_seconds: int | None = Field(
        None,
        ge=0,
        le=MAX_SECONDS,
        description="Wait this long before a provider's 'not found' is believed; each provider's own when unset.",
    )
    notification_secret_key: Annotated[Secrets, AfterValidator(setting_types.strong)] = Field(
        ...,
        description="Seals sensitive contexts and keys hashes; comma-separated while rotating, the first encrypts.",
    )
    otp_pepper: Annotated[Secrets, AfterValidator(setting_types.strong)] = Field(
        ..., description="Keys the hashes of one-time codes; comma-separated while rotating."
    )

    otp_ttl_seconds: int = Field(600, ge=30, le=600, description="How long a code is valid.")
    otp_max_attempts: int = Field(5, ge=1, le=10, description="Wrong codes before the phone is locked.")
    otp_lockout_seconds: int = Field(900, ge=60, le=MAX_SECONDS, description="How long a phone stays locked.")
    otp_send_rate_limit: Annotated[str, AfterValidator(setting_rules.rate)] = Field(
        "3/30m", description="Codes a phone may be sent: COUNT/WINDOW."
    )
    otp_resend_cooldown_seconds: int = Field(
        0, ge=0, le=MAX_SECONDS, description="Shortest time between two codes to a phone."
    )
    otp_domain: Annotated[str, AfterValidator(setting_rules.domain)] | None = Field(
        None, description="Domain for the WebOTP line of the SMS; of a URL its host is taken."
    )
    otp_default_region: Annotated[str, AfterValidator(setting_rules.region)] | None = Field(
        None, description="Region of numbers without +; none: only + is accepted."
    )
    otp_allowed_countries: Annotated[CommaSeparated, setting_types.each(setting_rules.region)] = Field(
        (), description="Region codes that may get codes; empty: all."
    )
    otp_prefix_hourly_limit: int | None = Field(
        None, ge=1, le=MAX_COUNT, description="Codes an hour to one number prefix."
    )
    otp_global_hourly_limit: int | None = Field(None, ge=1, le=MAX_COUNT, description="Codes an hour in all.")

    notification_spike_window_minutes: int = Field(
        15, ge=1, le=525_600, description="Window of the failure-spike monitor."
    )
    notification_spike_warn_percent: float = Field(10, ge=0, le=100, description="Failure rate that warns.")
    notification_spike_warn_min: int = Field(5, ge=1, le=MAX_COUNT, description="Failures needed to warn.")
    notification_spike_crit_percent: float = Field(25, ge=0, le=100, description="Failure rate that is critical.")
    notification_spike_crit_min: int = Field(10, ge=1, le=MAX_COUNT, description="Failures needed to be critical.")
    notification_spike_cooldown_minutes: int = Field(30, ge=0, le=525_600, description="Silence after a spike alert.")

    compliance_expiry_windows: Annotated[CommaSeparated, AfterValidator(setting_types.days)] = Field(
        ("30", "14", "7"), description="Days before expiry that remind."
    )
    compliance_renew_url: Annotated[str, AfterValidator(setting_rules.link_with_gaps)] | None = Field(
        None,
        description="Page on which a client renews an item, for the button of the reminder: {reference} and {client_id}"
        " are replaced. Without it the reminder has no button.",
    )
    compliance_sla_days: int = Field(7, ge=0, le=MAX_DAYS, description="Days past expiry that alert.")
    quiet_hours: Annotated[str, AfterValidator(setting_rules.hours)] = Field(
        "21:00-08:00", description="No BULK message in these hours of the client's day; 00:00-00:00 is never quiet."
    )
    login_url: Annotated[str, AfterValidator(setting_rules.link)] | None = Field(
        None, description="Page on which clients sign in, for WELCOME_EMAIL. Without it none is sent by itself."
    )
    notification_plan_registry: FilePath | None = Field(None, description="TOML file that replaces the shipped plans.")

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

    notification_templates: FilePath | None = Field(
        None, description="Folder of your own templates; one that it does not have is taken from the shipped ones."
    )
    public_base_url: BaseUrl | None = Field(None, description="Where providers reach our webhooks.")
    http_host: Annotated[str, AfterValidator(setting_rules.listen_host)] = Field(
        "127.0.0.1", description="Address that `serve` listens on."
    )
    http_port: int = Field(8080, ge=1, le=setting_rules.MAX_PORT, description="Port that `serve` listens on.")
    http_docs: bool = Field(False, description="Serve /docs and /openapi.json to everyone.")

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        """Blanks alone count as not set."""
        if not isinstance(value, (str, SecretStr)):
            return value
        text = setting_rules.plain(value.get_secret_value() if isinstance(value, SecretStr) else value)
        if not text and cls.model_fields[info.field_name or ""].default is None:
            return None
        return SecretStr(text) if isinstance(value, SecretStr) else text

    @field_validator("brand_logo_url")
    @classmethod
    def _described_logo(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url and not info.data.get("brand_name"):
            raise ValueError("needs BRAND_NAME, which is read where pictures are not shown; set both")
        return url

    @field_validator("email_sender")
    @classmethod
    def _named_sender(cls, address: str | None, info: ValidationInfo) -> str | None:
        name = info.data.get("brand_name")
        return setting_rules.named_address(name, address) if name and address and "<" not in address else address

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment and the file are read by our own rules."""
        return init_settings, _Environment(settings_cls)

    @property
    def channels(self) -> list[Channel]:
        """Those that are switched on."""
        return [channel for channel, spec in CHANNELS.items() if spec.switch is None or getattr(self, spec.switch)]

    def per_minute_limit(self, channel: Channel) -> int:
        """Until an operator sets another one."""
        limit: int = getattr(self, CHANNELS[channel].limit_setting)
        return limit

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


class _Environment(PydanticBaseSettingsSource):
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, object]:
        return {name.lower(): text for name, text in raw_settings(None).known.items()}


def raw_settings(file: Path | None) -> RawSettings:
    """What is written in the environment and in a file that is there, before anything of it is checked."""
    return RawSettings.read(file, tuple(name.upper() for name in Settings.model_fields))


def is_secret(field: FieldInfo) -> bool:
    """Whether a value of it is never shown."""

    def holds(annotation: object) -> bool:
        return annotation is SecretStr or any(holds(part) for part in get_args(annotation))

    return holds(field.annotation)


def load_settings(env_file: Path | None = None) -> Settings:
    """Reads the environment and a file: `env_file`, else NOTIFYCTL_ENV_FILE, else .env in the working
    directory, else that of an installation in a folder above.

    Raises ConfigurationError that lists every fault by variable name and never shows a secret.
    """
    return checked(raw_settings(find_env_file(env_file)))


def checked(written: RawSettings) -> Settings:
    """Raises ConfigurationError as load_settings does."""
    try:
        return Settings.model_validate({name.lower(): text for name, text in written.known.items()})
    except ValidationError as error:
        errors = error.errors(include_input=False)
        # They have one cause and one remedy, which are not told twice.
        missing = [_name(item) for item in errors if item["type"] == "missing"]
        absent = [written.absent(missing)] if missing else []
        faults = [_fault(item, written) for item in errors if item["type"] != "missing"]
        raise ConfigurationError([*absent, *faults, *written.misspelt()]) from error


def _name(item: ErrorDetails) -> str:
    return str(item["loc"][0]).upper()


def _fault(item: ErrorDetails, written: RawSettings) -> str:
    name = _name(item)
    message = setting_types.words_of(item)
    value = written.known[name]
    if message.startswith("must") and not _may_hold_secret(name, value):
        message = f"{value[:_SHOWN]!r}{'…' if len(value) > _SHOWN else ''} {message}"
    return f"{name} {message}{written.place(name)}"


def _may_hold_secret(name: str, value: str) -> bool:
    """A password may stand in a URL; and in whatever else has been taken for the address of a server."""
    is_server = name in ("DATABASE_URL", "DATABASE_LISTEN_URL") and not value.startswith("sqlite:") and "=" in value
    return is_server or is_secret(Settings.model_fields[name.lower()]) or ("://" in value and "@" in value)
