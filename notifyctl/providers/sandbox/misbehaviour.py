"""Carries out what befalls a call: before the message is accepted, instead of it, or after."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from notifyctl.models.template import Channel
from notifyctl.providers.sandbox.connection import Cut, HalfAnswer, NoAnswer, pause
from notifyctl.providers.sandbox.drill import Strike
from notifyctl.providers.sandbox.failures import Failure, too_many
from notifyctl.providers.sandbox.faults import Fault, Kind

GARBAGE = b"\x00<<< this is not JSON >>>"
_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr></body></html>"
_TITLES = {
    500: "500 Internal Server Error",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}


async def befall(
    strike: Strike,
    channel: Channel,
    request: Request,
    take: Callable[[], Response],
    refuse: Callable[[Failure], Response],
) -> Response:
    """`take` accepts the message and answers. After a delay it does so even if the client has gone, as providers do."""
    await pause(request, strike.seconds)
    fault = strike.fault
    if fault is None:
        return take()
    match fault.kind:
        case Kind.HANG:
            return NoAnswer()
        case Kind.CUT_BEFORE:
            return Cut()
        case Kind.HTTP:
            return _something_in_between(fault)
        case Kind.TOO_MANY:
            return refuse(too_many(channel, fault.retry_after))
        case _:
            return _spoiled(fault.kind, take())


def _something_in_between(fault: Fault) -> Response:
    status = fault.status or 502
    if fault.body == "empty":
        return Response(b"", status)
    return Response(_PAGE.format(_TITLES[status]), status, media_type="text/html")


def _spoiled(kind: Kind, answer: Response) -> Response:
    match kind:
        case Kind.ACCEPT_THEN_HANG:
            return NoAnswer()
        case Kind.ACCEPT_THEN_CUT:
            return Cut()
        case Kind.GARBAGE if answer.status_code < 400:
            return Response(GARBAGE, answer.status_code, media_type="application/json")
        case Kind.TRUNCATED if answer.status_code < 400:
            return HalfAnswer(answer)
        case _:
            return answer
