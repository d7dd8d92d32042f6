"""Email through Postmark's batch endpoint, with postmarker, over libcurl."""

import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from time import monotonic
from typing import Any

from notifyctl.models.message import FailureReason
from notifyctl.models.suppression import SuppressionReason
from notifyctl.providers.answers import NotAccepted, OwnError, by_code, lost, own_error, provider_id, refusal
from notifyctl.providers.base import (
    Accepted,
    Answer,
    OutboundMessage,
    Rejected,
    SendResult,
    Unavailable,
    Unknown,
)
from notifyctl.providers.curl import Outcome, TransferFailure
from notifyctl.providers.postmark_client import CurlPostmarkClient, postmark_error
from notifyctl.providers.postmark_codes import POSTMARK_CODES
from notifyctl.providers.timeouts import POSTMARK_TIMEOUT

BATCH_SIZE = 500
INVALID_REQUEST = 300
INACTIVE_RECIPIENT = 406

_EMPTY_BODY = Rejected(FailureReason.CONTENT_REJECTED, "EMPTY_BODY", "Neither text nor HTML")
_OUT_OF_TIME = Unavailable("OUT_OF_TIME", "The batch had to be sent in parts, and this part's turn never came")


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
    ) -> None:
        self._client = CurlPostmarkClient(server_token, api_url, timeout_seconds)
        self._common = {"From": sender, "MessageStream": message_stream, "TrackLinks": "None"}
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
            raise ValueError(f"{len(messages)} messages submitted, {self.free} are taken now")
        if messages:
            self.in_flight = len(messages)
            self._batch = self._thread.submit(self._send, tuple(messages), send_by)

    def collect(self, timeout: float) -> list[Answer]:
        if self._batch is None or not wait([self._batch], timeout).done:
            return []
        answers = self._batch.result()
        self._batch = None
        self.in_flight = 0
        return answers

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
            items = self._client.send_batch([self._email(message) for message in messages], left, send_by)
        except NotAccepted as no:
            if count > 1 and _may_be_one_message(no.outcome):
                half = count // 2
                halves = (messages[:half], messages[half:])
                return [result for part in halves for result in self._send_until(deadline, part, send_by)]
            return [_result_of_call(no.outcome)] * count
        except Exception as error:  # noqa: BLE001  whatever went wrong, the batch may have been accepted
            return [Unknown("UNREADABLE_ANSWER", type(error).__name__)] * count
        return _results_of_items(items, count)

    def _email(self, message: OutboundMessage) -> dict[str, Any]:
        email: dict[str, Any] = {
            **self._common,
            "To": message.recipient,
            "Subject": message.subject or "",
            "Tag": message.template_key,
            "Metadata": {"message_id": message.message_id},
        }
        if message.text:
            email["TextBody"] = message.text
        if message.html:
            email["HtmlBody"] = message.html
        return email


def _may_be_one_message(outcome: Outcome) -> bool:
    """Whether the halves of a refused batch may do better. Not where the account is what is refused."""
    if isinstance(outcome, TransferFailure) or outcome.status not in (413, 422):
        return False
    error = postmark_error(outcome)
    meaning = POSTMARK_CODES.get(error.code) if error else None
    return meaning is None or not (meaning.transient or meaning.reason is FailureReason.ACCOUNT_PROBLEM)


def _result_of_call(outcome: Outcome) -> SendResult:
    if isinstance(outcome, TransferFailure):
        return lost(outcome)
    error = postmark_error(outcome)
    return _by_its_words(refusal(outcome, error, POSTMARK_CODES), error)


def _results_of_items(items: Any, expected: int) -> list[SendResult]:
    """Postmark answers in the order of the request, one item a message, some accepted and some not."""
    if not isinstance(items, list) or len(items) != expected:
        return [Unknown("UNREADABLE_ANSWER", f"Not a list of {expected} answers")] * expected
    return [_result_of_item(item) for item in items]


def _result_of_item(item: Any) -> SendResult:
    fields = item if isinstance(item, dict) else {}
    error = own_error(fields.get("ErrorCode"), fields.get("Message"))
    if error is None:
        return Unknown("UNREADABLE_ANSWER", "An answer without an ErrorCode")
    if error.code != 0:
        return _by_its_words(by_code(error, POSTMARK_CODES), error)
    message_id = provider_id(fields.get("MessageID"))
    if message_id is None:
        return Unknown("UNREADABLE_ANSWER", "An answer without a MessageID")
    return Accepted(message_id)


def _by_its_words(result: SendResult, error: OwnError | None) -> SendResult:
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
