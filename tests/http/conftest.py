from collections.abc import Iterator

import pytest
import requests
from fastapi import FastAPI

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.http.app import create_app
from notifyctl.models.access import Scope
from tests.support.api import Api, serving
from tests.support.settings import make_settings


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """One for all tests: each puts its own runtime into it."""
    first = open_runtime(make_settings(database_url=f"sqlite:///{tmp_path_factory.mktemp('app') / 'unused.db'}"))
    yield create_app(first)
    first.close()


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    """Ended before other modules run: a test that freezes time would stop its event loop for good."""
    with serving(app) as found:
        yield found


@pytest.fixture
def api(app: FastAPI, url: str, runtime: Runtime) -> Iterator[Api]:
    app.state.runtime = runtime
    with requests.Session() as session:
        yield Api(url, runtime, session)


@pytest.fixture
def admin(api: Api) -> str:
    return api.key(Scope.ADMIN, name="admin")


@pytest.fixture
def sender(api: Api) -> str:
    return api.key(Scope.SEND, name="sender")


@pytest.fixture
def keeper(api: Api) -> str:
    return api.key(Scope.CLIENTS, name="keeper")


@pytest.fixture
def reader(api: Api) -> str:
    return api.key(Scope.READ, name="reader")
