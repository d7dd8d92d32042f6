"""Is it alive, and can it work? Asked by load balancers, without a key; tells nothing about the installation."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from time import monotonic
from typing import Literal
from weakref import WeakKeyDictionary

from fastapi import APIRouter
from pydantic import BaseModel

from notifyctl.bootstrap import Runtime
from notifyctl.db import failures, migrations
from notifyctl.db.database import Database
from notifyctl.errors import DatabaseError
from notifyctl.http.auth import RuntimeDep
from notifyctl.http.errors import ApiError, documented
from notifyctl.operations import store_state
from notifyctl.templates import store as template_store

router = APIRouter(tags=["probes"])
_own_threads = ThreadPoolExecutor(2, "readyz")
"""Those of the requests may all be waiting for the database."""
KEPT_SECONDS = 1.0


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"


@router.get("/healthz", operation_id="isAlive", responses=documented())
async def healthz() -> Alive:
    """The process lives. Asks nobody, not even the database."""
    return Alive()


@router.get("/readyz", operation_id="isReady", responses=documented())
async def readyz(runtime: RuntimeDep) -> Ready:
    """The database is there, migrated and can be written, and the templates are seeded. What was found is said again
    for a second.
    """
    missing = await asyncio.get_running_loop().run_in_executor(_own_threads, _findings.missing, runtime)
    if missing:
        raise ApiError(503, "not_ready", missing)
    return Ready()


class _Findings:
    """However many ask, the database is asked once a second."""

    def __init__(self) -> None:
        self._looking = Lock()
        self._found: WeakKeyDictionary[Database, tuple[float, str]] = WeakKeyDictionary()
        """When, and what is missing."""

    def missing(self, runtime: Runtime) -> str:
        with self._looking:
            found_at, missing = self._found.get(runtime.database, (-KEPT_SECONDS, ""))
            if monotonic() - found_at >= KEPT_SECONDS:
                missing = _missing(runtime)
                self._found[runtime.database] = monotonic(), missing
            return missing


_findings = _Findings()


def _missing(runtime: Runtime) -> str:
    """In a sentence; empty where nothing is."""
    try:
        if not migrations.schema_status(runtime.database).fits:
            return "The database is not migrated, or made for a later program."
        with runtime.database.read() as session:
            if obstacle := failures.obstacle(session):
                return f"The database cannot be written: {obstacle[0]}."
            if store_state.forgotten(session) is not None:
                return "The database has gone back in time: nothing is sent before it is recovered."
            if not template_store.are_seeded(session):
                return "No template is seeded."
    except DatabaseError as error:
        if isinstance(error.__cause__, Exception) and failures.finds_no_writer(error.__cause__):
            return "The database cannot be written: no server that may be is there."
        return "The database cannot be used."
    return ""
