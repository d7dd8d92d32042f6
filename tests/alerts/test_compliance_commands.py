"""`notifyctl compliance`: items brought in, listed, renewed, removed."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from notifyctl.alerts.compliance.reminders import Reminders
from notifyctl.bootstrap import Runtime
from notifyctl.clock import system_clock
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import message

HEAD = "client_id,name,reference,expires_on\n"
TODAY = system_clock().date()


def in_days(days: int) -> date:
    return TODAY + timedelta(days=days)


@pytest.fixture
def clock() -> object:
    """The command reads the real clock."""
    return system_clock


@pytest.fixture(autouse=True)
def _clients(runtime: Runtime) -> None:
    a_client(runtime, "acme", timezone="UTC")
    a_client(runtime, "borealis", timezone="UTC")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "items.csv"


def items(runtime: Runtime) -> list[tuple[str, str, str, str]]:
    statement = "SELECT client_id, reference, name, expires_on FROM compliance_item ORDER BY client_id, reference"
    with runtime.database.read() as session:
        return [(*row[:3], str(row[3])) for row in session.execute(text(statement))]


def test_a_file_is_imported_and_imported_again_changes_nothing(
    runtime: Runtime, notifyctl: CommandLine, file: Path
) -> None:
    file.write_text(
        HEAD + "acme,Food safety,FS 1,2027-04-13\nborealis,Licence,TL-20,2027-01-01\nacme,Fire,F-1,2028-02-29\n"
    )
    ran = notifyctl("compliance", "import", str(file), "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"created": 3, "changed": 0, "unchanged": 0, "reminders_withdrawn": 0}
    assert items(runtime) == [
        ("acme", "F-1", "Fire", "2028-02-29"),
        ("acme", "FS 1", "Food safety", "2027-04-13"),
        ("borealis", "TL-20", "Licence", "2027-01-01"),
    ]
    again = notifyctl("compliance", "import", str(file), "--format", "json")
    assert json.loads(again.out)["unchanged"] == 3
    file.write_text(HEAD + "acme,Fire inspection,F-1,2028-02-29\nacme,Food safety,FS 1,2027-04-14\n")
    assert json.loads(notifyctl("compliance", "import", str(file), "--format", "json").out)["changed"] == 2
    assert ("acme", "F-1", "Fire inspection", "2028-02-29") in items(runtime)
    with runtime.database.read() as session:
        rows = session.execute(text("SELECT actor, metadata FROM audit_log WHERE action = 'OPERATOR_ACTION'")).all()
    assert len(rows) == 2
    assert all(row.actor.startswith("cli") for row in rows)


def test_every_bad_line_is_named_and_nothing_is_imported(runtime: Runtime, notifyctl: CommandLine, file: Path) -> None:
    file.write_text(
        HEAD
        + "acme,Fine,F-1,2027-04-13\n"
        + "nobody,Licence,TL-1,2027-04-13\n"
        + "acme,,TL-2,13.04.2027\n"
        + "acme,Licence,TL-3,2027-02-30\n"
        + "acme,Licence\n"
        + "acme,Fine again,F-1,2027-04-13\n"
        + " ,Licence,TL-4,20270413\n"
        + '"ac me","two\nlines",,0000-00-00\n'
    )
    ran = notifyctl("compliance", "import", str(file))
    assert ran.code == 2
    told = [line.removeprefix(f"{file} ") for line in ran.err.splitlines()]
    assert told == [
        "line 3, client_id: there is no client 'nobody'; import it with `notifyctl clients import` first",
        "line 4, expires_on: '13.04.2027' is not a day; write it as 2026-04-13",
        "line 4, name: is empty; say what it is",
        "line 5, expires_on: '2027-02-30' is not a day; write it as 2026-04-13",
        "line 6, it has 2 cells, the header has 4; mend it",
        "line 7, reference: 'F-1' of client 'acme' is in line 2 already; keep one of the two",
        "line 8, client_id: is empty; every client needs one",
        "line 8, expires_on: '20270413' is not a day; write it as 2026-04-13",
        "line 9, client_id: 'ac me' has a space or line break in it; take it out",
        "line 9, expires_on: '0000-00-00' is not a day; write it as 2026-04-13",
        "line 9, name: 'two\\nlines' has a line break or another character that cannot be kept; take it out",
        "line 9, reference: is empty; say what it is",
        f"notifyctl: {file} has 12 faults; nothing was imported, mend them and import it again",
    ]
    assert items(runtime) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("client_id,name,reference\nacme,x,y\n", "has no column 'expires_on'"),
        ("client_id,name,reference,expires_on,color\n", "has an unknown column 'color'"),
        ("", "is empty; its first line must be client_id,name,reference,expires_on"),
    ],
)
def test_a_file_that_is_not_of_this_kind_is_refused(
    notifyctl: CommandLine, file: Path, content: str, words: str
) -> None:
    file.write_text(content)
    ran = notifyctl("compliance", "import", str(file))
    assert ran.code == 2
    assert words in ran.err


def test_a_dry_run_changes_nothing(runtime: Runtime, notifyctl: CommandLine, file: Path) -> None:
    file.write_text(HEAD + "acme,Fine,F-1,2027-04-13\n")
    ran = notifyctl("compliance", "import", str(file), "--dry-run")
    assert (ran.code, ran.out, ran.err) == (0, "", f"{file} is fine: 1 item. Nothing was changed.\n")
    assert items(runtime) == []


@pytest.fixture
def imported(notifyctl: CommandLine, file: Path) -> None:
    file.write_text(
        HEAD
        + f"acme,Licence,TL-20,{in_days(40)}\n"
        + f"acme,Fire,F-1,{in_days(-3)}\n"
        + f"borealis,Food safety,FS-1,{in_days(0)}\n"
        + f"borealis,=cmd(),X-1,{in_days(10)}\n"
    )
    assert notifyctl("compliance", "import", str(file)).code == 0


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize(
    ("flags", "references"),
    [
        ((), ["F-1", "FS-1", "X-1", "TL-20"]),
        (("--client", "acme"), ["F-1", "TL-20"]),
        (("--within", "10"), ["F-1", "FS-1", "X-1"]),
        (("--within", "9"), ["F-1", "FS-1"]),
        (("--expired",), ["F-1"]),
        (("--search", "food"), ["FS-1"]),
        (("--limit", "2"), ["F-1", "FS-1"]),
    ],
    ids=str,
)
def test_items_are_listed_by_their_day(notifyctl: CommandLine, flags: tuple[str, ...], references: list[str]) -> None:
    ran = notifyctl("compliance", "list", "--format", "json", *flags)
    assert ran.code == 0
    assert [row["reference"] for row in json.loads(ran.out)] == references


@pytest.mark.usefixtures("imported")
def test_every_form_has_the_days_left(notifyctl: CommandLine) -> None:
    row = json.loads(notifyctl("compliance", "list", "--format", "jsonl", "--client", "acme").out.splitlines()[0])
    assert row == {
        "client_id": "acme",
        "client_name": "Acme",
        "reference": "F-1",
        "name": "Fire",
        "expires_on": str(in_days(-3)),
        "days_left": -3,
        "reminded_at": None,
        "timezone": "UTC",
    }
    assert "borealis,Borealis,X-1,'=cmd()," in notifyctl("compliance", "list", "--format", "csv").out
    for form in ("table", "tsv", "github"):
        assert "FS-1" in notifyctl("compliance", "list", "--format", form).out


def test_what_is_not_read_of_a_listing_may_have_an_error_of_the_spreadsheet_s(
    runtime: Runtime, notifyctl: CommandLine, file: Path
) -> None:
    file.write_text(f"{HEAD.strip()},days_left\nacme,Fire,F-1,2028-02-29,#VALUE!\n")
    assert notifyctl("compliance", "import", str(file)).code == 0
    assert items(runtime) == [("acme", "F-1", "Fire", "2028-02-29")]
    file.write_text(f"{HEAD}acme,Fire,#REF!,2028-02-29\n")
    assert "column 3 has '#REF!', an error of the spreadsheet's" in notifyctl("compliance", "import", str(file)).err


@pytest.mark.usefixtures("imported")
def test_a_renewed_item_has_its_new_day(runtime: Runtime, notifyctl: CommandLine) -> None:
    ran = notifyctl("compliance", "renew", "acme", "F-1", "2030-01-31")
    assert (ran.code, ran.err) == (0, "F-1 of acme expires on 2030-01-31.\n")
    assert ("acme", "F-1", "Fire", "2030-01-31") in items(runtime)
    assert (
        notifyctl("compliance", "renew", "acme", "F-1", "2030-01-31").err
        == "F-1 of acme expires as before on 2030-01-31.\n"
    )


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("renew", "acme", "F-1", "31.1.2030"), 2, "'31.1.2030' is not a day; write it as 2026-04-13"),
        (("renew", "acme", "F-9", "2030-01-31"), 4, "client 'acme' has no item 'F-9'; `notifyctl compliance list"),
        (("renew", "nobody", "F-1", "2030-01-31"), 4, "client 'nobody' has no item 'F-1'"),
        (("remove", "acme", "F-9", "--yes"), 4, "client 'acme' has no item 'F-9'"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(notifyctl: CommandLine, arguments: tuple[str, ...], code: int, words: str) -> None:
    ran = notifyctl("compliance", *arguments)
    assert ran.code == code
    assert words in ran.err


@pytest.mark.usefixtures("imported")
def test_a_removed_item_is_gone(runtime: Runtime, notifyctl: CommandLine) -> None:
    assert notifyctl("compliance", "remove", "acme", "F-1", "--yes").code == 0
    assert [reference for _, reference, _, _ in items(runtime)] == ["TL-20", "FS-1", "X-1"]


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("how", ["renew", "import", "remove"])
def test_a_waiting_reminder_of_the_former_day_is_withdrawn(
    runtime: Runtime, notifyctl: CommandLine, file: Path, how: str
) -> None:
    Reminders(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        plans=runtime.plans,
        settings=runtime.settings,
        clock=runtime.clock,
    ).run()
    with runtime.database.read() as session:
        ids = session.execute(text("SELECT id FROM message_log WHERE rate_subject LIKE '%X-1%'")).scalars().all()
    assert len(ids) == 2
    if how == "renew":
        ran = notifyctl("compliance", "renew", "borealis", "X-1", "2030-01-31")
        assert ran.err == "X-1 of borealis expires on 2030-01-31. Withdrawn: 2 waiting reminders.\n"
    elif how == "remove":
        assert notifyctl("compliance", "remove", "borealis", "X-1", "--yes").err.endswith("2 waiting reminders.\n")
    else:
        file.write_text(HEAD + "borealis,=cmd(),X-1,2030-01-31\n")
        ran = notifyctl("compliance", "import", str(file), "--format", "json")
        assert json.loads(ran.out)["reminders_withdrawn"] == 2
    assert {message(runtime, str(found)).status.value for found in ids} == {"CANCELED"}
