import hashlib
import json
import re
import stat
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.doctor import store_checks as checks
from notifyctl.doctor.check import CheckContext, CheckResult, CheckStatus
from notifyctl.models.columns import new_message_id
from notifyctl.models.enums import AuditAction
from tests.support.audit_log import ask, insert_row, row_ids, seal, sealed_log, sql, verify, write_rows
from tests.support.command_line import CommandLine
from tests.support.processes import Processes

DOCS = Path(__file__).resolve().parents[2] / "docs"
LONG_AGO = "2020-01-01 00:00:00.000000"


def listed(notifyctl: CommandLine, *options: str) -> list[Any]:
    ran = notifyctl("audit", "list", "--format", "json", *options)
    assert ran.code == 0, ran.err
    found: list[Any] = json.loads(ran.out)
    return found


def test_rows_are_listed_newest_first_with_what_they_say(runtime: Runtime, notifyctl: CommandLine) -> None:
    message_id = new_message_id()
    write_rows(runtime, 1, message_id=message_id, actor="web1:312", details={"b": 1, "a": "größer"})
    seal(runtime)
    write_rows(runtime, 1, actor="later")
    later, earlier = listed(notifyctl, "--limit", "2")
    assert (later["actor"], later["sealed"]) == ("later", False)
    assert earlier.pop("created_at").endswith("Z")
    assert earlier == {
        "id": row_ids(runtime)[-2], "action": "NOTIFICATION_SENT", "actor": "web1:312", "client_id": "acme",
        "message_id": message_id, "sealed": True, "metadata": {"a": "größer", "b": 1},
    }  # fmt: skip


def test_an_action_is_taken_as_a_terminal_shows_it(runtime: Runtime, notifyctl: CommandLine) -> None:
    write_rows(runtime, 1, actor="web1:312")
    assert [row["action"] for row in listed(notifyctl, "--action", "sent")] == ["NOTIFICATION_SENT"]
    assert listed(notifyctl, "--action", "blocked") == []


def test_rows_can_be_picked(runtime: Runtime, notifyctl: CommandLine) -> None:
    now, message_id = runtime.clock(), new_message_id()
    write_rows(runtime, 1, actor="old", now=now - timedelta(days=2), client_id="bob")
    with runtime.database.transaction() as session:
        audit_log.write(session, AuditAction.PAUSED, actor="cli:ann", now=now, message_id=message_id)
    picked = {
        ("--action", "paused"): ["cli:ann"],
        ("--actor", "cli:ann"): ["cli:ann"],
        ("--client", "bob"): ["old"],
        ("--message", message_id.upper()): ["cli:ann"],
        ("--until", "1d"): ["old"],
        ("--since", "1h", "--actor", "old"): [],
        ("--since", "1h", "--action", "PAUSED", "--limit", "7"): ["cli:ann"],
    }
    for options, actors in picked.items():
        assert [row["actor"] for row in listed(notifyctl, *options)] == actors, options


def test_what_was_written_since_is_found_behind_seals_that_are_older(runtime: Runtime, notifyctl: CommandLine) -> None:
    sealed_log(runtime)
    sql(runtime, f"UPDATE audit_seal SET sealed_at = '{LONG_AGO}' WHERE id <= 2")
    rows_behind = sum(row.row_count for row in ask(runtime, "SELECT row_count FROM audit_seal WHERE id > 2"))
    assert len(listed(notifyctl, "--since", "1h")) == rows_behind


def test_a_phone_number_that_a_caller_put_into_a_key_is_masked(runtime: Runtime, notifyctl: CommandLine) -> None:
    number = "+4915112345678"
    details = {"idempotency_key": f"otp:{number}", "numbers": [number]}
    write_rows(runtime, 1, actor=f"shop {number}", details=details)
    for form in ("json", "jsonl", "csv", "tsv", "github", "table"):
        ran = notifyctl("audit", "list", "--limit", "1", "--format", form)
        assert "+49*********78" in ran.out
        assert "12345" not in ran.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--action", "NONE"), "--action 'NONE' is unknown; it is one of OTP_SEND_REQUESTED"),
        (("--message", "17"), "'17' is not a message id"),
        (("--since", "yesterday"), "'yesterday' is not a time"),
    ],
)
def test_a_bad_filter_is_refused(
    runtime: Runtime, notifyctl: CommandLine, options: tuple[str, ...], words: str
) -> None:
    ran = notifyctl("audit", "list", *options)
    assert (ran.code, words in ran.err) == (2, True)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_row_that_was_spoiled_is_listed_all_the_same(runtime: Runtime, notifyctl: CommandLine) -> None:
    write_rows(runtime, 1)
    spoil = "UPDATE audit_log SET action = 'NONE', actor = X'ff', metadata = '{', created_at = 'x' WHERE id = :id"
    sql(runtime, "PRAGMA ignore_check_constraints = ON", spoil, id=row_ids(runtime)[-1])
    (row,) = listed(notifyctl, "--limit", "1")
    assert (row["action"], row["metadata"]) == ("NONE", "{")
    for command in (("list",), ("list", "--format", "table"), ("export",)):
        assert notifyctl("audit", *command).code == 0


def test_verify_says_what_was_looked_at_and_prints_the_head(runtime: Runtime, notifyctl: CommandLine) -> None:
    sealed_log(runtime)
    write_rows(runtime, 2)
    head = verify(runtime).head
    ran = notifyctl("audit", "verify")
    assert (ran.code, ran.err) == (0, "")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in ran.out.splitlines())
    assert lines["verified"] == f"{len(row_ids(runtime)) - 2} rows in 4 seals"
    assert lines["head"] == str(head)
    assert re.fullmatch(r"2 rows, the oldest \d+ s old", lines["not sealed"])
    assert notifyctl("audit", "export", "--head").out == f"{head}\n"


def test_verify_for_programs(runtime: Runtime, notifyctl: CommandLine) -> None:
    sealed_log(runtime)
    head = str(verify(runtime).head)
    ran = notifyctl("audit", "verify", "--expect-head", head, "--format", "json")
    assert ran.code == 0
    assert json.loads(ran.out) == {
        "ok": True, "rows": len(row_ids(runtime)), "seals": 4, "head": head, "expected_head": head,
        "first_problem": None, "problems": [], "problem_count": 0,
        "unsealed": {"rows": 0, "oldest_at": None, "oldest_seconds": None, "status": "ok"},
        "removed": None, "dated_back": [],
    }  # fmt: skip
    row_id = row_ids(runtime)[-8]
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id IN (:id, :next)", id=row_id, next=row_id + 1)
    ran = notifyctl("audit", "verify", "--format", "json")
    found = json.loads(ran.out)
    assert (ran.code, found["ok"], found["problem_count"]) == (1, False, 2)
    assert found["problems"][0] == {
        "kind": "row_changed", "text": f"row {row_id}, in seal 3, was changed", "seal": 3, "row": row_id,
    }  # fmt: skip


def test_verify_exits_1_and_names_the_first_bad_row(runtime: Runtime, notifyctl: CommandLine) -> None:
    sealed_log(runtime)
    row_id = row_ids(runtime)[-8]
    sql(runtime, "DELETE FROM audit_log WHERE id IN (:id, :next)", id=row_id, next=row_id + 1)
    ran = notifyctl("audit", "verify")
    assert ran.code == 1
    assert ran.err == (f"notifyctl: the audit log does not verify: row {row_id}, in seal 3, was deleted, and 1 more\n")


def test_verify_compares_with_a_head_that_was_kept(runtime: Runtime, notifyctl: CommandLine) -> None:
    sealed_log(runtime)
    head = notifyctl("audit", "export", "--head").out.strip()
    write_rows(runtime)
    seal(runtime)
    ran = notifyctl("audit", "verify", "--expect-head", head)
    assert (ran.code, "seal 4 is in the chain" in ran.out) == (0, True)
    first_gone = ask(runtime, "SELECT first_audit_id FROM audit_seal WHERE id = 4")[0][0]
    sql(runtime, "DELETE FROM audit_seal WHERE id >= 4", "DELETE FROM audit_log WHERE id >= :id", id=first_gone)
    assert notifyctl("audit", "verify").code == 0
    ran = notifyctl("audit", "verify", "--expect-head", head)
    assert (ran.code, "its tail was cut" in ran.err) == (1, True)
    ran = notifyctl("audit", "verify", "--expect-head", "4")
    assert (ran.code, "'4' is no head: it is NUMBER:DIGEST" in ran.err) == (2, True)


def test_rows_that_should_have_been_sealed_are_a_warning(runtime: Runtime, notifyctl: CommandLine) -> None:
    seal(runtime)
    write_rows(runtime, 3, now=runtime.clock() - timedelta(minutes=6))
    ran = notifyctl("audit", "verify")
    assert (ran.code, "WARN: 3 rows, the oldest 6 min old; is `notifyctl worker` running?" in ran.out) == (0, True)
    found = json.loads(notifyctl("audit", "verify", "--format", "json").out)["unsealed"]
    assert (found["rows"], found["status"], 360 <= found["oldest_seconds"] < 420) == (3, "warn", True)


def test_doctor_warns_of_rows_that_should_have_been_sealed(runtime: Runtime) -> None:
    with closing(CheckContext(runtime.settings, Path(".env"))) as installation:
        assert checks.audit_seals(installation) == CheckResult()
        write_rows(runtime, 3, now=runtime.clock() - timedelta(hours=2, minutes=1))
        found = checks.audit_seals(installation)
        seal(runtime)
        assert checks.audit_seals(installation) == CheckResult()
    assert found.status is CheckStatus.WARN
    assert found.problem.startswith(f"{len(row_ids(runtime))} audit rows are not sealed, the oldest for 2 h:")


def test_doctor_names_the_transaction_that_holds_up_all_sealing(runtime: Runtime) -> None:
    if runtime.database.is_sqlite:
        pytest.skip("on SQLite nobody writes beside another")
    write_rows(runtime, 3)
    with closing(CheckContext(runtime.settings, Path(".env"))) as installation, runtime.database.transaction() as held:
        process = held.execute(text("SELECT pg_backend_pid()")).scalar_one()
        held.execute(text("LOCK TABLE audit_log IN ROW EXCLUSIVE MODE"))
        later = runtime.clock() + timedelta(minutes=6)
        installation.database.clock = lambda: later  # type: ignore[method-assign]
        found = checks.audit_seals(installation)
    assert f"database process {process} has been writing audit rows since" in found.problem
    assert found.remedy == "end that transaction: it holds up all sealing"


def test_the_job_seals_and_prints_the_head(runtime: Runtime, notifyctl: CommandLine) -> None:
    rows = len(row_ids(runtime))
    ran = notifyctl("jobs", "run", "audit_seal")
    assert (ran.code, ran.out) == (0, f"{rows} audit rows sealed; head {verify(runtime).head}\n")


def exported(notifyctl: CommandLine, *options: str) -> list[Any]:
    ran = notifyctl("audit", "export", *options)
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def test_an_export_has_every_row_and_each_seal_behind_its_rows(runtime: Runtime, notifyctl: CommandLine) -> None:
    sealed_log(runtime, seals=2, rows=3)
    write_rows(runtime, 1)
    lines = exported(notifyctl)
    first = ask(runtime, "SELECT row_count FROM audit_seal WHERE id = 1")[0].row_count
    kinds = ["start", *["row"] * first, "seal", *["row"] * 3, "seal", "row", "end"]
    assert [line["type"] for line in lines] == kinds
    assert [line["id"] for line in lines if line["type"] == "row"] == row_ids(runtime)
    head = str(verify(runtime).head)
    assert lines[-1] == {"type": "end", "rows": first + 3, "seals": 2, "unsealed": 1, "head": head}


def test_an_export_can_begin_later(runtime: Runtime, notifyctl: CommandLine) -> None:
    sealed_log(runtime)
    second = ask(runtime, "SELECT digest, last_audit_id FROM audit_seal WHERE id = 2")[0]
    sql(runtime, f"UPDATE audit_seal SET sealed_at = '{LONG_AGO}' WHERE id <= 2")
    lines = exported(notifyctl, "--since", "30d")
    assert [line["number"] for line in lines if line["type"] == "seal"] == [3, 4]
    assert lines[0]["after"] == {"number": 2, "digest": second.digest, "last_id": second.last_audit_id}
    assert lines[1]["id"] == second.last_audit_id + 1


def test_an_export_goes_into_a_new_file_that_only_its_owner_reads(
    runtime: Runtime, notifyctl: CommandLine, tmp_path: Path
) -> None:
    sealed_log(runtime, seals=1)
    file = tmp_path / "audit.jsonl"
    ran = notifyctl("audit", "export", "--output", str(file))
    assert (ran.code, ran.out) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text().splitlines()[-1])["type"] == "end"
    again = notifyctl("audit", "export", "--output", str(file))
    assert (again.code, "is there already; name a new file" in again.err) == (2, True)
    nowhere = notifyctl("audit", "export", "-o", str(tmp_path / "none" / "audit.jsonl"))
    assert (nowhere.code, "cannot be written: No such file or directory" in nowhere.err) == (2, True)


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What docs/audit.md gives to an auditor who has neither this program nor the database nor the key."""
    page = (DOCS / "audit.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    path = tmp_path_factory.mktemp("auditor") / "check.py"
    path.write_text(code, encoding="utf-8")
    return path


def audited(processes: Processes, script: Path, export: str, *heads: str) -> tuple[int, str]:
    ran = processes.run(sys.executable, "-I", script, *heads, text_in=export)
    return ran.returncode, (ran.stdout + ran.stderr).strip()


def test_an_auditor_can_check_an_export_with_the_script_of_the_docs(
    runtime: Runtime, processes: Processes, notifyctl: CommandLine, script: Path
) -> None:
    sealed_log(runtime)
    insert_row(runtime, row_ids(runtime)[-1] + 3)
    seal(runtime)
    if not runtime.database.is_sqlite:
        sql(runtime, "SELECT setval('audit_log_id_seq', (SELECT max(id) FROM audit_log))")
    write_rows(runtime, 2)
    export = notifyctl("audit", "export").out
    head = notifyctl("audit", "export", "--head").out.strip()
    count = len(row_ids(runtime)) - 2
    assert audited(processes, script, export) == (0, f"{count} rows in 5 seals fit; 2 rows are not sealed; head {head}")
    assert audited(processes, script, export, head)[0] == 0
    assert audited(processes, script, export, f"4:{'0' * 64}") == (1, "seal 4 is not that of the head that was given")
    assert audited(processes, script, export, f"9:{'0' * 64}") == (1, "seal 9 of the head that was given is not there")


def test_an_auditor_finds_what_was_changed_in_an_export(
    runtime: Runtime, processes: Processes, notifyctl: CommandLine, script: Path
) -> None:
    sealed_log(runtime)
    lines = notifyctl("audit", "export").out.splitlines()
    at = next(number for number, line in enumerate(lines) if '"actor":"worker"' in line)
    broken = {
        "an edit": [*lines[:at], lines[at].replace('"worker"', '"mallory"'), *lines[at + 1 :]],
        "a deletion": lines[:at] + lines[at + 1 :],
        "a swap": [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
    }
    for what, export in broken.items():
        assert audited(processes, script, "\n".join(export)) == (1, "seal 1 does not fit its rows"), what
    assert audited(processes, script, "\n".join(lines[:-1])) == (
        1,
        "the export is not whole: its last line is not of type end",
    )
    seals = [number for number, line in enumerate(lines) if line.startswith('{"type":"seal"')]
    without_one = lines[: seals[1]] + lines[seals[1] + 1 :]
    assert audited(processes, script, "\n".join(without_one)) == (1, "seal 3 does not go on from seal 1")


def test_the_bytes_of_the_documentation_are_those_that_are_hashed(runtime: Runtime, notifyctl: CommandLine) -> None:
    """Spelled out once more: they must never change, since old seals are verified by them."""
    write_rows(runtime, 1, details={"b": [1, 2.50, None], "a": "ö"})
    seal(runtime)
    row = [line for line in exported(notifyctl) if line["type"] == "row"][-1]
    values = (
        str(row["id"]), "NOTIFICATION_SENT", "worker", "acme", row["message_id"],
        '{"a":"\\u00f6","b":[1,2.5,null]}', row["created_at"],
    )  # fmt: skip
    packed = b"".join(b"\1" + len(value).to_bytes(4, "big") + value.encode() for value in values)
    hashed = hashlib.sha256(b"notifyctl audit row 1\n" + packed).digest()
    stored = ask(runtime, "SELECT row_hashes FROM audit_seal")[0].row_hashes
    assert bytes(stored)[-40:] == row["id"].to_bytes(8, "big") + hashed


def test_a_missing_value_is_not_an_empty_one(runtime: Runtime) -> None:
    write_rows(runtime, 1, client_id=None, details=None)
    seal(runtime)
    row_id = row_ids(runtime)[-1]
    sql(runtime, "UPDATE audit_log SET client_id = '' WHERE id = :id", id=row_id)
    assert verify(runtime).problems[0].row == row_id
