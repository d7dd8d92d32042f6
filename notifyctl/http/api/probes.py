"""Is it alive, and can it work? Asked by load balancers, without a key; tells nothing about the installation."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from notifyctl.bootstrap import Runtime
from notifyctl.db import migrations
from notifyctl.errors import DatabaseError
from notifyctl.http.auth import RuntimeDep
from notifyctl.http.errors import ApiError, documented
from notifyctl.templates import store as template_store

router = APIRouter(tags=["probes"])
_own_threads = ThreadPoolExecutor(2, "readyz")
"""Those of the requests may all be waiting for the database."""


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"


@router.get("/healthz", responses=documented())
async def healthz() -> Alive:
    """The process lives. Asks nobody, not even the database."""
    return Alive()


@router.get("/readyz", responses=documented())
async def readyz(runtime: RuntimeDep) -> Ready:
    """The database is there and migrated, and the templates are seeded."""
    return await asyncio.get_running_loop().run_in_executor(_own_threads, _ready, runtime)


def _ready(runtime: Runtime) -> Ready:
    try:
        if not migrations.schema_status(runtime.database).is_current:
            raise _not_ready("The database is not migrated.")
        with runtime.database.read() as session:
            if not template_store.everything(session):
                raise _not_ready("No template is seeded.")
    except DatabaseError as error:
        raise _not_ready("The database cannot be used.") from error
    return Ready()


def _not_ready(message: str) -> ApiError:
    return ApiError(503, "not_ready", message)
