"""What a route asks for to do its work."""

from typing import Annotated, cast

from fastapi import Depends, Request

from notifyctl.bootstrap import Runtime


def _runtime(request: Request) -> Runtime:
    return cast(Runtime, request.app.state.runtime)


RuntimeDep = Annotated[Runtime, Depends(_runtime)]
