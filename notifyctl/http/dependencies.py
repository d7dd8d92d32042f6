"""What a route asks for to do its work."""

from typing import Annotated, cast

from fastapi import Depends, Request

from notifyctl.bootstrap import Runtime


async def _runtime(request: Request) -> Runtime:
    """Not in a thread, as FastAPI would run a plain function: those may all be busy, and a probe must not wait."""
    return cast(Runtime, request.app.state.runtime)


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


async def _raw_body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(_raw_body)]
