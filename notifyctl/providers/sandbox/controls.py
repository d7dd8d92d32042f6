"""Sets faults and receipts over HTTP while the sandbox runs, and tells what it measured."""

import json
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.errors import InvalidInput
from notifyctl.models.template import Channel
from notifyctl.providers.sandbox.faults import Faults, faults_from_json
from notifyctl.providers.sandbox.json_answer import answer
from notifyctl.providers.sandbox.receipts import receipts_from
from notifyctl.providers.sandbox.state import State

NO_FAULTS = Faults(seed=0)


class Controls:
    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [
            Route("/meter.json", self._meter, methods=["GET"]),
            Route("/faults", self._get_faults, methods=["GET"]),
            Route("/faults", self._put_all_faults, methods=["PUT"]),
            Route("/faults", self._delete_faults, methods=["DELETE"]),
            Route("/faults/{channel}", self._put_faults, methods=["PUT"]),
            Route("/faults/{channel}", self._delete_faults, methods=["DELETE"]),
            Route("/receipts", self._get_receipts, methods=["GET"]),
            Route("/receipts", self._put_receipts, methods=["PUT"]),
            Route("/receipts", self._delete_receipts, methods=["DELETE"]),
        ]

    async def _meter(self, request: Request) -> Response:
        return answer(self._state.meter_json())

    async def _get_faults(self, request: Request) -> Response:
        return answer({channel: self._faults_json(channel) for channel in Channel})

    def _faults_json(self, channel: Channel) -> dict[str, Any] | None:
        faults = self._state.outcomes.faults(channel)
        if faults is None:
            return None
        struck = self._state.outcomes.struck(channel)
        shown = faults.as_json()
        shown["faults"] = [
            {**fields, "struck": struck[fault]} for fault, fields in zip(faults.faults, shown["faults"], strict=True)
        ]
        return shown

    async def _put_all_faults(self, request: Request) -> Response:
        """A channel that is not named has no faults afterwards."""
        try:
            given = await json_object(request)
            strange = given.keys() - set(Channel)
            if strange:
                raise InvalidInput(f"{', '.join(sorted(strange))}: no channel; they are {', '.join(Channel)}")
            wanted = {channel: faults_from_json(given.get(channel) or {}) for channel in Channel}
            for channel, faults in wanted.items():
                faults.check(channel)
        except InvalidInput as error:
            return refusal(error)
        for channel, faults in wanted.items():
            self._state.outcomes.set_faults(channel, faults)
        return await self._get_faults(request)

    async def _put_faults(self, request: Request) -> Response:
        try:
            channel = _channel(request)
            self._state.outcomes.set_faults(channel, faults_from_json(await json_object(request)))
        except InvalidInput as error:
            return refusal(error)
        return await self._get_faults(request)

    async def _delete_faults(self, request: Request) -> Response:
        try:
            channels = [_channel(request)] if "channel" in request.path_params else list(Channel)
        except InvalidInput as error:
            return refusal(error)
        for channel in channels:
            self._state.outcomes.set_faults(channel, NO_FAULTS)
        return Response(status_code=204)

    async def _get_receipts(self, request: Request) -> Response:
        receipts = self._state.receipts.receipts
        shown = receipts.as_json() if receipts else None
        return answer({"receipts": shown, "counts": asdict(self._state.receipts.counts)})

    async def _put_receipts(self, request: Request) -> Response:
        try:
            self._state.receipts.set(receipts_from(await json_object(request)))
        except InvalidInput as error:
            return refusal(error)
        return await self._get_receipts(request)

    async def _delete_receipts(self, request: Request) -> Response:
        self._state.receipts.set(None)
        return Response(status_code=204)


def _channel(request: Request) -> Channel:
    name = request.path_params["channel"]
    if name.upper() not in Channel.__members__:
        raise InvalidInput(f"{name}: no channel; they are {', '.join(Channel)}")
    return Channel(name.upper())


async def json_object(request: Request) -> dict[str, Any]:
    """Raises InvalidInput."""
    try:
        value = json.loads(await request.body())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    return value


def refusal(error: InvalidInput) -> Response:
    return answer({"error": "invalid", "message": str(error)}, 400)
