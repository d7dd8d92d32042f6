"""Decides which call meets which fault, and carries it out: the one place where an answer is refused or spoiled.

Everything is accepted but what goes to a magic recipient, and what the faults that are set strike. In a batch a code
stands in that message's own answer.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from starlette.requests import Request
from starlette.responses import Response

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel
from notifyctl.sandbox.connection import ClosedConnection, HalfAnswer, NoAnswer, pause
from notifyctl.sandbox.faults.errors import (
    APIS,
    INACTIVE,
    ApiRefusal,
    Refuse,
    all_inactive,
    by_code,
    by_magic,
    codes_of,
    too_many,
)
from notifyctl.sandbox.faults.faults import Fault, FaultKind, Faults
from notifyctl.sandbox.faults.magic import magic_of

_INACTIVE = Fault(FaultKind.ERROR, code=INACTIVE)
_ATTEMPTS_KEPT = 100_000
_GARBAGE = b"\x00<<< this is not JSON >>>"
_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr></body></html>"
_TITLES = {
    500: "500 Internal Server Error",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}

Take = Callable[[], Response]
"""Accepts what was sent, and answers. Raises ApiRefusal."""


@dataclass(frozen=True, slots=True)
class Injection:
    """What one call meets: a delay, then the fault if there is one."""

    fault: Fault | None
    seconds: float = 0.0


class FaultSchedule:
    """The faults of one API, and the dice that say which call they strike.

    Used by the server's thread alone; `struck` may be read by any.
    """

    def __init__(self, api: str, faults: Faults) -> None:
        self.faults = faults
        self._of_call = faults.of_call
        self._of_message = faults.of_message
        self._latencies = faults.latencies
        self._codes = {fault: codes_of(api, fault.code or 0) for fault in self._of_message}
        self.start_over()

    def start_over(self) -> None:
        """The next call is the first one again."""
        # Draws of their own, so that a batch with another number of items does not shift what the calls meet.
        self._call_dice = Random(self.faults.seed)  # noqa: S311  dice, no secret
        self._message_dice = Random(self.faults.seed + 1)  # noqa: S311  dice, no secret
        self.struck: Counter[Fault] = Counter()

    def of_call(self) -> Injection | None:
        dice = self._call_dice
        fault = self._drawn(self._of_call, dice)
        seconds = 0.0
        for latency in self._latencies:
            if latency.ms and self._drawn((latency,), dice):
                seconds += dice.uniform(*latency.ms) / 1000
        return Injection(fault, seconds) if fault or seconds else None

    def of_message(self) -> int | None:
        """The code that one message is refused with; None: it is not."""
        if not self._of_message:
            return None
        fault = self._drawn(self._of_message, self._message_dice)
        return self._message_dice.choice(self._codes[fault]) if fault else None

    def _drawn(self, faults: Sequence[Fault], dice: Random) -> Fault | None:
        """One draw for all, so that their rates are exact shares. What is used up leaves its place to the next."""
        if not faults:
            return None
        drawn, bound = dice.random(), 0.0
        for fault in faults:
            if fault.times is not None and self.struck[fault] >= fault.times:
                continue
            bound += fault.rate
            if drawn < bound:
                self.struck[fault] += 1
                return fault
        return None


class FaultInjector:
    """Asked by the server's thread; faults may be set from any."""

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}
        self._schedules: dict[str, FaultSchedule] = {}

    def clear(self) -> None:
        """Starts every count over; the faults stay set, and their dice start anew."""
        self._attempts = {}
        for schedule in list(self._schedules.values()):
            schedule.start_over()

    def set_faults(self, api: str, faults: Faults) -> None:
        """In the place of those that were set before. Raises InvalidInput for a code that the API does not have."""
        if api not in APIS:
            raise InvalidInput(f"{api} is no API of the sandbox; they are {', '.join(APIS)}")
        faults.check(api)
        if faults.faults:
            self._schedules[api] = FaultSchedule(api, faults)
        else:
            self._schedules.pop(api, None)

    def clear_faults(self) -> None:
        self._schedules.clear()

    def schedule(self, api: str) -> FaultSchedule | None:
        return self._schedules.get(api)

    async def answer(
        self, api: str, recipients: Sequence[str], request: Request, take: Take, refuse: Refuse
    ) -> Response:
        """What a call that may be taken is answered with. After a delay it is taken even if the client has gone."""
        injection = self._of_call(api, recipients)
        if injection is not None:
            await pause(request, injection.seconds)
            if injection.fault is not None:
                return _inject_fault(injection.fault, api, take, refuse)
        return _taken(take, refuse)

    def refusal(self, api: str, recipients: Sequence[str] = ()) -> ApiRefusal | None:
        """What one message is refused with; None: it is accepted.

        Postmark refuses one with 406 only when all its recipients are inactive.
        """
        inactive = inactive_among(recipients) if api == Channel.EMAIL else []
        if inactive and len(inactive) == len(recipients):
            return all_inactive(inactive)
        for recipient in recipients:
            fault = None if recipient in inactive else self._magic_fault(recipient, is_of_call=False)
            if fault is not None:
                return by_magic(api, int(fault.code or 0), recipient)
        schedule = self._schedules.get(api)
        code = schedule.of_message() if schedule else None
        return None if code is None else by_code(api, code, recipients)

    def _of_call(self, api: str, recipients: Sequence[str]) -> Injection | None:
        for recipient in recipients:
            fault = self._magic_fault(recipient, is_of_call=True)
            if fault is not None:
                return Injection(None, fault.ms[0] / 1000) if fault.ms else Injection(fault)
        schedule = self._schedules.get(api)
        return schedule.of_call() if schedule else None

    def _magic_fault(self, recipient: str, *, is_of_call: bool) -> Fault | None:
        """Counts the attempt where the fault strikes a number of them only."""
        magic = magic_of(recipient)
        fault = magic.fault if magic else None
        if fault is None or is_of_call is (fault.kind is FaultKind.ERROR):
            return None
        return fault if fault.times is None or self._next_attempt(recipient.lower()) <= fault.times else None

    def _next_attempt(self, recipient: str) -> int:
        attempt = self._attempts.get(recipient, 0) + 1
        self._attempts[recipient] = attempt
        if len(self._attempts) > _ATTEMPTS_KEPT:
            del self._attempts[next(iter(self._attempts))]
        return attempt


def inactive_among(recipients: Sequence[str]) -> list[str]:
    """Those that are inactive whenever they are tried."""
    return [recipient for recipient in recipients if (magic := magic_of(recipient)) and magic.fault == _INACTIVE]


def _taken(take: Take, refuse: Refuse) -> Response:
    try:
        return take()
    except ApiRefusal as refusal:
        return refuse(refusal)


def _inject_fault(fault: Fault, api: str, take: Take, refuse: Refuse) -> Response:
    match fault.kind:
        case FaultKind.HANG:
            return NoAnswer()
        case FaultKind.CUT_BEFORE:
            return ClosedConnection()
        case FaultKind.HTTP:
            return _proxy_error(fault)
        case FaultKind.TOO_MANY:
            return refuse(too_many(api, fault.retry_after))
    answer = _taken(take, refuse)
    match fault.kind:
        case FaultKind.ACCEPT_THEN_HANG:
            return NoAnswer()
        case FaultKind.ACCEPT_THEN_CUT:
            return ClosedConnection()
        case FaultKind.GARBAGE if answer.status_code < 400:
            return Response(_GARBAGE, answer.status_code, media_type="application/json")
        case FaultKind.TRUNCATED if answer.status_code < 400:
            return HalfAnswer(answer)
    return answer


def _proxy_error(fault: Fault) -> Response:
    status = fault.status or 502
    if fault.body == "empty":
        return Response(b"", status)
    return Response(_PAGE.format(_TITLES[status]), status, media_type="text/html")
