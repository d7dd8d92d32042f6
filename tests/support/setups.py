"""PostgreSQL as it is run: a server, a pooler before it, and two of them, one of which takes over in mid-run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep

from tests.support.databases import KeptDatabase, PostgresServer
from tests.support.replicas import WRITABLE, primary_of, standby_of

SET_UPS = ("direct", "pooled", "promoted")


@dataclass(frozen=True, slots=True)
class SetUp:
    """`url` is the DATABASE_URL of a test's programs. `strike` does in mid-run what this set-up is there to bear."""

    url: str
    strike: Callable[[], None] = lambda: None


@contextmanager
def promoted(server: PostgresServer, database: KeptDatabase) -> Iterator[SetUp]:
    """A primary and its synchronous standby. `strike` kills one as a loss of power would, and promotes the other."""
    primary = primary_of(server, database)
    try:
        primary.start()
        standby = standby_of(primary)
        try:
            standby.start()
            primary.set("synchronous_standby_names", "standby")
            deadline = monotonic() + 60
            while primary.synchronous() != ["standby"]:
                assert monotonic() < deadline
                sleep(0.05)

            def strike() -> None:
                primary.kill()
                standby.promote()

            hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
            yield SetUp(f"postgresql://postgres@/{KeptDatabase.NAME}?{hosts}&{WRITABLE}", strike)
        finally:
            standby.close()
    finally:
        primary.close()
