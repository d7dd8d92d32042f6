"""Sets faults and receipts over HTTP while the sandbox runs, and tells what it measured; and JSON in and out."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.errors import InvalidInput
from notifyctl.sandbox.faults.errors import APIS
from notifyctl.sandbox.faults.faults import Faults, faults_from_lines
from notifyctl.sandbox.receipts.settings import receipts_from
from notifyctl.sandbox.state import SandboxState

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Controls:
    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [
            Route("/meter.json", self._meter, methods=["GET"]),
            Route("/faults", self._get_faults, methods=["GET"]),
            Route("/faults", self._put_faults, methods=["PUT"]),
            Route("/faults", self._delete_faults, methods=["DELETE"]),
            Route("/receipts", self._get_receipts, methods=["GET"]),
            Route("/receipts", self._put_receipts, methods=["PUT"]),
            Route("/receipts", self._delete_receipts, methods=["DELETE"]),
        ]

    async def _meter(self, request: Request) -> Response:
        return json_answer(self._state.meter_json())

    async def _get_faults(self, request: Request) -> Response:
        rows = [
            {"fault": f"{api.lower()}:{fault}", "seed": schedule.faults.seed, "struck": schedule.struck[fault]}
            for api in APIS
            if (schedule := self._state.faults.schedule(api))
            for fault in schedule.faults.faults
        ]
        return json_answer({"faults": rows})

    async def _put_faults(self, request: Request) -> Response:
        """What is not named has no faults afterwards."""
        try:
            body = await json_object(request, ("faults", "seed"))
            lines, seed = body.get("faults"), body.get("seed")
            if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
                raise InvalidInput('faults: must be lines as --fault takes them, as {"faults": ["sms:hang=0.1"]}')
            if not isinstance(seed, int | None):
                raise InvalidInput("seed: must be a whole number")
            by_api = faults_from_lines(lines, seed)
        except InvalidInput as error:
            return invalid(error)
        for api in APIS:
            self._state.faults.set_faults(api, by_api.get(api, Faults(seed=0)))
        return await self._get_faults(request)

    async def _delete_faults(self, request: Request) -> Response:
        self._state.faults.clear_faults()
        return Response(status_code=204)

    async def _get_receipts(self, request: Request) -> Response:
        receipts = self._state.receipts.receipts
        shown = receipts.as_json() if receipts else None
        return json_answer({"receipts": shown, "counts": asdict(self._state.receipts.counts)})

    async def _put_receipts(self, request: Request) -> Response:
        try:
            self._state.receipts.set(receipts_from(await json_object(request)))
        except InvalidInput as error:
            return invalid(error)
        return await self._get_receipts(request)

    async def _delete_receipts(self, request: Request) -> Response:
        self._state.receipts.set(None)
        return Response(status_code=204)


def json_answer(payload: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """In ASCII: a message may hold half a surrogate pair, which UTF-8 cannot carry."""
    return Response(_encode(payload), status, headers, "application/json")


async def json_object(request: Request, allowed: Collection[str] = ()) -> dict[str, object]:
    """The body, which may have no other names than the `allowed` if there are any. Raises InvalidInput."""
    try:
        value = json.loads(await request.body())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    if allowed and (unknown := sorted(value.keys() - allowed)):
        raise InvalidInput(f"{', '.join(unknown)}: unknown; the fields are {', '.join(sorted(allowed))}")
    return value


def invalid(error: InvalidInput) -> Response:
    return json_answer({"error": "invalid", "message": str(error)}, 400)
