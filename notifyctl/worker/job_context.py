"""What a job is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Channel
from notifyctl.providers.base import Lookup


@dataclass(frozen=True)
class JobContext:
    """What a run is given. A job that takes long asks `stopping` between two steps."""

    runtime: Runtime
    worker: str
    now: datetime
    """When the run began."""
    stopping: Callable[[], bool]
    """Whether to leave off: the worker is on its way out, or another has taken the run over."""

    @cached_property
    def lookups(self) -> Mapping[Channel, Lookup]:
        """How to ask the providers; made when first used. Raises ProviderError where a key is not set."""
        from notifyctl.providers.registry import build_lookups

        settings = self.runtime.settings
        return build_lookups(settings, settings.channels)

    def close(self) -> None:
        for lookup in self.__dict__.get("lookups", {}).values():
            lookup.close()
