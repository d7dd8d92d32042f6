"""Connections that are lost, with a word or without, and how long that takes to be seen."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Event
from time import monotonic

import pytest
from sqlalchemy import make_url, text

from notifyctl.db import bulk
from notifyctl.db.database import Database
from notifyctl.db.wakeup import Watcher
from notifyctl.errors import DatabaseError
from tests.support.doors import Door, FarMachine
from tests.support.processes import Processes

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
NOTICED_SECONDS = 25
"""A machine that vanishes is noticed after 11 to 14; the rest is for a busy machine."""


def socket_of(database_url: str) -> str:
    return f"{make_url(database_url).query['host']}/.s.PGSQL.5432"


@pytest.fixture
def door(database_url: str) -> Iterator[Door]:
    opened = Door(socket_of(database_url))
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def far(database_url: str, processes: Processes) -> Iterator[FarMachine]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a machine that vanishes is a network namespace, which takes root and the program ip")
    machine = FarMachine(processes, socket_of(database_url))
    try:
        why_not = machine.open()
        if why_not is not None:
            pytest.skip(f"no network namespace can be made here: {why_not}")
        yield machine
    finally:
        machine.close()


def by_way_of(database_url: str, host: str, port: int, options: str = "") -> str:
    url = make_url(database_url).set(host=host, port=port, query={})
    return f"{url.render_as_string(hide_password=False)}{options}"


@pytest.mark.parametrize("give_up", [Database.drop_connections, Database.close])
def test_what_is_in_use_while_all_connections_are_given_up_is_closed_with_its_transaction(
    database_url: str, give_up: Callable[[Database], None]
) -> None:
    database = Database(database_url)
    with database.read() as session:
        driver = session.connection().connection.driver_connection
        give_up(database)
        assert session.scalar(text("SELECT 1")) == 1
    assert driver is not None
    assert driver.closed
    database.close()


def test_a_connection_that_is_lost_at_its_begin_gives_up_the_others(database_url: str, door: Door) -> None:
    database = Database(by_way_of(database_url, "127.0.0.1", door.port))
    with database.read() as one, database.read() as other:
        assert [session.execute(text("SELECT 1")).scalar_one() for session in (one, other)] == [1, 1]
    door.close()
    with (
        pytest.raises(DatabaseError, match=r"cannot be used: .*closed.* check DATABASE_URL"),
        database.transaction() as session,
    ):
        session.execute(text("SELECT 1"))
    assert database.dropped == 1
    assert database.engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    again = Door(socket_of(database_url), ("127.0.0.1", door.port))
    again.open()
    with database.transaction() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1
    database.close()
    again.close()


def test_a_connection_that_is_lost_under_a_statement_of_the_drivers_gives_up_the_others(
    database_url: str, door: Door
) -> None:
    database = Database(by_way_of(database_url, "127.0.0.1", door.port))
    with database.read() as one, database.read() as other:
        assert [bulk.run(session, "SELECT 1", {}) for session in (one, other)] == [[(1,)], [(1,)]]
    with ExitStack() as transaction:
        session = transaction.enter_context(database.transaction())
        bulk.run(session, "SELECT 1", {})
        door.close()
        with pytest.raises(DatabaseError, match=r"cannot be used: .*closed.*"), transaction.pop_all():
            bulk.run(session, "SELECT 1", {})
    assert database.dropped == 1
    assert database.engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    database.close()


TIMERS = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


@pytest.mark.parametrize(
    ("options", "values"),
    [("", [5, 3, 3, 10_000]), ("?keepalives_idle=60&tcp_user_timeout=7000", [60, 3, 3, 7_000])],
    ids=["ours", "the URL's own"],
)
def test_a_silent_server_is_probed_as_often_as_is_written(
    database_url: str, door: Door, options: str, values: list[int]
) -> None:
    database = Database(by_way_of(database_url, "127.0.0.1", door.port, options))
    with database.read() as session:
        driver = session.connection().connection.driver_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as same:  # type: ignore[union-attr]
            found = [same.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in TIMERS]
            assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert found == values
    database.close()


@pytest.mark.timeout(120)
def test_a_machine_that_vanishes_is_noticed_by_who_waits_and_by_who_asks(database_url: str, far: FarMachine) -> None:
    database = Database(by_way_of(database_url, far.host, far.PORT))
    deadline = monotonic() + 30
    while True:
        try:
            watcher = Watcher(database)
            break
        except DatabaseError:
            assert monotonic() < deadline

    sessions = ExitStack()
    waiting, asking = (sessions.enter_context(database.read()) for _ in range(2))
    for session in (waiting, asking):
        session.execute(text("SELECT 1"))

    def wait_for_an_answer() -> None:
        with database.translated():
            waiting.execute(text("SELECT pg_sleep(100)"))

    def ask() -> None:
        assert has_vanished.wait(30)
        with database.translated():
            asking.execute(text("SELECT 1"))

    def listen() -> None:
        while not watcher.wait(60):
            pass

    def seconds(what: Callable[[], None]) -> float:
        with pytest.raises(DatabaseError):
            what()
        return monotonic() - vanished_at

    has_vanished = Event()
    with ThreadPoolExecutor(3) as pool:
        noticing = [pool.submit(seconds, what) for what in (wait_for_an_answer, ask, listen)]
        vanished_at = monotonic()
        far.vanish()
        has_vanished.set()
        noticed = [each.result() for each in noticing]
    print("a machine that vanished was noticed after", [round(each, 1) for each in noticed], "s")
    assert max(noticed) < NOTICED_SECONDS
    with suppress(DatabaseError):
        sessions.close()
    watcher.close()
    database.close()
