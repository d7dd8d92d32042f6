"""Runtimes that a test opens with settings of its own."""

from collections.abc import Callable
from typing import Any

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.settings import Settings
from tests.support.databases import shared

MakeRuntime = Callable[..., Runtime]


def open_shared(settings: Settings, **more: Any) -> Runtime:
    """As open_runtime, on this test's database."""
    return open_runtime(settings, database=shared(settings.database_url), **more)
