"""Checks of the settings, and what the providers say to them: one function a check, named as its row."""

import stat
from collections.abc import Iterable
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path

from sqlmodel import Session

from notifyctl.clients.plans import load_plans
from notifyctl.clock import system_clock
from notifyctl.doctor.check import CheckContext, CheckResult, CheckStatus
from notifyctl.errors import InvalidInput
from notifyctl.providers import probe
from notifyctl.settings import raw_settings
from notifyctl.text.addresses import normal_email, normal_phone

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
CLOCK_TOLERANCE = timedelta(seconds=30)


def secrets(context: CheckContext) -> CheckResult:
    settings = context.settings
    keys = {secret.get_secret_value() for secret in settings.notification_secret_key}
    if keys.intersection(secret.get_secret_value() for secret in settings.otp_pepper):
        return CheckResult(
            CheckStatus.WARN,
            "NOTIFICATION_SECRET_KEY and OTP_PEPPER share a secret",
            "put a fresh OTP_PEPPER before the present one, separated by a comma",
        )
    return CheckResult()


def names_of_settings(context: CheckContext) -> CheckResult:
    file = context.env_file
    remarks = raw_settings(file if file.is_file() else None).remarks()
    if not remarks:
        return CheckResult()
    return CheckResult(CheckStatus.WARN, "; ".join(remarks), "correct or take out what has no effect")


def env_file_mode(context: CheckContext) -> CheckResult:
    return _private([context.env_file])


def database_file_mode(context: CheckContext) -> CheckResult:
    file = context.database_file
    return _private([Path(f"{file}{suffix}") for suffix in ("", "-wal", "-shm")]) if file else CheckResult()


def email(context: CheckContext) -> CheckResult:
    settings = context.settings
    missing = _missing(POSTMARK_SERVER_TOKEN=settings.postmark_server_token, EMAIL_SENDER=settings.email_sender)
    if missing:
        return CheckResult(CheckStatus.FAIL, f"no email can be sent: {missing} not set", f"set {missing}")
    for name, value in (("EMAIL_SENDER", settings.email_sender), ("EMAIL_REPLY_TO", settings.email_reply_to)):
        if value:
            _check_email(name, parseaddr(value)[1] or value)
    return CheckResult()


def sms(context: CheckContext) -> CheckResult:
    settings = context.settings
    if not settings.sms_enabled:
        return CheckResult(problem="SMS_ENABLED is false")
    sender = settings.twilio_messaging_service_sid or settings.twilio_from_number
    missing = _missing(
        TWILIO_ACCOUNT_SID=settings.twilio_account_sid,
        TWILIO_AUTH_TOKEN=settings.twilio_auth_token,
        **{"TWILIO_MESSAGING_SERVICE_SID or TWILIO_FROM_NUMBER": sender},
    )
    if missing:
        return CheckResult(
            CheckStatus.FAIL, f"no SMS can be sent: {missing} not set", f"set {missing}, or SMS_ENABLED=false"
        )
    return CheckResult()


def webhooks(context: CheckContext) -> CheckResult:
    settings = context.settings
    missing = _missing(
        PUBLIC_BASE_URL=settings.public_base_url,
        POSTMARK_WEBHOOK_TOKEN=settings.postmark_webhook_token,
        STRIPE_WEBHOOK_SECRET=settings.stripe_webhook_secret or not settings.stripe_api_key,
    )
    if missing:
        return CheckResult(
            CheckStatus.WARN, f"{missing} not set: some receipts or Stripe events cannot come in", f"set {missing}"
        )
    if not settings.stripe_webhook_secret:
        return CheckResult(problem="Stripe is not set up: STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET are not set")
    return CheckResult()


def alert_addresses(context: CheckContext) -> CheckResult:
    settings = context.settings
    missing = _missing(OPS_ALERT_EMAIL=settings.ops_alert_email, ADMIN_ALERT_EMAILS=settings.admin_recipients)
    if missing:
        return CheckResult(CheckStatus.WARN, f"{missing} not set: nobody hears of trouble", f"set {missing}")
    _check_email("OPS_ALERT_EMAIL", settings.ops_alert_email or "")
    for address in settings.admin_recipients:
        _check_email("ADMIN_ALERT_EMAILS", address)
    if settings.ops_alert_sms_number:
        try:
            normal_phone(settings.ops_alert_sms_number, settings.otp_default_region)
        except InvalidInput as error:
            raise InvalidInput(f"OPS_ALERT_SMS_NUMBER: {error}") from error
    return CheckResult()


def welcome_mail(context: CheckContext) -> CheckResult:
    if context.settings.login_url is None:
        return CheckResult(problem="LOGIN_URL is not set: no WELCOME_EMAIL is sent by itself")
    return CheckResult()


def otp_countries(context: CheckContext) -> CheckResult:
    if not context.settings.otp_allowed_countries:
        return CheckResult(
            CheckStatus.WARN,
            "OTP_ALLOWED_COUNTRIES is empty: codes can be sent anywhere, at your cost (SMS pumping)",
            "set it to the countries of your clients, such as DE,AT,CH",
        )
    return CheckResult()


def plan_registry(context: CheckContext) -> CheckResult:
    load_plans(context.settings.notification_plan_registry)
    return CheckResult()


OFFLINE = (
    secrets,
    names_of_settings,
    env_file_mode,
    database_file_mode,
    plan_registry,
    email,
    sms,
    webhooks,
    alert_addresses,
    welcome_mail,
    otp_countries,
)


def _private(files: Iterable[Path]) -> CheckResult:
    open_ones = [file for file in files if file.exists() and file.stat().st_mode & _OTHERS]
    if not open_ones:
        return CheckResult()

    def close(_session: Session) -> None:
        for file in open_ones:
            file.chmod(stat.S_IRUSR | stat.S_IWUSR)

    names = " ".join(str(file) for file in open_ones)
    return CheckResult(CheckStatus.WARN, f"others can read {names}", f"chmod 600 {names}", close)


def _missing(**values: object) -> str:
    return ", ".join(name for name, value in values.items() if not value)


def _check_email(name: str, value: str) -> None:
    try:
        normal_email(value)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error


def postmark(context: CheckContext) -> CheckResult:
    return _ask(context, probe.postmark_question(context.settings), "POSTMARK_SERVER_TOKEN is not set")


def twilio(context: CheckContext) -> CheckResult:
    if not context.settings.sms_enabled:
        return CheckResult(problem="not asked: SMS_ENABLED is false")
    question = probe.twilio_question(context.settings)
    return _ask(context, question, "TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN is not set")


def stripe(context: CheckContext) -> CheckResult:
    return _ask(context, probe.stripe_question(context.settings), "STRIPE_API_KEY is not set")


PROVIDERS = (postmark, twilio, stripe)


def _ask(context: CheckContext, question: probe.Question | None, if_unset: str) -> CheckResult:
    if question is None:
        return CheckResult(problem=f"not asked: {if_unset}")
    answer = probe.ask(question, context.settings, system_clock)
    if answer.problem:
        status = CheckStatus.FAIL if answer.is_final else CheckStatus.WARN
        return CheckResult(
            status, answer.problem, f"check the network, {question.url_setting} and {question.key_setting}"
        )
    return _clock(question.provider, answer.ahead)


def _clock(provider: str, ahead: timedelta | None) -> CheckResult:
    if ahead is None:
        return CheckResult(
            CheckStatus.WARN, f"{provider} does not say what time it is", "look for a proxy that takes Date away"
        )
    if abs(ahead) <= CLOCK_TOLERANCE:
        return CheckResult()
    direction = "behind" if ahead > timedelta() else "ahead of"
    return CheckResult(
        CheckStatus.WARN,
        f"this host's clock is {abs(ahead).total_seconds():.0f} s {direction} {provider}'s",
        "let NTP set it: from 5 minutes on Stripe's webhooks are refused, and the times in logs mislead",
    )
