"""Asks each provider a question that changes nothing: whether it is the provider that answers, and what its clock says.

Over libcurl for all three, so that `doctor` need not load an SDK. The question is one that the product asks as well.
"""

from base64 import b64encode
from dataclasses import dataclass
from datetime import timedelta

from notifyctl.clock import Clock
from notifyctl.providers.certificates import trusted_authorities
from notifyctl.providers.contract import CONNECT_TIMEOUT
from notifyctl.providers.curl import HttpAnswer, Transfer, TransferFailure
from notifyctl.providers.registry import secret_text
from notifyctl.providers.results import described, json_object, server_time, without_recipients
from notifyctl.settings import Settings

TIMEOUT = 2 * CONNECT_TIMEOUT
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask one provider. `url` and `headers` have secrets in them."""

    provider: str
    url: str
    headers: tuple[str, ...]
    url_setting: str
    key_setting: str
    answers_with: str
    """A field that the provider's own answer has."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """`problem` is empty when the provider itself answered. `is_final`: it will be the same the next time."""

    problem: str = ""
    is_final: bool = False
    ahead: timedelta | None = None
    """How far its clock is ahead of ours, to about a second; None where it did not say."""


def postmark_question(settings: Settings) -> Question | None:
    """None where the key is not set; likewise below."""
    token = secret_text(settings.postmark_server_token)
    headers = ("Accept: application/json", f"X-Postmark-Server-Token: {token}")
    url = f"{settings.postmark_api_url}/messages/outbound?count=1&offset=0"
    question = Question("Postmark", url, headers, "POSTMARK_API_URL", "POSTMARK_SERVER_TOKEN", "Messages")
    return question if token else None


def twilio_question(settings: Settings) -> Question | None:
    account, token = secret_text(settings.twilio_account_sid), secret_text(settings.twilio_auth_token)
    headers = (f"Authorization: Basic {b64encode(f'{account}:{token}'.encode()).decode()}",)
    url = f"{settings.twilio_api_url}/2010-04-01/Accounts/{account}/Messages.json?PageSize=1"
    keys = "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"
    return Question("Twilio", url, headers, "TWILIO_API_URL", keys, "messages") if account and token else None


def stripe_question(settings: Settings) -> Question | None:
    key = secret_text(settings.stripe_api_key)
    headers = (f"Authorization: Bearer {key}",)
    url = f"{settings.stripe_api_url}/v1/events?limit=1"
    return Question("Stripe", url, headers, "STRIPE_API_URL", "STRIPE_API_KEY", "data") if key else None


def ask(question: Question, settings: Settings, clock: Clock) -> ProbeAnswer:
    """Blocks for TIMEOUT at most. Raises ProviderError when the certificates that are to be trusted cannot be read."""
    transfer = Transfer(TIMEOUT.total_seconds(), trusted_authorities(settings))
    try:
        transfer.prepare(question.url, question.headers, None)
        before = clock()
        outcome = transfer.perform(TIMEOUT.total_seconds())
        took = clock() - before
    finally:
        transfer.close()
    if isinstance(outcome, TransferFailure):
        return ProbeAnswer(f"{outcome.code}: {outcome.detail}")
    dated_at = server_time(outcome)
    # The Date is cut to whole seconds, half of one on the average.
    ahead = dated_at + SECOND / 2 - (before + took / 2) if dated_at else None
    problem, is_final = _problem(question, outcome)
    return ProbeAnswer(problem, is_final, ahead if not problem else None)


def _problem(question: Question, answer: HttpAnswer) -> tuple[str, bool]:
    body = json_object(answer.body)
    if answer.is_success and question.answers_with in body:
        return "", False
    words = _own_words(body)
    if words is None:
        # Who sends elsewhere, refuses or is content with anything is not the provider, and will not be the next time.
        return described(answer), answer.status < 500 and answer.status != 429
    text = f"{question.provider} says {without_recipients(words)} (HTTP {answer.status})"
    refused = answer.status in (401, 403)
    return (f"{text}; check {question.key_setting}" if refused else text), refused


def _own_words(body: dict[str, object]) -> str | None:
    """In the form of any of the three; None where the answer has no error of a provider's."""
    if "ErrorCode" in body:
        return str(body.get("Message", ""))
    error = body.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error.get("type") or "")
    return str(body.get("message", "")) if isinstance(body.get("code"), int) else None
