"""Time zones by name, the same on every host."""

from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})
"""`Factory` says that nobody has set one. The others are the zone of a host, and another one on the next."""


@cache
def names() -> frozenset[str]:
    """Those of the time zone database (package tzdata), and not what a host has beside it, such as `right/UTC`."""
    listed = files("tzdata").joinpath("zones").read_text(encoding="utf-8")
    return frozenset(listed.split()) - NO_ZONES


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """UTC for a name that is none, as of a client that was written by somebody else."""
    return ZoneInfo(name if name in names() else "UTC")


def meant(name: str) -> str | None:
    """The zone that is written like `name` but for capitals."""
    return next((zone for zone in names() if zone.lower() == name.lower()), None)
