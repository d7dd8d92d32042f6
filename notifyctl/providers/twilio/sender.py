"""SMS through Twilio, with its SDK's request, over libcurl."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from urllib.parse import quote

from notifyctl.models.enums import FailureReason
from notifyctl.providers.certificates import Authorities
from notifyctl.providers.contract import (
    TWILIO_TIMEOUT,
    Accepted,
    Answer,
    OutboundMessage,
    Rejected,
    SendResult,
    Unavailable,
    Unknown,
)
from notifyctl.providers.curl import HttpAnswer, Outcome, Transfer, TransferFailure, Transfers
from notifyctl.providers.results import by_code, json_object, lost, own_error, provider_id, refusal
from notifyctl.providers.twilio.client import TWILIO_ERRORS, MessageRequests, twilio_error
from notifyctl.providers.twilio.codes import TWILIO_CODES
from notifyctl.text.durations import plural

_NOT_SENT = frozenset({"failed", "undelivered", "canceled"})
SLOTS = 100
"""Calls at once, where the answers come at once; and so many are begun at once."""
AT_ONCE_SECONDS = 0.03
"""What a busy process takes for it by itself."""
MORE_A_SECOND = 15_000
"""How many more are under way for each second that answers take beyond that: from 50 ms on there are 400."""
CONCURRENCY = 400
_SID = re.compile(r"(SM|MM)[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class _Call:
    message_id: str
    started: float


class TwilioSender:
    """Up to `concurrency` messages at once in the caller's thread; bytes move in `submit` and `collect`.

    A hundred of them, and more only where the answers take their time: what is under way when a worker is killed is in
    doubt. After a 429 it is a hundred again, and one more with each group of answers.
    """

    provider = "twilio"

    def __init__(  # noqa: PLR0913  an account, and how to reach it
        self,
        account_sid: str,
        auth_token: str,
        api_url: str,
        messaging_service_sid: str | None,
        from_number: str | None,
        status_callback: str | None,
        concurrency: int = CONCURRENCY,
        timeout_seconds: float = TWILIO_TIMEOUT.total_seconds(),
        authorities: Authorities | None = None,
    ) -> None:
        self._transfers = Transfers(concurrency, timeout_seconds, authorities)
        message = {"messaging_service_sid": messaging_service_sid} if messaging_service_sid else {}
        if from_number and not messaging_service_sid:
            message["from_"] = from_number
        if status_callback is not None:
            message["status_callback"] = status_callback
        self._requests = MessageRequests(account_sid, auth_token, api_url, to="", body="", **message)
        self._status_callback = status_callback
        self._concurrency = concurrency
        self._latency = 0.0
        """Of the fastest call of a group, in seconds, smoothed: the others had to wait for this thread."""
        self._most_more = concurrency
        self._calls: dict[Transfer, _Call] = {}
        self._unsendable: list[Answer] = []

    @property
    def free(self) -> int:
        more = min(max(0, int((self._latency - AT_ONCE_SECONDS) * MORE_A_SECOND)), self._most_more)
        # A large group would be long in being recorded, and what is answered meanwhile has to wait for it.
        return max(0, min(SLOTS, min(self._concurrency, SLOTS + more) - self.in_flight))

    @property
    def in_flight(self) -> int:
        return len(self._calls) + len(self._unsendable)

    def submit(self, messages: Sequence[OutboundMessage], *, send_by: float | None = None) -> None:
        room = self._concurrency - self.in_flight  # also for what was claimed when more was free
        if len(messages) > room:
            raise ValueError(f"{plural(len(messages), 'message')} submitted, {room} are taken now")
        for message in messages:
            self._start(message, send_by)
        self._transfers.push()

    def _start(self, message: OutboundMessage, send_by: float | None) -> None:
        started = monotonic()
        transfer = self._transfers.borrow()
        try:
            self._requests.prepare(transfer, self._values(message))
        except Exception as error:  # noqa: BLE001  it cannot be put into a request; the others must go on
            self._transfers.give_back(transfer)
            result = Rejected(FailureReason.CONTENT_REJECTED, "UNSENDABLE", type(error).__name__)
            self._unsendable.append(Answer(message.message_id, result, 0.0))
            return
        transfer.send_by = send_by
        self._calls[transfer] = _Call(message.message_id, started)
        self._transfers.start(transfer)

    def _values(self, message: OutboundMessage) -> dict[str, str]:
        values = {"To": message.recipient, "Body": message.text}
        if self._status_callback is not None:
            values["StatusCallback"] = f"{self._status_callback}?message_id={quote(message.message_id, safe='')}"
        return values

    def collect(self, timeout: float) -> list[Answer]:
        answers, self._unsendable = self._unsendable, []
        finished = self._transfers.wait(0.0 if answers else timeout)
        found = [self._answer(transfer, outcome) for transfer, outcome in finished]
        if found:
            self._latency += (min(answer.seconds for answer in found) - self._latency) / 8
            is_too_much = any(isinstance(outcome, HttpAnswer) and outcome.status == 429 for _, outcome in finished)
            self._most_more = 0 if is_too_much else min(self._most_more + 1, self._concurrency)
        return answers + found

    def _answer(self, transfer: Transfer, outcome: Outcome) -> Answer:
        call = self._calls.pop(transfer)
        result = _result(outcome)
        self._transfers.give_back(transfer)
        return Answer(call.message_id, result, monotonic() - call.started)

    def close(self) -> None:
        """Gives up what is in flight: its messages may or may not have gone out."""
        self._calls.clear()
        self._transfers.close()


def _result(outcome: Outcome) -> SendResult:
    if isinstance(outcome, TransferFailure):
        return (outcome.received and _proof(outcome.received)) or lost(outcome)
    return _proof(outcome) or _refused(outcome)


def _proof(answer: HttpAnswer) -> SendResult | None:
    """A SID proves that it was accepted, whatever the status or another field beside it."""
    body = json_object(answer.body)
    sid = provider_id(body.get("sid"))
    if sid is None:
        return None
    if not answer.is_success and (not _SID.fullmatch(sid) or twilio_error(answer)):
        return None
    return _result_of_created(sid, body.get("status"), body.get("error_code"), body.get("error_message"))


def _refused(answer: HttpAnswer) -> SendResult:
    result, error = refusal(answer, TWILIO_ERRORS), twilio_error(answer)
    sid = provider_id(json_object(answer.body).get("sid"))
    # A code that nobody knows may be a warning only.
    is_open = isinstance(result, Unavailable) or (error is not None and error.code not in TWILIO_CODES)
    if sid and _SID.fullmatch(sid) and is_open:
        return Unknown(result.code, f"{result.detail} (but it has a SID)")
    return result


def _result_of_created(sid: str, status: object, code: object, words: object) -> SendResult:
    if not isinstance(status, str) or status not in _NOT_SENT:
        return Accepted(sid)
    error = own_error(code, words or status)
    if error is None:
        return Rejected(FailureReason.UNKNOWN, status, f"{sid} was {status} at once")
    return by_code(error, TWILIO_CODES)
