"""DATABASE_URL as libpq takes it: what is written reaches the driver, and what libpq would refuse is named at once."""

import socket

import pytest
from sqlalchemy import text

from notifyctl.db.database import Database
from notifyctl.setting_rules import database_url, listen_url

REACHES = {
    "postgresql://u:p%40w@h1:5432,h2:5433/n?target_session_attrs=read-write": {
        "host": "h1,h2", "port": "5432,5433", "user": "u", "password": "p@w", "target_session_attrs": "read-write",
    },
    "postgresql://h1:6432,h2/n": {"host": "h1,h2", "port": "6432,5432"},
    "postgresql://h1,h2/n": {"host": "h1,h2"},
    "postgresql://[::1]:5432,[fe80::1]:5433/n": {"host": "::1,fe80::1", "port": "5432,5433"},
    "postgresql:///n?host=h1:5432&host=h2:5433": {"host": "h1,h2", "port": "5432,5433"},
    "postgresql:///n?host=h1&host=h2": {"host": "h1,h2", "port": "5432,5432"},
    "postgresql:///n?host=h1,h2&port=5432,5433": {"host": "h1,h2", "port": "5432,5433"},
    "postgresql:///n?host=h1,h2": {"host": "h1,h2", "port": ","},
    "postgresql:///n?host=h1,h2&port=5433": {"host": "h1,h2", "port": "5433,5433"},
    "postgresql://u:p%40w@h1,h2/n?port=5433": {"host": "h1,h2", "port": "5433,5433", "user": "u", "password": "p@w"},
    "postgresql://h1,h2:5433/n": {"host": "h1,h2", "port": "5432,5433"},
    "postgresql:///n?host=/var/run/postgresql": {"host": "/var/run/postgresql"},
    "postgresql://h/n?sslmode=verify-full&sslrootcert=/etc/ca.pem&passfile=/etc/pass&connect_timeout=2": {
        "host": "h", "sslmode": "verify-full", "sslrootcert": "/etc/ca.pem", "passfile": "/etc/pass",
        "connect_timeout": "2",
    },
}  # fmt: skip


@pytest.mark.parametrize(("url", "arguments"), REACHES.items())
def test_what_libpq_takes_reaches_the_driver(url: str, arguments: dict[str, str]) -> None:
    database = Database(database_url(url))
    _, given = database.engine.dialect.create_connect_args(database.url)
    del given["context"]  # of the driver itself
    assert {name: str(value) for name, value in given.items()} == {"dbname": "n", **arguments}
    database.close()


REFUSED = {
    "postgresql://u:hunter2@h/n?sslmod=require": "has an option that libpq does not know, sslmod;",
    "postgresql:///n?host=h1,h2,h3&port=5432,5433": "has 3 hosts and 2 ports;",
    "postgresql://u:hunter2@h1,h2,h3/n?port=5432,5433": "has 3 hosts and 2 ports;",
    "postgresql://h/n?port=5432,5433": "has 1 host and 2 ports;",
    "postgresql:///n?host=h1:5432&host=h2&port=5433": "has ports both behind its hosts and in the option port;",
    "postgresql://u:hunter2@h1:5432,h2:0/n": "has a port that is no number from 1 to 65535;",
    "postgresql://u:hunter2@h1:5432,h2:x/n": "has a port that is no number from 1 to 65535;",
}


@pytest.mark.parametrize(("url", "words"), REFUSED.items())
def test_what_libpq_would_refuse_is_named_without_the_password(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        database_url(url)
    assert "hunter2" not in str(raised.value)


def test_a_listen_url_is_of_postgresql() -> None:
    with pytest.raises(ValueError, match="must be postgresql://"):
        listen_url("sqlite:////n.db")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_second_host_is_asked_where_nobody_listens_at_the_first(database: Database) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = database.url
        hosts = f"host=127.0.0.1,{server.query['host']}&port={unused.getsockname()[1]},5432"
        by_two = Database(database_url(f"postgresql://{server.username}@/{server.database}?{hosts}"))
        with by_two.read() as session:
            assert session.execute(text("SELECT 1")).scalar_one() == 1
    by_two.close()


def test_a_password_that_is_not_encoded_is_refused_rather_than_shown_as_the_host() -> None:
    with pytest.raises(ValueError, match=r"a password with / or @ in it has %2F or %40") as caught:
        database_url("postgresql://u:p@ss/w0rd@h/n")
    assert "w0rd" not in str(caught.value)
    assert database_url("postgresql://u:p%40ss%2Fw0rd@h/n") == "postgresql://u:p%40ss%2Fw0rd@h/n"
