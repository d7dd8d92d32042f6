"""Email through Postmark's batch endpoint, with postmarker, over libcurl, and what each answer proves."""

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from time import monotonic

from notifyctl.models.enums import FailureReason, SuppressionReason
from notifyctl.providers.certificates import Authorities
from notifyctl.providers.contract import (
    POSTMARK_TIMEOUT,
    Accepted,
    Answer,
    OutboundMessage,
    Rejected,
    SendResult,
    Unavailable,
    Unknown,
)
from notifyctl.providers.curl import Outcome, TransferFailure
from notifyctl.providers.postmark.client import POSTMARK_ERRORS, CurlPostmarkClient, postmark_error
from notifyctl.providers.postmark.codes import POSTMARK_CODES
from notifyctl.providers.results import (
    UNREADABLE,
    NotAccepted,
    OwnError,
    as_number,
    by_code,
    lost,
    own_error,
    provider_id,
    read_json,
    refusal,
)
from notifyctl.text.durations import plural

INVALID_REQUEST = 300
INACTIVE_RECIPIENT = 406
MAX_METADATA = 80
NO_ID = "00000000-0000-0000-0000-000000000000"
BATCH_SIZE = 500
NOBODY_IS_OUT = {"X-Auto-Response-Suppress": "OOF, AutoReply"}
"""Said of every email: whoever reads the replies to it wants no notices of absence."""
_EMPTY_BODY = Rejected(FailureReason.CONTENT_REJECTED, "EMPTY_BODY", "Neither text nor HTML")
_OUT_OF_TIME = Unavailable("OUT_OF_TIME", "The batch had to be sent in parts, and this part's turn never came")


def results(answer: object, recipients: Sequence[str]) -> list[SendResult]:
    """One result for each recipient of the batch, in its order. Never raises, whatever `answer` is."""
    items = [answer] if isinstance(answer, dict) else answer
    if not isinstance(items, list):
        return [Unknown(UNREADABLE, "Not a list of answers")] * len(recipients)
    return [
        Unknown(UNREADABLE, f"Not a list of {plural(len(recipients), 'answer')}")
        if item is None
        else result_of_item(item)
        for item in _in_order(items, recipients)
    ]


def _in_order(items: list[object], recipients: Sequence[str]) -> list[object]:
    """The item of each recipient; None where it cannot be told which is.

    Postmark answers in the order of the request. An answer that is in another, or is not whole, is read by the
    recipients that it names.
    """
    named = [_recipient(item) for item in items]
    order = [recipient.casefold() for recipient in recipients]
    if len(items) == len(order) and not any(
        name != recipient and name in order for name, recipient in zip(named, order, strict=True)
    ):
        return items
    times, times_wanted = Counter(named), Counter(order)
    by_recipient = {name: item for name, item in zip(named, items, strict=True) if name and times[name] == 1}
    return [by_recipient.get(recipient) if times_wanted[recipient] == 1 else None for recipient in order]


def _recipient(item: object) -> str | None:
    to = item.get("To") if isinstance(item, dict) else None
    return to.casefold() if isinstance(to, str) else None


def result_of_item(item: object) -> SendResult:
    """An id proves that it was accepted: when deliveries are delayed, Postmark leaves the ErrorCode out."""
    fields = item if isinstance(item, dict) else {}
    error = own_error(as_number(fields.get("ErrorCode")), fields.get("Message"))
    message_id = provider_id(fields.get("MessageID"))
    if message_id == NO_ID:
        message_id = None
    if error is None:
        return Accepted(message_id) if message_id else Unknown(UNREADABLE, "Neither an ErrorCode nor a MessageID")
    if error.code == 0:
        return Accepted(message_id)
    result = by_code(error, POSTMARK_CODES)
    # A code that nobody knows may be a warning only.
    if message_id and (isinstance(result, Unavailable) or error.code not in POSTMARK_CODES):
        return Unknown(result.code, f"{result.detail} (but it has a MessageID)")
    return by_its_words(result, error)


def by_its_words(result: SendResult, error: OwnError | None) -> SendResult:
    """Two of Postmark's codes stand for several things, and only the text beside them says which."""
    if not isinstance(result, Rejected) or error is None:
        return result
    if error.code == INACTIVE_RECIPIENT:
        return _inactive(result, error.message)
    if error.code == INVALID_REQUEST and "'To'" in error.message:
        return replace(result, reason=FailureReason.RECIPIENT_INVALID)
    if error.code == INVALID_REQUEST and "'From'" in error.message:
        return replace(result, reason=FailureReason.ACCOUNT_PROBLEM)
    return result


def _inactive(result: Rejected, text: str) -> Rejected:
    """Postmark's standard text names every cause there is; only one that names a single cause tells it."""
    causes = re.findall(r"hard bounce|spam complaint|manual suppression", text, re.IGNORECASE)
    match list({cause.lower() for cause in causes}):
        case ["hard bounce"]:
            return replace(result, reason=FailureReason.RECIPIENT_INVALID, suppress=SuppressionReason.HARD_BOUNCE)
        case ["spam complaint"]:
            return replace(result, suppress=SuppressionReason.COMPLAINT)
        case ["manual suppression"]:
            return replace(result, suppress=SuppressionReason.OPTED_OUT)
        case _:
            return result


class PostmarkSender:
    """One batch at a time, on a background thread of its own, so that `submit` returns at once."""

    provider = "postmark"

    def __init__(
        self,
        server_token: str,
        api_url: str,
        sender: str,
        reply_to: str | None,
        message_stream: str,
        timeout_seconds: float = POSTMARK_TIMEOUT.total_seconds(),
        authorities: Authorities | None = None,
    ) -> None:
        self._client = CurlPostmarkClient(server_token, api_url, timeout_seconds, authorities)
        self._common: dict[str, object] = {
            "From": sender,
            "MessageStream": message_stream,
            "TrackLinks": "None",
            "Headers": NOBODY_IS_OUT,
        }
        if reply_to:
            self._common["ReplyTo"] = reply_to
        self._timeout_seconds = timeout_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postmark")
        self._batch: Future[list[Answer]] | None = None
        self.in_flight = 0

    @property
    def free(self) -> int:
        return 0 if self._batch else BATCH_SIZE

    def submit(self, messages: Sequence[OutboundMessage], *, send_by: float | None = None) -> None:
        if len(messages) > self.free:
            raise ValueError(f"{plural(len(messages), 'message')} submitted, {self.free} are taken now")
        if messages:
            self.in_flight = len(messages)
            self._batch = self._thread.submit(self._send, tuple(messages), send_by)

    def collect(self, timeout: float) -> list[Answer]:
        if self._batch is None or not wait([self._batch], timeout).done:
            return []
        done, self._batch, self.in_flight = self._batch, None, 0
        return done.result()

    def close(self) -> None:
        """Waits for the batch in flight."""
        self._thread.shutdown()
        self._client.close()

    def _send(self, messages: Sequence[OutboundMessage], send_by: float | None) -> list[Answer]:
        started = monotonic()
        # postmarker would refuse the whole batch for one of these.
        empty = [message for message in messages if not (message.text or message.html)]
        sendable = [message for message in messages if message.text or message.html]
        answered_by = started + self._timeout_seconds
        results = [_EMPTY_BODY] * len(empty) + self._send_until(answered_by, sendable, send_by)
        seconds = monotonic() - started
        return [
            Answer(message.message_id, result, seconds)
            for message, result in zip(empty + sendable, results, strict=True)
        ]

    def _send_until(self, deadline: float, messages: list[OutboundMessage], send_by: float | None) -> list[SendResult]:
        count = len(messages)
        left = deadline - monotonic()
        # A call that our own clock cuts off would leave its messages in doubt.
        if count == 0 or left < self._timeout_seconds / 10:
            return [_OUT_OF_TIME] * count
        try:
            answer = self._client.send_batch([self._email(message) for message in messages], left, send_by)
        except NotAccepted as no:
            answers = _results_of_list(no.outcome, messages)
            if any(isinstance(result, Accepted) for result in answers):
                return answers
            if count > 1 and _may_be_one_message(no.outcome):
                return self._send_halves(deadline, messages, send_by)
            return [_result_of_call(no.outcome)] * count
        except Exception as error:  # noqa: BLE001  it may have gone out, whatever this is
            if self._client.has_dialled:  # whatever went wrong, the batch may have been accepted
                return [Unknown(UNREADABLE, type(error).__name__)] * count
            if count > 1:
                return self._send_halves(deadline, messages, send_by)
            return [Rejected(FailureReason.CONTENT_REJECTED, "UNSENDABLE", type(error).__name__)]
        return results(answer, [message.recipient for message in messages])

    def _send_halves(self, deadline: float, messages: list[OutboundMessage], send_by: float | None) -> list[SendResult]:
        half = len(messages) // 2
        parts = (messages[:half], messages[half:])
        return [result for part in parts for result in self._send_until(deadline, part, send_by)]

    def _email(self, message: OutboundMessage) -> dict[str, object]:
        email: dict[str, object] = {
            **self._common,
            "To": message.recipient,
            "Subject": message.subject or "",
            "Tag": message.template_key,
            "Metadata": _metadata(message),
        }
        if message.text:
            email["TextBody"] = message.text
        if message.html:
            email["HtmlBody"] = message.html
        return email


def _metadata(message: OutboundMessage) -> dict[str, str]:
    """By which it is found again (Postmark, Custom metadata: a value has at most 80 characters)."""
    metadata = {"message_id": message.message_id}
    if message.held_key is not None and len(message.held_key.idempotency_key) <= MAX_METADATA:
        metadata |= message.held_key._asdict()
    return metadata


def _may_be_one_message(outcome: Outcome) -> bool:
    """Whether the halves of a refused batch may do better. Not where the account is what is refused."""
    if isinstance(outcome, TransferFailure) or outcome.status not in (413, 422):
        return False
    error = postmark_error(outcome)
    meaning = POSTMARK_CODES.get(error.code) if error else None
    return meaning is None or not (meaning.transient or meaning.reason is FailureReason.ACCOUNT_PROBLEM)


def _results_of_list(outcome: Outcome, messages: Sequence[OutboundMessage]) -> list[SendResult]:
    """A list tells of each message, whatever the status beside it. Empty where there is none that can be read."""
    received = outcome.received if isinstance(outcome, TransferFailure) else outcome
    try:
        answer = read_json(received.body) if received else None
    except (ValueError, RecursionError):
        return []
    return results(answer, [message.recipient for message in messages]) if isinstance(answer, list) else []


def _result_of_call(outcome: Outcome) -> SendResult:
    if isinstance(outcome, TransferFailure):
        return lost(outcome)
    return by_its_words(refusal(outcome, POSTMARK_ERRORS), postmark_error(outcome))
