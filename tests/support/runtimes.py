"""Runtimes that a test makes with settings of its own."""

from collections.abc import Callable

from notifyctl.bootstrap import Runtime

MakeRuntime = Callable[..., Runtime]
