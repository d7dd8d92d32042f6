"""The settings as text: a fresh .env file, and what is in force and where it came from."""

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic.fields import FieldInfo

from notifyctl.errors import ConfigurationError, NotifyctlError
from notifyctl.settings import Settings, checked, is_secret, raw_settings

GROUPS = (
    ("Secrets", ("NOTIFICATION_SECRET_KEY", "OTP_PEPPER")),
    ("Database", ("DATABASE_",)),
    ("Email, by Postmark", ("POSTMARK_", "EMAIL_", "NOTIFICATION_EMAIL_")),
    ("SMS, by Twilio", ("TWILIO_", "SMS_", "NOTIFICATION_SMS_")),
    ("Billing, from Stripe", ("STRIPE_",)),
    ("Alerts", ("OPS_", "ADMIN_", "NOTIFICATION_SPIKE_")),
    ("One-time codes", ("OTP_",)),
    ("Compliance reminders", ("COMPLIANCE_", "QUIET_")),
    ("HTTP", ("PUBLIC_", "HTTP_")),
    ("Other", ("",)),
)
"""Title, and how the names of its settings begin. The first that fits takes a setting."""

FRESH = ("NOTIFICATION_SECRET_KEY", "OTP_PEPPER")
SECRET_BYTES = 32
_PASSWORD = re.compile(r"(://[^:/@]*:).*(?=@)|([?&]\w*password=)[^&]+|(\bpassword\s*=\s*)(?:'[^']*'|\S+)")
"""In a URL, in its options, and in what libpq takes instead of a URL."""


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    name: str
    value: str
    source: str
    """environment, default, or the path of the file."""
    meaning: str


def write_env_file(path: Path) -> None:
    """With fresh secrets, mode 0600. Raises NotifyctlError if the file exists: it is never overwritten."""
    text = _env_text()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise NotifyctlError(
            f"{path} exists already and is left as it is; give another name with --env-file"
        ) from error
    except OSError as error:
        raise NotifyctlError(f"{path} cannot be written: {error.strerror}; give another --env-file") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def effective(env_file: Path) -> list[EffectiveSetting]:
    """Every setting as it is in force; as it is written where one is at fault. Secrets and passwords are masked."""
    written = raw_settings(env_file if env_file.is_file() else None)
    try:
        settings = checked(written)
    except ConfigurationError:
        settings = None
    settings_in_force = []
    for name, field in _settings():
        text, source = default_text(field), "default"
        if name in written.known:
            text = _text(getattr(settings, name.lower())) if settings and not is_secret(field) else written.known[name]
            source = "environment" if name in written.environment else str(env_file)
        settings_in_force.append(EffectiveSetting(name, _masked(text, field), source, field.description or ""))
    return settings_in_force


def default_text(field: FieldInfo) -> str:
    """As it would stand in a .env file; empty when there is none."""
    try:
        default = None if field.is_required() else field.get_default(call_default_factory=True)
    except ConfigurationError:
        return ""  # a database needs a home directory, or a setting
    return _text(default)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(str(part) for part in value)
    return str(value)


def _settings() -> list[tuple[str, FieldInfo]]:
    return [(name.upper(), field) for name, field in Settings.model_fields.items()]


def _env_text() -> str:
    lines = [
        "# Settings of notifyctl. A variable in the environment wins over its line here.",
        "# Lines with a # show the default. Keep this file to yourself: it holds secrets.",
        "# Write values without quotes, and comments on lines of their own: so systemd and Docker read the same.",
    ]
    left = _settings()
    for title, beginnings in GROUPS:
        chosen = [(name, field) for name, field in left if name.startswith(beginnings)]
        left = [item for item in left if item not in chosen]
        if chosen:
            lines += ["", f"## {title}"]
        for name, field in chosen:
            value = f"{name}={secrets.token_hex(SECRET_BYTES)}" if name in FRESH else f"#{name}={default_text(field)}"
            lines += ["", f"# {field.description}", value]
    return "\n".join(lines) + "\n"


def _masked(text: str, field: FieldInfo) -> str:
    if not is_secret(field):
        return _PASSWORD.sub(lambda match: f"{match[1] or match[2] or match[3]}***", text)
    count = sum(bool(part.strip()) for part in text.split(","))
    return "not set" if count == 0 else "set" if count == 1 else f"set ({count} keys)"
