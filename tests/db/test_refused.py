"""Whatever is wrong with the way to PostgreSQL is one line that names the setting, what is wrong and what to do."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from notifyctl.bootstrap import Runtime
from tests.support.command_line import CommandLine
from tests.support.databases import PostgresServer
from tests.support.poolers import Pooled
from tests.support.replicas import Server

pytestmark = [pytest.mark.usefixtures("exhaustive"), pytest.mark.parametrize("backend", ["postgresql"], indirect=True)]
ANY_WRITE = ("clients", "set", "c1", "--name", "One")
WORKER = ("worker", "--no-jobs")
PASSWORD = "hunter2"


class Ways:
    """Of this test's database, started when they are asked for."""

    def __init__(self, request: pytest.FixtureRequest, direct: str) -> None:
        self._request = request
        self.direct = direct
        self.name = make_url(direct).database

    def pooled(self, *lines: str, mode: str = "transaction") -> str:
        pooled: Pooled = self._request.getfixturevalue("pooled")
        return pooled(mode, *lines)

    def with_passwords(self) -> list[str]:
        folder: Path = self._request.getfixturevalue("tmp_path")
        (folder / "userlist.txt").write_text('"postgres" "right"\n')
        folder.chmod(0o755)
        (folder / "userlist.txt").chmod(0o644)
        return ["auth_type = scram-sha-256", f"auth_file = {folder / 'userlist.txt'}"]

    def with_encoding(self, encoding: str) -> str:
        server: PostgresServer = self._request.getfixturevalue("postgres_server")
        name = f"text_of_{encoding.lower()}"
        server.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        self._request.addfinalizer(lambda: server.execute(f"DROP DATABASE {name} WITH (FORCE)"))
        return another(self.direct, database=name)

    def replica(self) -> str:
        server: PostgresServer = self._request.getfixturevalue("postgres_server")
        url = make_url(server.uri)
        standby = Server(f"host={url.query['host']} user={url.username}", "-R")
        self._request.addfinalizer(standby.close)
        standby.start()
        return standby.url()


@pytest.fixture
def ways(request: pytest.FixtureRequest, database_url: str) -> Ways:
    return Ways(request, database_url)


def another(url: str, **parts: str) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


Asked = tuple[tuple[str, ...], Callable[[Ways], dict[str, str]], int, str]
CASES: dict[str, Asked] = {
    "an unknown parameter": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": f"{ways.direct}&sslmod=require"}, 2,
        "DATABASE_URL has an option that libpq does not know, sslmod; take it out, or mend its spelling",
    ),
    "three hosts and two ports": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": "postgresql:///n?host=h1,h2,h3&port=5432,5433"}, 2,
        "DATABASE_URL has 3 hosts and 2 ports; write as many ports as hosts, or one port for all",
    ),
    "nobody listens there": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": f"postgresql://postgres@127.0.0.1:9/{ways.name}"}, 5,
        r"database postgresql:\S+ cannot be used: .*refused.*; check DATABASE_URL and that the server is running",
    ),
    "a database that is not there": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": another(ways.direct, database="gone")}, 5,
        r'is not there: .*database "gone" does not exist; create it, or name another in DATABASE_URL',
    ),
    "a database of bytes, as a Debian without a locale makes it": (
        ("db", "upgrade"), lambda ways: {"DATABASE_URL": ways.with_encoding("SQL_ASCII")}, 5,
        r"database postgresql\S+ has the encoding SQL_ASCII, which cannot hold every mail; make one with"
        " `createdb --encoding UTF8 --locale C.UTF-8 --template template0`",
    ),
    "a database of another encoding": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": ways.with_encoding("LATIN1")}, 5,
        "has the encoding LATIN1, which cannot hold every mail; make one with `createdb --encoding UTF8",
    ),
    "a role that is not there": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": another(ways.direct, username="nobody")}, 5,
        r'refuses the login: .*role "nobody" does not exist; check user and password in DATABASE_URL',
    ),
    "a replica in the place of the primary": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": ways.replica()}, 5,
        r"is read-only: .*; make it writable; if it is a replica, name the primary in DATABASE_URL",
    ),
    "a pooler and a wrong password": (
        ANY_WRITE,
        lambda ways: {"DATABASE_URL": another(ways.pooled(*ways.with_passwords()), password=PASSWORD)}, 5,
        r"refuses the login: .*; check user and password in DATABASE_URL, .* auth_file of the pooler",
    ),
    "a pooler and no password": (
        ANY_WRITE,
        lambda ways: {"DATABASE_URL": ways.pooled(*ways.with_passwords())}, 5,
        r"refuses the login: .*; check user and password in DATABASE_URL, .* auth_file of the pooler",
    ),
    "a pooler that does not know the database": (
        ANY_WRITE,
        lambda ways: {
            "DATABASE_URL": another(ways.pooled(*ways.with_passwords()), password="right", database="gone")
        }, 5,
        r"is not there: .*no such database: gone; .* behind a pooler, see its \[databases\]",
    ),
    "a pooler that refuses a parameter": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": f"{ways.pooled()}?options=-c%20work_mem%3D8MB"}, 5,
        r"refuses a parameter of the URL: .*options; take it out of DATABASE_URL, or add it to"
        " ignore_startup_parameters of PgBouncer",
    ),
    "a pooler that is full": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": ways.pooled("max_client_conn = 0")}, 5,
        r"has no connection left: .*no more connections allowed.*; .*max_client_conn of the pooler",
    ),
    "a pooler in statement mode": (
        ANY_WRITE, lambda ways: {"DATABASE_URL": ways.pooled(mode="statement")}, 5,
        r"is behind a pooler in statement mode: .*; set its pool_mode to transaction or session",
    ),
    "a listen URL of SQLite": (
        WORKER, lambda ways: {"DATABASE_LISTEN_URL": "sqlite:////n.db"}, 2,
        "DATABASE_LISTEN_URL 'sqlite:////n.db' must be postgresql://user:password@host/name, of the same database as",
    ),
    "a listen URL of another database": (
        WORKER, lambda ways: {"DATABASE_LISTEN_URL": another(ways.direct, database="postgres")}, 2,
        r"DATABASE_LISTEN_URL is of another database than DATABASE_URL \(\S+\); name the server itself there",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_line_with_what_to_do(case: str, ways: Ways, notifyctl: CommandLine) -> None:
    command, make, code, words = CASES[case]
    ran = notifyctl(*command, **make(ways))
    # A worker has logged by then that it begins.
    lines = [line for line in ran.err.splitlines() if line.startswith("notifyctl:")]
    assert (ran.code, len(lines)) == (code, 1), ran.err
    assert re.search(words, lines[0]), lines[0]
    assert "Traceback" not in ran.err
    assert PASSWORD not in ran.err


def test_doctor_asks_the_listen_url(ways: Ways, runtime: Runtime, notifyctl: CommandLine) -> None:
    told = {
        url: next(
            line for line in notifyctl("doctor", DATABASE_LISTEN_URL=url).out.splitlines() if "listen url" in line
        )
        for url in (
            ways.direct,
            another(ways.direct, database="postgres"),
            ways.pooled(),
            f"postgresql://postgres@127.0.0.1:9/{ways.name}",
        )
    }
    sound, other, deaf, away = told.values()
    assert sound.split() == ["listen", "url", "ok"]
    assert "DATABASE_LISTEN_URL is of another database" in other
    assert "leads through a pooler in transaction mode" in deaf
    assert re.search(r":9/\S+ cannot be used: .*; check DATABASE_LISTEN_URL and that the server is running", away), away
