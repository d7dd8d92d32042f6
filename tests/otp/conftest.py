"""One-time codes on both databases, with a clock that can be turned ahead."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from notifyctl.bootstrap import Runtime
from tests.support.clocks import TurnableClock
from tests.support.runtimes import MakeRuntime, open_shared
from tests.support.settings import make_settings
from tests.support.templates import seed_templates


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def make_runtime(database_url: str, clock: TurnableClock) -> Iterator[MakeRuntime]:
    with ExitStack() as opened:

        def make(**settings: Any) -> Runtime:
            runtime = open_shared(make_settings(database_url=database_url, **settings), clock=clock)
            opened.callback(runtime.close)
            seed_templates(runtime)
            return runtime

        yield make


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> Runtime:
    return make_runtime()
