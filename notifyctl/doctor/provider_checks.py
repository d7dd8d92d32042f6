"""Checks that ask the providers themselves: one function a check, named as its row."""

from datetime import timedelta

from notifyctl.clock import system_clock
from notifyctl.doctor.check import CheckContext, CheckResult, CheckStatus
from notifyctl.providers import probe

CLOCK_TOLERANCE = timedelta(seconds=30)


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
