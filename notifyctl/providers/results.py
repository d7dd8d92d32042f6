"""What a provider's answer, one from in between, or none at all proves: rules that Postmark and Twilio share."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import ceil
from time import sleep
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from notifyctl.errors import NotifyctlError, ProviderError
from notifyctl.models.enums import FailureReason, SuppressionReason
from notifyctl.providers.contract import CannotTell, Rejected, Unavailable, Unknown
from notifyctl.providers.curl import HttpAnswer, Outcome, TransferFailure
from notifyctl.text.durations import one_line

MAX_DETAIL = 500
MAX_SEARCHED = 1_000
"""Characters of a provider's words that are looked at."""
MAX_ID = 100
MAX_CODE = 999_999_999
MAX_RETRY_AFTER = timedelta(days=1)
PAUSES_BEFORE_ASKING_AGAIN = (1.0, 2.0, 4.0)
"""Seconds, where the provider does not say how long."""
LONGEST_PAUSE = timedelta(minutes=1)
Asked = TypeVar("Asked")
_ADDRESS = re.compile(r"[^\s@<>,;:'\"()]+(?:@|%40)[^\s@<>,;:'\"()]+\w", re.IGNORECASE)
_BETWEEN_DIGITS = r"(?:%20|[ ().\-/+\u2010-\u2015]){0,3}"
_NUMBER = re.compile(
    rf"(?:\+|%2B){_BETWEEN_DIGITS}\d(?:{_BETWEEN_DIGITS}\d){{6,14}}"
    # Without a country code, only what is no date.
    rf"|(?<!\w)(?!\d{{4}}-\d\d-\d\d)\d(?:{_BETWEEN_DIGITS}\d){{6,14}}(?!\w)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """`transient`: nothing went out, and trying again later may help. `suppress`: never write there again."""

    reason: FailureReason
    remark: str
    transient: bool = False
    suppress: SuppressionReason | None = None


UNREADABLE = "UNREADABLE_ANSWER"

_REASON_OF_STATUS = {
    400: FailureReason.CONTENT_REJECTED,
    413: FailureReason.CONTENT_REJECTED,
    422: FailureReason.CONTENT_REJECTED,
}
_OF_THE_WAY = frozenset({401, 402, 403, 404, 405, 407, 410, 421, 451})
"""Whoever answers so lets nobody through, or is not the provider: every message would fare alike."""
_COME_AGAIN = frozenset({429, 503, 511})
"""The last is a network that wants a login first (RFC 6585, section 6)."""
_TITLE = re.compile(rb"<title[^>]*>(.{0,200})", re.IGNORECASE | re.DOTALL)
_LONGEST_WORD = 20
MAX_URL = 200


def verdict(answer: HttpAnswer, setting: str) -> Rejected | Unavailable | Unknown:
    """What an answer proves that has no error of the provider's own in it. `setting` has the provider's URL.

    A redirect asks for another request before this one is fulfilled (RFC 9110, section 15.4), and a 4xx is a refusal:
    nothing was accepted. A 2xx or 5xx may stand in the place of the provider's answer, which nobody knows then.
    """
    status, who = answer.status, described(answer)
    code = f"HTTP_{status}"
    advice = f"; check {setting}, and any proxy on the way"
    if 300 <= status < 400:
        words = f"{who}: nothing was accepted; set {setting} to the provider's own URL"
        return Rejected(FailureReason.ACCOUNT_PROBLEM, code, words, is_ours=True)
    if status in _COME_AGAIN:
        return Unavailable(code, f"{who}: nothing was accepted", is_ours=True)
    if status in _OF_THE_WAY:
        return Rejected(FailureReason.ACCOUNT_PROBLEM, code, f"{who}: nothing was accepted{advice}", is_ours=True)
    if 400 <= status < 500:
        reason = _REASON_OF_STATUS.get(status, FailureReason.UNKNOWN)
        return Rejected(reason, code, f"{who}: nothing was accepted{advice}", is_ours=True)
    unknown = f"{who}: the provider may have got it or not"
    if answer.is_success:
        return Unknown(UNREADABLE, f"{unknown}{advice}", is_ours=True)
    return Unknown(code, unknown, is_ours=True)


def described(answer: HttpAnswer) -> str:
    """Who answered, and with what."""
    if 300 <= answer.status < 400:
        where = answer.header("Location")
        to = _shown(answer.url, where) if where else "nowhere"
        return f"{answer.site} redirects to {to} (HTTP {answer.status})"
    what = "with nothing that can be read" if answer.is_success else "without an error of the provider's own"
    return f"HTTP {answer.status} from {answer.site} {what}{_title(answer.body)}"


def _shown(base: str, location: str) -> str:
    """Scheme, host, port and path: without what may be secret."""
    try:
        parts = urlsplit(urljoin(base, location))
    except ValueError:
        return "another place"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return "".join(letter for letter in shown[:MAX_URL] if letter.isprintable())


def _title(body: bytes) -> str:
    """A page's own words, so that one can tell what it is. Only short words of letters: it may quote what was sent."""
    title = _TITLE.search(body[:10_000])
    text = title[1].partition(b"<")[0].decode("utf-8", "replace") if title else ""
    words = [word for word in re.findall(r"[^\W\d_]+", text) if len(word) <= _LONGEST_WORD]
    return f" (a page titled '{' '.join(words[:8])}')" if words else ""


@dataclass(frozen=True, slots=True)
class OwnError:
    """The provider's own error body, which no proxy or load balancer in between writes."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """How one provider says no: what its codes mean, how they are read, and the setting that has its URL."""

    codes: Mapping[int, CodeMeaning]
    read: Callable[[HttpAnswer], OwnError | None]
    url_setting: str


class NotAccepted(Exception):
    """Anything but a 2xx with JSON came of a call that waits for its answer."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def read_json(body: bytes) -> object:
    """The door that all of a provider's words come through: without what PostgreSQL's text and JSON cannot keep.

    Raises ValueError or RecursionError for a body that cannot be read.
    """
    text = body.decode(errors="replace")
    # Only an escape can stand for what is not to come in, and most bodies have none.
    if "\\u" in text or "\0" in text or "\ufeff" in text or "\ufffd" in text:
        return _storable(json.loads(body))
    return json.loads(text)


def _storable(value: object) -> object:
    match value:
        case str():
            return value.replace("\0", "").encode(errors="replace").decode()
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {_storable(name): _storable(item) for name, item in value.items()}
    return value


def json_object(body: bytes) -> dict[str, object]:
    """Empty for anything that is not a JSON object."""
    try:
        value = read_json(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def provider_id(value: object) -> str | None:
    """The id that a provider gave a message; None for what is not one."""
    return (one_line(str(_storable(value)))[:MAX_ID].rstrip() or None) if isinstance(value, str) else None


def own_error(code: object, message: object) -> OwnError | None:
    """None unless `code` is a number as it stands in every error that the providers write themselves."""
    if not isinstance(code, int) or isinstance(code, bool) or not 0 <= code <= MAX_CODE:
        return None
    return OwnError(code, message if isinstance(message, str) and message else "no message")


def as_number(code: object) -> object:
    """Also one that is written as text, which proves as much."""
    return int(code) if isinstance(code, str) and re.fullmatch(r"[0-9]{1,9}", code) else code


def lost(failure: TransferFailure) -> Unavailable | Unknown:
    if failure.may_have_arrived:
        return Unknown(failure.code, failure.detail, is_ours=True)
    return Unavailable(failure.code, failure.detail, is_ours=True)


def refusal(answer: HttpAnswer, errors: ErrorFormat) -> Rejected | Unavailable | Unknown:
    """The meaning of any answer but a success.

    The provider's own code decides; beside a 5xx any is worth another try. What has none of its own comes from
    something in between, which cannot know whether the provider behind it has already accepted the message.
    """
    status = answer.status
    error = errors.read(answer)
    if error is None or error.code == 0:
        result = verdict(answer, errors.url_setting)
        return replace(result, retry_after=retry_after(answer)) if isinstance(result, Unavailable) else result
    code, detail = str(error.code), without_recipients(error.message)
    if status >= 500:
        return Unavailable(code, detail, retry_after(answer))
    if error.code in errors.codes:
        return by_code(error, errors.codes, retry_after(answer))
    if status == 429:
        return Unavailable(code, detail, retry_after(answer))
    if status >= 400:
        return Rejected(FailureReason.ACCOUNT_PROBLEM if status in (401, 403) else FailureReason.UNKNOWN, code, detail)
    return Unknown(code, detail)


def no_result(outcome: Outcome, errors: ErrorFormat) -> CannotTell | Unavailable:
    """The meaning of any answer to a look-up but a success. A look-up may be repeated, so no answer is in doubt.

    Only the provider itself can refuse it for good: a 4xx from something in between may be gone the next time.
    """
    if isinstance(outcome, TransferFailure):
        return Unavailable(outcome.code, outcome.detail, is_ours=True)
    result = refusal(outcome, errors)
    if isinstance(result, Unavailable):
        return result
    if isinstance(result, Rejected) and not result.is_ours and outcome.status != 429:
        return CannotTell(f"{result.code}: {result.detail}")
    return Unavailable(result.code, result.detail, retry_after(outcome), is_ours=result.is_ours)


class Inquiry:
    """Many questions to one provider, each asked again where an answer may still come. Used by one thread."""

    def __init__(self, provider: str, errors: ErrorFormat, pause: Callable[[float], None] = sleep) -> None:
        self._provider = provider
        self._errors = errors
        self._pause = pause
        self.calls = 0

    def ask(self, call: Callable[[], Asked]) -> Asked:
        """What `call` returns, which raises NotAccepted for no answer. Waits as told. Raises ProviderError."""
        pauses = list(PAUSES_BEFORE_ASKING_AGAIN)
        while True:
            self.calls += 1
            try:
                return call()
            except NotAccepted as no:
                finding = no_result(no.outcome, self._errors)
            if isinstance(finding, CannotTell):
                raise ProviderError(f"{self._provider} refuses to say what it has: {finding.detail}")
            wait = finding.retry_after or timedelta(seconds=pauses[0] if pauses else 0)
            if not pauses or wait > LONGEST_PAUSE:
                asks = f"; it asks for {wait.total_seconds():.0f} s" if finding.retry_after else ""
                why = f"{finding.code}: {finding.detail}{asks}"
                raise ProviderError(f"{self._provider} does not say what it has: {why}; ask again later")
            self._pause(wait.total_seconds())
            del pauses[0]

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Whatever one stumbles over in an answer 200 becomes a ProviderError."""
        try:
            yield
        except NotifyctlError:
            raise
        except Exception as error:
            words = f"{self._provider} says what it has in a way that cannot be read ({type(error).__name__})"
            raise ProviderError(f"{words}; check {self._errors.url_setting}, and any proxy on the way") from error


def by_code(error: OwnError, codes: Mapping[int, CodeMeaning], wait: timedelta | None = None) -> Rejected | Unavailable:
    meaning = codes.get(error.code)
    if meaning and meaning.transient:
        return Unavailable(str(error.code), without_recipients(error.message), wait)
    return undelivered(error, codes)


def undelivered(error: OwnError, codes: Mapping[int, CodeMeaning]) -> Rejected:
    """The meaning of an error after acceptance: also one that is transient elsewhere ends the message now."""
    meaning = codes.get(error.code)
    detail = without_recipients(error.message)
    if meaning is None:
        return Rejected(FailureReason.UNKNOWN, str(error.code), detail)
    return Rejected(meaning.reason, str(error.code), detail, meaning.suppress)


def server_time(answer: HttpAnswer) -> datetime | None:
    """When it answered by its own clock (RFC 9110, section 6.6.1), to the second; None where it does not say."""
    try:
        sent_at = parsedate_to_datetime(answer.header("Date") or "")
        return sent_at.astimezone(UTC) if sent_at.tzinfo else None
    except (ValueError, TypeError, OverflowError):
        return None


def retry_after(answer: HttpAnswer) -> timedelta | None:
    """RFC 9110, section 10.2.3: seconds, or a date, which is compared with the server's own Date. A fraction of a
    second is no part of it, and written all the same.
    """
    value = answer.header("Retry-After")
    if value is None:
        return None
    try:
        if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
            return timedelta(seconds=ceil(min(float(value), MAX_RETRY_AFTER.total_seconds())))
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(answer.header("Date") or "")
    except (ValueError, TypeError, OverflowError):  # the last of a year, or a zone, that is too large for a date
        return None
    return min(max(wait, timedelta()), MAX_RETRY_AFTER)


def without_recipients(text: str) -> str:
    """One line of the provider's words. They like to quote the address, which has no business in a log."""
    line = one_line(str(_storable(text[:MAX_SEARCHED])))
    return _NUMBER.sub("[number]", _ADDRESS.sub("[address]", line))[:MAX_DETAIL]
