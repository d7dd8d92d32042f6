"""What `notifyctl doctor` asks the providers themselves: one function a check, named as its row."""

from datetime import timedelta

from notifyctl.clock import system_clock
from notifyctl.doctor.doctor import Finding, Installation, Status
from notifyctl.providers import probe

CLOCK_TOLERANCE = timedelta(seconds=30)


def postmark(installation: Installation) -> Finding:
    return _asked(installation, probe.postmark_question(installation.settings), "POSTMARK_SERVER_TOKEN is not set")


def twilio(installation: Installation) -> Finding:
    if not installation.settings.sms_enabled:
        return Finding(problem="not asked: SMS_ENABLED is false")
    question = probe.twilio_question(installation.settings)
    return _asked(installation, question, "TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN is not set")


def stripe(installation: Installation) -> Finding:
    return _asked(installation, probe.stripe_question(installation.settings), "STRIPE_API_KEY is not set")


PROVIDERS = (postmark, twilio, stripe)


def _asked(installation: Installation, question: probe.Question | None, why_not: str) -> Finding:
    if question is None:
        return Finding(problem=f"not asked: {why_not}")
    told = probe.ask(question, installation.settings, system_clock)
    if told.trouble:
        status = Status.FAIL if told.is_final else Status.WARN
        return Finding(status, told.trouble, f"check the network, {question.url_setting} and {question.key_setting}")
    return _clock(question.provider, told.ahead)


def _clock(provider: str, ahead: timedelta | None) -> Finding:
    if ahead is None:
        return Finding(Status.WARN, f"{provider} does not say what time it is", "look for a proxy that takes Date away")
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding()
    direction = "behind" if ahead > timedelta() else "ahead of"
    return Finding(
        Status.WARN,
        f"this host's clock is {abs(ahead).total_seconds():.0f} s {direction} {provider}'s",
        "let NTP set it: from 5 minutes on Stripe's webhooks are refused, and the times in logs mislead",
    )
