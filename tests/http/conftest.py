from collections.abc import Iterator

import pytest
import requests
from fastapi import FastAPI

from notifyctl.bootstrap import Runtime
from notifyctl.http.pages.sign_in import FailedSignIns
from notifyctl.models.enums import Scope
from tests.support.api import Api, serving, shared_app
from tests.support.page_browser import Browser


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    with shared_app(tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    """Ended before other modules run: a test that freezes time would stop its event loop for good."""
    with serving(app) as url:
        yield url


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


@pytest.fixture
def browser(api: Api, app: FastAPI) -> Browser:
    app.state.failed_sign_ins = FailedSignIns()
    return Browser(api)


@pytest.fixture
def signed_in(browser: Browser, admin: str) -> Browser:
    assert browser.sign_in(admin).status_code == 303
    return browser
