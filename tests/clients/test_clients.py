import json
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from notifyctl.bootstrap import Runtime
from notifyctl.cli.clients import clients as commands
from notifyctl.clients import store as client_store
from notifyctl.clients.clients import ProvisioningChange, WrittenClients, set_clients
from notifyctl.clients.fields import ClientChange, ClientFields
from notifyctl.db.database import Database
from notifyctl.errors import InvalidInput
from notifyctl.models.audit import AuditLog
from notifyctl.models.client import Client
from notifyctl.models.enums import AuditAction, ProvisioningStatus
from tests.support.clocks import NOON
from tests.support.command_line import CommandLine

HEADER = "id,name,email,phone,plan,provisioning_status,subscription_status,sms_enabled,timezone,stripe_customer_id"
ANN = "ann,Ann,ann@ACME.example,+49 170 1234567,PRO,completed,Active,yes,Europe/Berlin,cus_ann"
BOB = "bob,Bob,bob@acme.example,,SOLO,PENDING,none,no,,"


def written(database: Database, *changes: ClientChange) -> WrittenClients:
    with database.transaction() as session:
        return set_clients(session, changes, actor="test", now=NOON)


def change(client_id: str, **values: Any) -> ClientChange:
    return ClientChange(client_id, values)


def client(database: Database, client_id: str) -> Client | None:
    with database.read() as session:
        return client_store.get(session, client_id)


def audits(database: Database) -> list[tuple[str, str | None, Any]]:
    with database.read() as session:
        rows = session.exec(select(AuditLog).where(AuditLog.action == AuditAction.CLIENT_UPDATED))
        return [(row.action.value, row.client_id, row.details) for row in rows]


def csv(tmp_path: Path, *lines: str, header: str = HEADER, end: str = "\n") -> str:
    path = tmp_path / "clients.csv"
    path.write_bytes(end.join([header, *lines, ""]).encode())
    return str(path)


def test_a_new_client_has_the_defaults_for_what_was_not_said(database: Database) -> None:
    assert written(database, change("ann", email="ann@acme.example")) == WrittenClients(created=1)
    found = client(database, "ann")
    assert found is not None
    assert (found.email, found.name, found.timezone, found.sms_enabled) == (
        "ann@acme.example",
        "",
        "UTC",
        False,
    )
    assert (found.provisioning_status, found.subscription_status) == ("PENDING", "none")
    assert found.created_at == found.updated_at == NOON


def test_a_change_leaves_what_it_does_not_name(database: Database) -> None:
    written(database, change("ann", name="Ann", plan="PRO", sms_enabled=True))
    assert written(database, change("ann", plan=None)).changed == 1
    found = client(database, "ann")
    assert found is not None
    assert (found.name, found.plan, found.sms_enabled) == ("Ann", None, True)


def test_changes_of_different_fields_are_written_together(database: Database) -> None:
    written(database, change("ann", name="Ann", plan="PRO"), change("bob", name="Bob", plan="PRO"))
    assert written(database, change("ann", name="Anna"), change("bob", plan="SOLO"), change("eve")) == WrittenClients(
        1, 2
    )
    with database.read() as session:
        found = client_store.get_many(session, ["ann", "bob", "eve", "nobody"])
    assert {key: (row.name, row.plan) for key, row in found.items()} == {
        "ann": ("Anna", "PRO"),
        "bob": ("Bob", "SOLO"),
        "eve": ("", None),
    }


def test_the_audit_names_the_fields_that_changed_and_never_their_values(database: Database) -> None:
    written(database, change("ann", name="Ann", email="ann@acme.example", plan=None))
    written(database, change("ann", name="Ann", email="new@acme.example", plan="PRO"))
    assert audits(database) == [
        ("CLIENT_UPDATED", "ann", {"created": True, "fields": ["email", "name"]}),
        ("CLIENT_UPDATED", "ann", {"created": False, "fields": ["email", "plan"]}),
    ]


def test_what_changes_nothing_is_not_written_and_not_audited(database: Database) -> None:
    written(database, change("ann", name="Ann"))
    with database.transaction() as session:
        again = set_clients(session, [change("ann", name="Ann")], actor="test", now=NOON.replace(hour=13))
    assert again == WrittenClients(unchanged=1)
    found = client(database, "ann")
    assert found is not None
    assert found.updated_at == NOON
    assert len(audits(database)) == 1


def test_provisioning_that_became_another_is_told_once(database: Database) -> None:
    first = written(database, change("ann", provisioning_status="IN_PROGRESS"), change("bob", name="Bob"))
    assert first.transitions == (ProvisioningChange("ann", None, ProvisioningStatus.IN_PROGRESS),)
    second = written(database, change("ann", provisioning_status="COMPLETED"))
    assert second.transitions == (
        ProvisioningChange("ann", ProvisioningStatus.IN_PROGRESS, ProvisioningStatus.COMPLETED),
    )
    assert written(database, change("ann", provisioning_status="COMPLETED", name="Ann")).transitions == ()


def test_a_stripe_customer_belongs_to_one_client(database: Database) -> None:
    written(database, change("ann", stripe_customer_id="cus_1"))
    with pytest.raises(InvalidInput, match="'cus_1' belongs to client 'ann'; clear it there"):
        written(database, change("bob", stripe_customer_id="cus_1"))
    assert client(database, "bob") is None
    assert written(database, change("ann", stripe_customer_id="cus_1")).unchanged == 1


def test_a_stripe_customer_taken_behind_our_back_is_refused_in_words(database: Database) -> None:
    written(database, change("ann", stripe_customer_id="cus_1"))
    row = {"id": "bob", "stripe_customer_id": "cus_1", "name": "", "timezone": "UTC", "locale": "en"}
    states = {"provisioning_status": "PENDING", "subscription_status": "none", "sms_enabled": False}
    with pytest.raises(InvalidInput, match="just given to another client"), database.transaction() as session:
        client_store.upsert(session, (), [row | states | {"created_at": NOON, "updated_at": NOON}])


@pytest.mark.parametrize(
    ("field", "text", "complaint"),
    [
        ("email", "nobody", "email: 'nobody' is not valid"),
        ("phone", "0170 1234567", "phone: '0170 1234567' has no country code"),
        ("plan", "GOLD", r"plan: 'GOLD' is not in the plan registry \(shipped\); known: PRO, SOLO"),
        ("provisioning_status", "DONE", "'DONE' is not one of PENDING, IN_PROGRESS, COMPLETED, FAILED"),
        ("subscription_status", "ok", "'ok' is not one of none, trialing"),
        ("sms_enabled", "maybe", "'maybe' is not one of true, yes, 1, false, no, 0"),
        ("timezone", "Mars/Olympus", "timezone: 'Mars/Olympus' is not a known time zone; write an IANA name"),
        ("timezone", "../../etc/passwd", "is not a known time zone"),
        ("timezone", "Europe", "is not a known time zone"),
        ("name", "a" * 201, "has 201 characters"),
        ("name", "Ann\r\nBcc: eve@evil.example", "line break"),
        ("stripe_customer_id", "cus 1", "space"),
    ],
)
def test_a_value_that_is_no_good_is_refused_by_name(runtime: Runtime, field: str, text: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        ClientFields(runtime.plans).change("ann", {field: text})


@pytest.mark.parametrize("client_id", ["", "  ", "a b", "a\nb", "a\0b", "x" * 201])
def test_an_id_is_one_word_that_the_database_can_keep(runtime: Runtime, client_id: str) -> None:
    with pytest.raises(InvalidInput, match="id: "):
        ClientFields(runtime.plans).change(client_id, {})


def test_set_creates_then_changes_and_show_tells_all(notifyctl: CommandLine) -> None:
    created = notifyctl(
        *(
            "clients",
            "set",
            "ann",
            "--name",
            "Ann",
            "--email",
            "ann@ACME.example",
            "--phone",
            "+49 170 1234567",
        ),
        *("--plan", "PRO", "--provisioning", "completed", "--subscription", "past_due", "--sms"),
        *("--timezone", "Europe/Berlin", "--stripe-customer", "cus_1"),
    )
    assert (created.code, created.out, created.err) == (0, "", "Client ann created.\n")
    assert notifyctl("clients", "set", "ann", "--no-sms", "--name", "").err == "Client ann changed.\n"
    assert notifyctl("clients", "set", "ann", "--no-sms").err == "Client ann unchanged.\n"
    shown = json.loads(notifyctl("clients", "show", "ann", "--format", "json").out)
    assert {key: shown[key] for key in ("name", "email", "phone", "sms_enabled", "subscription_active")} == {
        "name": "",
        "email": "ann@acme.example",
        "phone": "+491701234567",
        "sms_enabled": False,
        "subscription_active": True,
    }
    assert shown["plan_features"] == ["sms_reminders"]
    assert shown["erased_at"] is None


def test_show_says_whether_an_address_is_suppressed(notifyctl: CommandLine) -> None:
    notifyctl("clients", "set", "ann", "--email", "ann@acme.example", "--phone", "+491701234567")
    notifyctl("suppressions", "add", "EMAIL", "ann@acme.example", "--reason", "complaint")
    shown = json.loads(notifyctl("clients", "show", "ann", "-f", "json").out)
    assert (shown["email_suppressed"], shown["phone_suppressed"]) == ("COMPLAINT", None)


def test_a_client_that_is_not_there_is_exit_4(notifyctl: CommandLine) -> None:
    ran = notifyctl("clients", "show", "nobody")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("notifyctl: there is no client 'nobody'; ")


def test_a_plan_that_is_none_is_told_where_no_client_matches(notifyctl: CommandLine) -> None:
    ran = notifyctl("clients", "list", "--plan", "PR")
    assert (ran.code, ran.err) == (
        0,
        "No client matches: 'PR' is not in the plan registry; did you mean PRO?\n",
    )
    assert notifyctl("clients", "list", "--plan", "PRO").err == "No client matches.\n"


def test_the_list_filters_searches_and_pages(notifyctl: CommandLine, tmp_path: Path) -> None:
    notifyctl("clients", "import", csv(tmp_path, ANN, BOB, "c%1,Percy,,,PRO,,,,,"))

    def ids(*options: str) -> list[str]:
        lines = notifyctl("clients", "list", "-f", "jsonl", *options).out.splitlines()
        return [json.loads(line)["id"] for line in lines]

    assert ids() == ["ann", "bob", "c%1"]
    assert ids("--plan", "PRO") == ["ann", "c%1"]
    assert ids("--provisioning", "COMPLETED") == ["ann"]
    assert ids("--subscription", "none") == ["bob", "c%1"]
    assert ids("--search", "BOB@acme") == ["bob"]
    assert ids("--search", "%") == ["c%1"]
    first = notifyctl("clients", "list", "-f", "jsonl", "--limit", "2")
    assert first.err == "2 rows; there may be more: go on with --after bob\n"
    assert ids("--after", "bob") == ["c%1"]


def test_a_file_is_imported_once_and_again_changes_nothing(notifyctl: CommandLine, tmp_path: Path) -> None:
    file = csv(tmp_path, ANN, BOB)
    first = notifyctl("clients", "import", file, "-f", "json")
    assert json.loads(first.out) == {"created": 2, "changed": 0, "unchanged": 0}
    again = notifyctl("clients", "import", file, "-f", "json")
    assert json.loads(again.out) == {"created": 0, "changed": 0, "unchanged": 2}
    assert (first.code, again.code) == (0, 0)


def test_what_was_listed_as_csv_can_be_imported(notifyctl: CommandLine, tmp_path: Path) -> None:
    notifyctl("clients", "import", csv(tmp_path, ANN, BOB))
    path = tmp_path / "listed.csv"
    path.write_text(notifyctl("clients", "list", "--format", "csv").out)
    assert json.loads(notifyctl("clients", "import", str(path), "-f", "json").out)["unchanged"] == 2


def test_an_absent_column_leaves_and_an_empty_cell_clears(
    notifyctl: CommandLine, tmp_path: Path, database: Database
) -> None:
    notifyctl("clients", "import", csv(tmp_path, ANN))
    notifyctl("clients", "import", csv(tmp_path, ",ann,", header="timezone,id,email"))
    found = client(database, "ann")
    assert found is not None
    assert (found.timezone, found.email, found.name, found.plan) == ("UTC", None, "Ann", "PRO")


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfid,name\nann,Ann\n",
        b"id,name\r\nann,Ann\r\n",
        b"ID , Name\nann,Ann",
        b'"id","name"\n"ann","Ann"\n\n,\n',
    ],
    ids=["byte order mark", "CRLF", "header in capitals", "quotes and blank lines"],
)
def test_files_come_as_spreadsheets_write_them(
    notifyctl: CommandLine, tmp_path: Path, database: Database, data: bytes
) -> None:
    path = tmp_path / "clients.csv"
    path.write_bytes(data)
    assert notifyctl("clients", "import", str(path)).code == 0
    found = client(database, "ann")
    assert found is not None
    assert found.name == "Ann"


def test_a_file_can_come_from_stdin(
    notifyctl: CommandLine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO('id,name\nann,"Zoë, Ann"\n'.encode())))
    assert notifyctl("clients", "import", "-").code == 0
    found = client(database, "ann")
    assert found is not None
    assert found.name == "Zoë, Ann"


def test_one_bad_row_and_nothing_is_imported_and_every_fault_has_its_line(
    notifyctl: CommandLine, tmp_path: Path, database: Database
) -> None:
    notifyctl("clients", "set", "old", "--stripe-customer", "cus_old")
    file = csv(
        tmp_path,
        ANN,
        'eve,"Eve\nof two lines",eve@,12,PRO,PENDING,none,no,UTC,cus_eve',
        "ann,Ann again,,,,,,,,cus_ann",
        "bob,too,few",
        "dan,Dan,,,,,,,,cus_old",
    )
    ran = notifyctl("clients", "import", file)
    assert ran.code == 2
    assert ran.out == ""
    assert [line.split(" is not")[0].split(" has ")[0] for line in ran.err.splitlines()] == [
        f"{file} line 3, email: 'eve@'",
        f"{file} line 3, name: 'Eve\\nof two lines'",
        f"{file} line 3, phone: '12'",
        f"{file} line 5, id: 'ann' is in line 2 already; keep one of the two",
        f"{file} line 5, stripe_customer_id: 'cus_ann' is in line 2 already; keep one of the two",
        f"{file} line 6, it",
        f"{file} line 7, stripe_customer_id 'cus_old' belongs to client 'old'; clear it there first",
        f"notifyctl: {file}",
    ]
    assert client(database, "ann") is None


def test_of_many_faults_the_first_fifty_are_shown_and_the_rest_counted(notifyctl: CommandLine, tmp_path: Path) -> None:
    ran = notifyctl("clients", "import", csv(tmp_path, *("x,y" for _ in range(80)), header="id,email"))
    lines = ran.err.splitlines()
    assert lines[50:] == ["… and 109 more", lines[-1]]
    assert "has 159 faults; nothing was imported" in lines[-1]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty; its first line must be id,name"),
        (b"\n\n", "is empty"),
        (b"id,colour\n", "unknown column 'colour'; take it out, or name it as one of: id,name"),
        (
            b"id,phone_e164\n",
            "unknown column 'phone_e164'; did you mean phone? Take it out",
        ),
        (b"id|name\n", "unknown column 'id|name'; separate the columns by commas"),
        (b"id;colour\n", "unknown column 'colour'; take it out, or name it as one of: id,name"),
        (b"Table 1\nid,name\n", "unknown column 'table 1'; take it out"),
        (b"<html>" + b"x" * 9_000, "unknown column '<html>xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'…; "),
        (b"id,name,id\n", "has column 'id' twice"),
        (b"name\nAnn\n", "has no column 'id'"),
        (b"id,name\nann,Ann\nbob,B\xf6b\n", "is not UTF-8 in line 3"),
        ("id,name\nann,Ann\n".encode("utf-16"), "is UTF-16; save it as CSV UTF-8"),
        (b"PK\x03\x04\x14\0", "is a workbook (.xlsx, .ods) or another archive, and no text; save it as CSV UTF-8"),
        (b"\x1f\x8b\x08\0", "is compressed (.gz), and no text"),
        (b"id,name\nann,#N/A\n", "line 2, column 2 has '#N/A', an error of the spreadsheet's; mend its formula"),
        ("id,name\nann,#ÜBERLAUF!\n".encode(), "line 2, column 2 has '#ÜBERLAUF!', an error"),
        (b"id,phone\nann,4.91701E+11\n", "a spreadsheet has cut it short); give its column the format Text"),
        (b'id,name\nann,"Ann\n', "line 2, it is not CSV"),
        (b"id,name\nann,A\0nn\n", "line 2, name: 'A\\x00nn' has a line break or another character"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_place(
    notifyctl: CommandLine, tmp_path: Path, data: bytes, complaint: str
) -> None:
    path = tmp_path / "clients.csv"
    path.write_bytes(data)
    ran = notifyctl("clients", "import", str(path))
    assert ran.code == 2
    assert complaint in ran.err


def test_what_nobody_sees_in_a_file_is_no_part_of_it_but_within_a_name(
    notifyctl: CommandLine, tmp_path: Path, database: Database
) -> None:
    header, name = "\u200bid,name\u200e,email", "مى\u200cخواهم 👩\u200d💻"
    file = csv(tmp_path, f"\u202aann\u202c,\u200f{name}\u200b,\ufeffann@acme.example", header=header)
    assert notifyctl("clients", "import", file).code == 0
    found = client(database, "ann")
    assert found is not None
    assert (found.name, found.email) == (name, "ann@acme.example")


@pytest.mark.parametrize(("word", "meant"), [("WAHR", True), ("Y", True), ("FAUX", False), ("f", False)])
def test_consent_is_read_as_databases_and_spreadsheets_of_other_languages_write_it(
    word: str, meant: bool, notifyctl: CommandLine, tmp_path: Path, database: Database
) -> None:
    assert notifyctl("clients", "import", csv(tmp_path, "ann,yes", header="id,sms_enabled")).code == 0
    assert notifyctl("clients", "import", csv(tmp_path, f"ann,{word}", header="id,sms_enabled")).code == 0
    found = client(database, "ann")
    assert found is not None
    assert found.sms_enabled is meant


def test_a_dry_run_checks_and_changes_nothing(notifyctl: CommandLine, tmp_path: Path, database: Database) -> None:
    ran = notifyctl("clients", "import", csv(tmp_path, ANN, BOB), "--dry-run")
    assert (ran.code, ran.out) == (0, "")
    assert "2 clients" in ran.err
    assert client(database, "ann") is None


def test_an_import_of_several_chunks_counts_them_together(
    notifyctl: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "CHUNK", 2)
    lines = [f"c-{number},Client {number}" for number in range(5)]
    ran = notifyctl("clients", "import", csv(tmp_path, *lines, header="id,name"), "-f", "json")
    assert json.loads(ran.out)["created"] == 5
