"""One Chromium for all tests, on SQLite: what the databases answer is tested elsewhere."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import requests
from fastapi import FastAPI

from notifyctl.bootstrap import Runtime
from notifyctl.http.pages.sign_in import FailedSignIns
from notifyctl.models.enums import Scope
from tests.browser.chromium import Chromium, Tab, find
from tests.browser.signing_in import HOME, sign_in
from tests.support.api import Api, serving, shared_app
from tests.support.processes import watch

AXE = "axe-playwright-python"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    path = find()
    if path is None:
        pytest.fail("There is no Chromium; `apt-get install chromium`, or run `make test-browser`")
    profile = tmp_path_factory.mktemp("chromium") / "profile"
    profile.mkdir()
    with watch.known():
        browser = Chromium(path, profile)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    try:
        script = distribution(AXE).locate_file("axe_playwright_python/axe.min.js")
    except PackageNotFoundError:
        pytest.fail(f"{AXE} is not installed; run `make test-browser`")
    return Path(str(script)).read_text(encoding="utf-8")


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    with shared_app(tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture(scope="session")
def url(app: FastAPI) -> Iterator[str]:
    with serving(app) as url:
        yield url


@pytest.fixture
def api(app: FastAPI, url: str, runtime: Runtime) -> Iterator[Api]:
    app.state.runtime = runtime
    app.state.failed_sign_ins = FailedSignIns()
    with requests.Session() as session:
        yield Api(url, runtime, session)


@pytest.fixture
def key(api: Api) -> str:
    return api.key(Scope.ADMIN, name="operations")


@pytest.fixture
def tab(chromium: Chromium) -> Iterator[Tab]:
    """Whatever a test does, the browser has nothing to complain about, as a breach of the policy would be."""
    with chromium.tab() as tab:
        yield tab
        assert [words for words in tab.heard() if "Failed to load resource" not in words] == []


@pytest.fixture
def signed_in(tab: Tab, api: Api, key: str) -> Tab:
    sign_in(tab, f"{api.url}{HOME}", key)
    return tab
