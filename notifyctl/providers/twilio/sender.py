"""SMS through Twilio, with its SDK's asynchronous calls, over libcurl instead of asyncio."""

import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import quote

from twilio.rest import Client

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
from notifyctl.providers.twilio.client import TWILIO_ERRORS, AwaitedHttpClient, twilio_error
from notifyctl.providers.twilio.codes import TWILIO_CODES

_NOT_SENT = frozenset({"failed", "undelivered", "canceled"})
_SID = re.compile(r"(SM|MM)[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class _Call:
    message: OutboundMessage
    coroutine: Coroutine[Transfer, HttpAnswer, Any]
    started: float


class TwilioSender:
    """Up to `concurrency` messages at once in the caller's thread; bytes move in `submit` and `collect`."""

    provider = "twilio"

    def __init__(  # noqa: PLR0913
        self,
        account_sid: str,
        auth_token: str,
        api_url: str,
        messaging_service_sid: str | None,
        from_number: str | None,
        status_callback: str | None,
        concurrency: int = 100,
        timeout_seconds: float = TWILIO_TIMEOUT.total_seconds(),
        authorities: Authorities | None = None,
    ) -> None:
        self._transfers = Transfers(concurrency, timeout_seconds, authorities)
        http_client = AwaitedHttpClient(self._transfers, api_url)
        client = Client(account_sid, auth_token, http_client=http_client)  # type: ignore[no-untyped-call]
        self._messages = client.messages
        self._from = {"from_": from_number}
        if messaging_service_sid:
            self._from = {"messaging_service_sid": messaging_service_sid}
        self._status_callback = status_callback
        self._concurrency = concurrency
        self._calls: dict[Transfer, _Call] = {}
        self._unsendable: list[Answer] = []

    @property
    def free(self) -> int:
        return self._concurrency - self.in_flight

    @property
    def in_flight(self) -> int:
        return len(self._calls) + len(self._unsendable)

    def submit(self, messages: Sequence[OutboundMessage], *, send_by: float | None = None) -> None:
        if len(messages) > self.free:
            raise ValueError(f"{len(messages)} messages submitted, {self.free} are taken now")
        for message in messages:
            self._start(message, send_by)
        self._transfers.push()

    def _start(self, message: OutboundMessage, send_by: float | None) -> None:
        started = monotonic()
        coroutine = self._messages.create_async(
            to=message.recipient, body=message.text, **self._from, **self._callback(message)
        )
        try:
            transfer = coroutine.send(None)
        # The SDK stumbled over this one message before anything was sent; the others must go on.
        except Exception as error:  # noqa: BLE001  see above
            result = Rejected(FailureReason.CONTENT_REJECTED, "UNSENDABLE", type(error).__name__)
            self._unsendable.append(Answer(message.message_id, result, 0.0))
            return
        transfer.send_by = send_by
        self._calls[transfer] = _Call(message, coroutine, started)
        self._transfers.start(transfer)

    def _callback(self, message: OutboundMessage) -> dict[str, str]:
        if self._status_callback is None:
            return {}
        return {"status_callback": f"{self._status_callback}?message_id={quote(message.message_id, safe='')}"}

    def collect(self, timeout: float) -> list[Answer]:
        answers, self._unsendable = self._unsendable, []
        finished = self._transfers.wait(0.0 if answers else timeout)
        return answers + [self._answer(transfer, outcome) for transfer, outcome in finished]

    def _answer(self, transfer: Transfer, outcome: Outcome) -> Answer:
        call = self._calls.pop(transfer)
        result = _result(call.coroutine, outcome)
        self._transfers.give_back(transfer)
        return Answer(call.message.message_id, result, monotonic() - call.started)

    def close(self) -> None:
        """Gives up what is in flight: its messages may or may not have gone out."""
        self._calls.clear()
        self._transfers.close()


def _result(coroutine: Coroutine[Transfer, HttpAnswer, Any], outcome: Outcome) -> SendResult:
    if isinstance(outcome, TransferFailure):
        return (outcome.received and _proof(outcome.received)) or lost(outcome)
    try:
        coroutine.send(outcome)
    except StopIteration as returned:
        created = returned.value
        sid = provider_id(created.sid)
        if sid is None:
            return _refused(outcome)
        return _result_of_created(sid, created.status, created.error_code, created.error_message)
    # Whatever the SDK stumbles over in an answer, the message may have been accepted.
    except Exception:  # noqa: BLE001  see above
        return _proof(outcome) or _refused(outcome)
    raise AssertionError("the SDK asked for a second request")


def _proof(answer: HttpAnswer) -> SendResult | None:
    """A SID proves that it was accepted, whatever the status or another field beside it."""
    body = json_object(answer.body)
    sid = provider_id(body.get("sid"))
    if sid is None or not (answer.is_success or _SID.fullmatch(sid)) or twilio_error(answer):
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
