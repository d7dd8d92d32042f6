"""How long `notifyctl clients import` takes for 10,000 new clients with every column, as a whole process.

    python -m tests.benchmarks.client_import [--rounds 5]

A dry run beside it shows how much of that is checking.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic

from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.clients.csv_import import COLUMNS
from tests.benchmarks.harness import DATABASES, NAMES, ROOT, Figure, environment, fresh_store, main, measures, turns

CLIENTS = 10_000


def write(file: Path) -> None:
    rows = [
        f"c{n},Client {n},c{n}@client.example,+4915112{n:06},PRO,COMPLETED,active,yes,Europe/Berlin,de-AT,cus_{n}"
        for n in range(CLIENTS)
    ]
    file.write_text("\n".join([",".join(COLUMNS), *rows]), encoding="utf-8")


def seconds(runtime: Runtime, file: Path, *options: str) -> float:
    command = [sys.executable, "-m", "notifyctl", "clients", "import", str(file), *options]
    began = monotonic()
    subprocess.run(command, check=True, env=environment(runtime.settings), cwd=ROOT, capture_output=True)
    return monotonic() - began


def forget(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        for table in ("message_payload", "message_log", "client"):
            session.execute(text(f"DELETE FROM {table}"))


def imported(runtime: Runtime, file: Path) -> float:
    forget(runtime)
    taken = seconds(runtime, file)
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM client")).scalar_one() == CLIENTS
    return taken


@measures("S8")
def client_import(rounds: int) -> Iterator[Figure]:
    for kind in DATABASES:
        with fresh_store(kind) as runtime, tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clients.csv"
            write(file)
            runs = {
                "imported": partial(imported, runtime, file),
                "checked": partial(seconds, runtime, file, "--dry-run"),
            }
            found = turns(rounds, runs)
        what = f"{CLIENTS:,} clients imported from CSV, {NAMES[kind]}"
        beside = f"checked in {median(found['checked']):.1f} s"
        yield Figure("S8", what, median(found["imported"]), "s", at_most=3, beside=beside)


if __name__ == "__main__":
    main()
