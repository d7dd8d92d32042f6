"""The API on a real server, asked over real HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import requests
from fastapi import FastAPI

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.http import api_keys
from notifyctl.http.connections import Bounds
from notifyctl.http.server import ApiServer, create_app, listen, url_of
from notifyctl.models.enums import Scope
from tests.support.settings import make_settings


@contextmanager
def shared_app(folder: Path) -> Iterator[FastAPI]:
    """One for many tests: each puts its own runtime into it."""
    first = open_runtime(make_settings(database_url=f"sqlite:///{folder / 'unused.db'}"))
    yield create_app(first)
    first.close()


@contextmanager
def serving(app: FastAPI, bounds: Bounds | None = None) -> Iterator[str]:
    """Its URL."""
    listener = listen("127.0.0.1", 0)
    server = ApiServer(app, listener, bounds=bounds)
    thread = Thread(target=server.run, name="api")
    thread.start()
    while not server.started:
        sleep(0.005)
    try:
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join()


@dataclass(frozen=True)
class Api:
    url: str
    runtime: Runtime
    session: requests.Session

    def key(self, *scopes: Scope, name: str = "backend", **more: Any) -> str:
        with self.runtime.database.transaction() as session:
            more.setdefault("expires_at", None)
            return api_keys.create(session, name, scopes, actor="test", now=self.runtime.clock(), **more)

    def ask(self, method: str, path: str, key: str | bytes | None = None, **more: Any) -> requests.Response:
        headers = more.pop("headers", {})
        if key is not None:
            headers["Authorization"] = b"Bearer " + (key if isinstance(key, bytes) else key.encode())
        return self.session.request(method, f"{self.url}{path}", headers=headers, timeout=30, **more)

    def get(self, path: str, key: str | None = None, **more: Any) -> requests.Response:
        return self.ask("GET", path, key, **more)

    def post(self, path: str, key: str | None = None, **more: Any) -> requests.Response:
        return self.ask("POST", path, key, **more)

    def put(self, path: str, key: str | None = None, **more: Any) -> requests.Response:
        return self.ask("PUT", path, key, **more)
