"""Who is asking: `Authorization: Bearer`, and nothing else. Looked up for each request: revoking is at once.

Whatever is wrong with a key, the answer is the same 401. The cause is in the log.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer as BearerModel
from fastapi.security.base import SecurityBase

from notifyctl.bootstrap import Runtime
from notifyctl.http import api_keys
from notifyctl.http.api_key_store import ApiKeyInfo, StoredApiKey
from notifyctl.http.api_keys import Refused
from notifyctl.http.errors import ApiError
from notifyctl.http.middleware import method_of, origin_of
from notifyctl.models.enums import Scope

SCHEME = b"bearer"

log = logging.getLogger("notifyctl.http")


async def _runtime(request: Request) -> Runtime:
    """Not in a thread, as FastAPI would run a plain function: those may all be busy, and a probe must not wait."""
    return cast(Runtime, request.app.state.runtime)


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


async def _raw_body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(_raw_body)]


@dataclass(frozen=True, slots=True)
class Caller:
    """The key that a request came with."""

    id: str
    name: str
    scopes: frozenset[Scope]

    @classmethod
    def of(cls, key: ApiKeyInfo) -> "Caller":
        return cls(key.id, key.name, frozenset(Scope(scope) for scope in key.scopes))

    @property
    def actor(self) -> str:
        """For the audit log."""
        return f"key:{self.name}"

    @property
    def is_admin(self) -> bool:
        return Scope.ADMIN in self.scopes

    def may(self, *scopes: Scope) -> bool:
        """Whether one of `scopes` is among its own; admin includes all."""
        return self.is_admin or not self.scopes.isdisjoint(scopes)


class _Bearer(SecurityBase):
    """The key that was presented, as bytes: what a header holds need not be text. None for none, or for several."""

    def __init__(self) -> None:
        self.model = BearerModel(description="A key from `notifyctl keys create`.")
        self.scheme_name = "apiKey"

    async def __call__(self, request: Request) -> bytes | None:
        return _presented(request)


def _presented(request: Request) -> bytes | None:
    values = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, key = values[0].strip().partition(b" ")
    return key.strip() or None if scheme.lower() == SCHEME else None


Presented = Annotated[bytes | None, Depends(_Bearer())]


@cache
def require(*scopes: Scope) -> Callable[..., Caller]:
    """For `Annotated[Caller, Depends(require(Scope.SEND))]`: any one of `scopes` is enough."""

    def authenticated(request: Request, _: Presented) -> Caller:
        return authenticate(request, *scopes)

    return authenticated


def authenticate(request: Request, *scopes: Scope) -> Caller:
    """Asks the database. Raises ApiError."""
    runtime, presented = cast(Runtime, request.app.state.runtime), _presented(request)
    key: StoredApiKey | Refused = NOTHING
    if presented is not None:
        with runtime.database.glance() as session:
            key = api_keys.recognise(session, presented, runtime.clock())
    return admit(request, key, *scopes)


NOTHING = Refused("none presented")


def admit(request: Request, key: StoredApiKey | Refused, *scopes: Scope) -> Caller:
    """Who is asking, if that is somebody who may. Raises ApiError."""
    if isinstance(key, Refused):
        raise _unauthorized(request, key)
    caller = Caller.of(key)
    request.state.caller = caller
    if not caller.may(*scopes):
        raise forbidden(request, caller, *scopes)
    return caller


def forbidden(request: Request, caller: Caller, *scopes: Scope) -> ApiError:
    """To raise where only the body tells which scope is needed."""
    log.warning("key lacks the scope", extra=_event(request) | {"key": caller.name, "needs": " or ".join(scopes)})
    needed = " or ".join(scopes)
    return ApiError(403, "forbidden", f"This needs a key with the scope {needed}.")


def _unauthorized(request: Request, refused: Refused) -> ApiError:
    event = _event(request) | {"cause": refused.cause}
    log.warning("key refused", extra=event | ({"key": refused.name} if refused.name else {}))
    return ApiError(401, "unauthorized", "A valid API key is needed.", {"WWW-Authenticate": 'Bearer realm="notifyctl"'})


def _event(request: Request) -> dict[str, object]:
    return {"method": method_of(request.scope), **origin_of(request.scope)}
