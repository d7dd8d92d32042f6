"""The commands of operations.md about poolers, failover and replicas, run as they are written."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from notifyctl.bootstrap import open_runtime
from tests.support.databases import KeptDatabase, PostgresServer
from tests.support.poolers import ABSENT, PROGRAM, wait_for_port
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.replicas import Server, account, free_port, primary_of, programs
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

pytestmark = [pytest.mark.usefixtures("exhaustive"), pytest.mark.parametrize("backend", ["postgresql"], indirect=True)]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def block(name: str, **instead: str) -> str:
    """With what stands for hosts, ports and paths of the reader's replaced."""
    found = re.search(rf"<!-- {name}: .*?-->\n```\w+\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, name
    text = found[1]
    for written, ours in instead.items():
        assert written in text, f"{name} has no {written}"
        text = text.replace(written, ours)
    return text


@pytest.fixture
def primary(postgres_server: PostgresServer, kept_database: KeptDatabase) -> Iterator[Server]:
    server = primary_of(postgres_server, kept_database)
    server.start()
    yield server
    server.close()


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A PATH of its own: PostgreSQL's programs, and notifyctl."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "notifyctl"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(NOTIFYCTL)} "$@"\n')
    command.chmod(0o755)
    return folder


def path(*folders: Path) -> str:
    return os.pathsep.join([*map(str, folders), str(programs()), os.environ["PATH"]])


def of_server(server: Server) -> dict[str, str]:
    return {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres"}


def test_the_poolers_example_works_with_passwords_all_the_way(
    primary: Server, processes: Processes, environment: Environment, tmp_path: Path
) -> None:
    if PROGRAM is None:
        pytest.skip(ABSENT)
    primary.trust_only("postgres")
    primary.execute("CREATE ROLE notifyctl LOGIN PASSWORD 'password'", "CREATE DATABASE notifyctl OWNER notifyctl")
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(f"host=127.0.0.1 port={primary.port} user=notifyctl dbname=notifyctl")
    port, users = str(free_port()), tmp_path / "userlist.txt"
    users.write_text(block("userlist"))
    written = {"db.example": "127.0.0.1", "5432": str(primary.port), "6432": port}
    config = tmp_path / "pgbouncer.ini"
    config.write_text(block("pgbouncer", **written, **{"/etc/pgbouncer/userlist.txt": str(users)}))
    user = ["-u", account() or ""] if os.geteuid() == 0 else []
    tmp_path.chmod(0o755)
    pooler = processes.start(PROGRAM, *user, config)
    urls = block("pooled", **{"db.example": f"127.0.0.1:{primary.port}", "6432": port})
    variables = environment(**dict(line.split("=", 1) for line in urls.split()))
    wait_for_port(int(port))
    for command in (("db", "upgrade"), ("templates", "seed")):
        ran = processes.run(*NOTIFYCTL, *command, env=variables)
        assert ran.returncode == 0, ran.stderr + processes.said_by(pooler)
    told = processes.run(*NOTIFYCTL, "doctor", env=variables).stdout
    assert re.search(r"^database +ok$", told, re.MULTILINE), told
    assert re.search(r"^listen url +ok$", told, re.MULTILINE), told


def test_the_drill_shows_what_it_says(
    primary: Server, processes: Processes, environment: Environment, bin_folder: Path
) -> None:
    runtime = open_runtime(make_settings(database_url=primary.url()))
    seed_templates(runtime)
    runtime.close()
    port = free_port()
    variables = environment(DATABASE_URL=primary.url()) | of_server(primary) | {"PATH": path(bin_folder)}
    processes.notifyctl("serve", "--port", str(port), env=variables)
    wait_for_port(port)
    ran = processes.run("bash", "-euo", "pipefail", "-c", block("drill", **{"8080": str(port)}), env=variables)
    assert ran.returncode == 0, ran.stderr
    assert "The database cannot be written: it is set read-only" in ran.stdout
    assert "nothing is accepted, sent or recorded" in " ".join(ran.stdout.split())
    assert ran.stdout.rstrip().endswith('{"status":"ready"}')


def test_a_replica_is_made_waited_for_and_promoted(
    primary: Server, processes: Processes, environment: Environment
) -> None:
    home = primary.beside("replica")
    data = home / "data"
    port = free_port()
    here = environment() | {"PATH": path()}
    on_primary, on_replica = here | of_server(primary), here | {"PGPORT": str(port)}

    def run(script: str, variables: dict[str, str]) -> str:
        """Not to a pipe: a server that is started here would keep it open."""
        ran = processes.start("bash", "-euo", "pipefail", "-c", script, env=variables, cwd=home, user=account())
        assert ran.wait(60) == 0, processes.said_by(ran)
        return processes.said_by(ran)

    made = block(
        "replica", **{"host=db1": f"host=127.0.0.1 port={primary.port}", "/var/lib/postgresql/data": str(data)}
    )
    try:
        run(made, on_replica)
        waited_for = block("synchronous", **{"-h db1": "-h 127.0.0.1"})
        deadline = monotonic() + 30
        while not re.search(r"db2 +\| streaming +\| sync", run(waited_for, on_primary)):
            assert monotonic() < deadline
        primary.kill()
        run(block("promote", **{"/var/lib/postgresql/data": str(data)}), on_replica)
        with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres", autocommit=True) as connection:
            connection.execute("CREATE TABLE written (here int)")
    finally:
        run(f"pg_ctl -D {data} -w -m immediate stop || true", on_replica)
        shutil.rmtree(home, ignore_errors=True)
