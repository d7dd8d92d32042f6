"""Text from outside is UTF-8 whatever the locale, with or without a byte order mark; what is exported comes back."""

import ast
import codecs
import csv
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import notifyctl as package
from notifyctl.bootstrap import Runtime
from notifyctl.cli import output
from notifyctl.cli.options import OutputFormat
from notifyctl.clients.clients import set_clients
from notifyctl.clients.fields import ClientChange
from notifyctl.clients.plans import load_plans
from notifyctl.templates import files
from notifyctl.text import csv_import
from notifyctl.text.csv_import import as_written, neutral
from tests.support.clocks import NOON
from tests.support.command_line import CommandLine
from tests.support.processes import NOTIFYCTL, Environment, Processes

CALLS_THAT_READ_OR_WRITE = {"open": 3, "read_text": 0, "write_text": 1, "fdopen": 3}
"""And at which place they take an encoding."""


def parsed(text: str | bytes, **more: object) -> csv_import.CsvFile:
    data = text.encode() if isinstance(text, str) else text
    return csv_import.parse(data, "f.csv", known=("id", "name", "email"), required=("id",), **more)


def rows(text: str | bytes) -> list[tuple[str, ...]]:
    file = parsed(text)
    assert file.faults == []
    return [record.cells for record in file.records]


def test_nothing_in_the_package_reads_text_in_the_encoding_of_the_locale() -> None:
    found = []
    for path in Path(package.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if not any(f"{call}(" in source for call in CALLS_THAT_READ_OR_WRITE):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in CALLS_THAT_READ_OR_WRITE or "encoding" in [word.arg for word in node.keywords]:
                continue
            is_binary = any(isinstance(value, ast.Constant) and "b" in str(value.value) for value in node.args[1:2])
            is_of_files = name != "open" or isinstance(node.func, ast.Name)
            if is_of_files and not is_binary and ast.unparse(node.func) != "self.open":
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node)[:60]}")
    assert [call for call in found if "read_text(path)" not in call and "read_text(self" not in call] == []


class TestExcel:
    @pytest.mark.parametrize(
        "text",
        [
            "id,name,,\nann,Ann,,\n",
            "id,,name\nann,,Ann\n",
            "id,name\nann,Ann,,,\n",
            "id,name,,\nann,Ann\n",
            "sep=,\nid,name\nann,Ann\n",
            "sep=,\r\nid,name\r\nann,Ann\r\n",
            '"sep=,"\nid,name\nann,Ann\n',
            "SEP=;\nid;name\nann;Ann\n",
            "sep=,,,\nid,name,,\nann,Ann,,\n",
            "\ufeffsep=\t\nid\tname\nann\tAnn\n",
            "id;name\r\nann;Ann\r\n",
            "\n;;\nid;name;\nann;Ann;\n",
            "\ufeffid\tname\t\nann\tAnn\t\n",
            '"id";"name"\nann;Ann\n',
            "\ufeffid,name\r\nann,Ann\r\n , \r\n,\r\n",
            "id,name\rann,Ann\r",
            "id , NAME\nann,Ann\n",
        ],
    )
    def test_what_it_writes_is_read(self, text: str) -> None:
        assert rows(text) == [("ann", "Ann")]

    def test_a_column_without_a_name_but_with_content_is_named(self) -> None:
        (fault,) = parsed("sep=,\nid,name,\nann,Ann,\nbob,Bob,VIP\n").faults
        assert fault == csv_import.CsvFault(
            4, "column 3 has no name in the first line, but 'VIP' here; name it or empty it"
        )

    @pytest.mark.parametrize("text", ["id,name,email\nann,Ann\n", "id,name\nann,Ann,x\n"])
    def test_a_row_that_was_cut_or_has_too_much_is_a_fault(self, text: str) -> None:
        (fault,) = parsed(text).faults
        assert "cells, the header has" in fault.text

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ("id,name\nann,Ann\n".encode("utf-16"), "f.csv is UTF-16; save it as CSV UTF-8"),
            ("id,name\nann,Ann\n".encode("utf-16-le"), "f.csv is UTF-16; save it as CSV UTF-8"),
            ("id,name\nann,Größe\n".encode("latin-1"), "f.csv is not UTF-8 in line 2; save it as CSV UTF-8"),
        ],
    )
    def test_another_encoding_is_named(self, data: bytes, words: str) -> None:
        with pytest.raises(Exception, match=words):
            parsed(data)


HARD = ["=cmd", "+1", "-2+3", "@x", "'=cmd", "''=x", "'x", "it's", "-12.5", "+491701234567", "'+491", "＝1", "a\u2028b"]


@pytest.mark.parametrize("text", [*HARD, "\t=1", "'\r", "-", "=", "'"])
def test_the_apostrophe_of_an_export_is_taken_off_again_and_no_other(text: str) -> None:
    assert as_written(neutral(text)) == text
    assert not neutral(text).startswith(("=", "@", "＝", "\t"))


@pytest.mark.parametrize("form", [OutputFormat.CSV, OutputFormat.TSV])
def test_a_line_break_of_any_kind_stays_in_its_cell(capsys: pytest.CaptureFixture[str], form: OutputFormat) -> None:
    values = ["a\rb", "a\nb", "a\r\nb", "a\u2028b", 'a"b', "a,b\tc"]
    output.rows([{"id": str(n), "name": value} for n, value in enumerate(values)], form, columns=("id", "name"))
    text = capsys.readouterr().out
    delimiter = "," if form is OutputFormat.CSV else "\t"
    assert [row[1] for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)] == ["name", *values]


def test_json_holds_whatever_a_text_has(capsys: pytest.CaptureFixture[str]) -> None:
    found = [{"name": "a\u2028b\u0085c\x1cd"}]
    output.rows(found, OutputFormat.JSON, columns=("name",))
    assert json.loads(capsys.readouterr().out) == found


def test_clients_come_back_as_they_were(runtime: Runtime, notifyctl: CommandLine, tmp_path: Path) -> None:
    changes = [ClientChange(f"c{number}", {"name": name}) for number, name in enumerate(HARD[:-1])]
    changes.append(ClientChange("=1+1", {"name": 'x, "y"', "email": "ann@acme.example", "phone_e164": "+491701234567"}))
    with runtime.database.transaction() as session:
        set_clients(session, changes, actor="test", now=NOON)
    before = notifyctl("clients", "list", "--format", "csv").out
    (tmp_path / "f.csv").write_text(before, encoding="utf-8")
    again = notifyctl("clients", "import", str(tmp_path / "f.csv"), "--format", "json")
    assert json.loads(again.out) == {"created": 0, "changed": 0, "unchanged": len(changes)}
    assert notifyctl("clients", "list", "--format", "csv").out == before


def test_compliance_items_come_back_as_they_were(runtime: Runtime, notifyctl: CommandLine, tmp_path: Path) -> None:
    with runtime.database.transaction() as session:
        set_clients(session, [ClientChange("ann", {"name": "=Ann"})], actor="test", now=NOON)
    file = tmp_path / "items.csv"
    file.write_text("client_id,name,reference,expires_on,,\nann,'=Plate,'-1-1,2031-01-02,,\n", encoding="utf-8")
    assert notifyctl("compliance", "import", str(file)).code == 0
    listed = notifyctl("compliance", "list", "--format", "json")
    assert [(item["name"], item["reference"]) for item in json.loads(listed.out)] == [("=Plate", "-1-1")]
    file.write_text(notifyctl("compliance", "list", "--format", "csv").out, encoding="utf-8")
    again = notifyctl("compliance", "import", str(file), "--format", "json")
    assert json.loads(again.out)["unchanged"] == 1


class TestFiles:
    def test_a_plan_registry_of_any_editor_is_read(self, tmp_path: Path) -> None:
        text = '[plans.PRO]\r\nname = "Größe Pro"\r\n'
        (tmp_path / "plans.toml").write_bytes(codecs.BOM_UTF8 + text.encode())
        assert load_plans(tmp_path / "plans.toml").plans["PRO"].name == "Größe Pro"

    @pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
    def test_one_in_another_encoding_is_named(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / "plans.toml").write_bytes('[plans.PRO]\nname = "Größe"\n'.encode(encoding))
        with pytest.raises(Exception, match=r"^NOTIFICATION_PLAN_REGISTRY .*plans\.toml is .*; save it as UTF-8"):
            load_plans(tmp_path / "plans.toml")

    def test_templates_of_any_editor_are_the_same_templates(self, tmp_path: Path) -> None:
        shipped = files.templates_dir()
        for path in shipped.rglob("*"):
            if path.is_file():
                copy = tmp_path / path.relative_to(shipped)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", b"\r\n"))
        assert files.load(tmp_path) == files.load(shipped)

    def test_a_value_from_a_file_has_no_byte_order_mark(self, tmp_path: Path) -> None:
        from notifyctl.cli import options

        (tmp_path / "v").write_bytes(codecs.BOM_UTF8 + "Größe\r\n".encode())
        assert options.parse_assignments([f"a=@{tmp_path / 'v'}"]) == {"a": "Größe"}

    def test_an_audit_head_is_taken_from_a_file_of_any_editor(self) -> None:
        from notifyctl.audit.chain import parse_head

        assert str(parse_head(f"\ufeff12:{'A' * 64}\r\n")) == f"12:{'a' * 64}"


Run = Callable[..., subprocess.CompletedProcess[str]]


class TestLocale:
    @pytest.fixture(params=["C", "en_US.ISO-8859-1"])
    def run(
        self, request: pytest.FixtureRequest, processes: Processes, environment: Environment, locales: dict[str, str]
    ) -> Run:
        """A fresh interpreter, which is all that a locale means anything to; what it prints is read as UTF-8."""

        def run(*arguments: str, data: str = "", **more: str) -> subprocess.CompletedProcess[str]:
            variables = environment(LC_ALL=request.param, **locales, **more)
            return processes.run(*NOTIFYCTL, *arguments, env=variables, text_in=data, encoding="utf-8", fresh=True)

        return run

    @pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
    def test_names_on_the_command_line_in_files_and_of_files_are_utf_8(
        self, runtime: Runtime, run: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "größe.csv").write_text("id,name\nbob,Łódź\n", encoding="utf-8")
        assert run("clients", "set", "ann", "--name", "Größe").returncode == 0
        assert run("clients", "import", "größe.csv").returncode == 0
        exported = run("clients", "list", "--format", "csv").stdout
        assert "Łódź" in exported
        again = run("clients", "import", "-", "--format", "json", data=f"{exported}eve,Ève{',' * 20}\n")
        assert json.loads(again.stdout) == {"created": 1, "changed": 0, "unchanged": 2}
        found = json.loads(run("clients", "list", "--format", "json").stdout)
        assert {row["id"]: row["name"] for row in found} == {"ann": "Größe", "bob": "Łódź", "eve": "Ève"}

    def test_the_names_of_plans_are_those_of_the_file(self, runtime: Runtime, run: Run, tmp_path: Path) -> None:
        (tmp_path / "plans.toml").write_text('[plans."Größe"]\nname = "Größe Pro"\n', encoding="utf-8")
        registry = str(tmp_path / "plans.toml")
        assert run("clients", "set", "ann", "--plan", "Größe", NOTIFICATION_PLAN_REGISTRY=registry).returncode == 0

    @pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
    def test_bytes_that_are_not_utf_8_are_refused(self, runtime: Runtime, run: Run) -> None:
        ran = run("clients", "set", "ann", "--name", os.fsdecode(b"Gr\xf6\xdfe"))
        assert (ran.returncode, "is not UTF-8; write it in UTF-8" in ran.stderr) == (2, True)


def test_events_in_files_that_were_put_together_are_read() -> None:
    from notifyctl.billing.replay.event_files import FileEvent, read_events

    events = [json.dumps({"id": f"evt_{n}", "object": "event", "type": "x", "data": {}}).encode() for n in range(3)]
    for between in (b"\n", b"\r\n", b"\n\n"):
        joined = between.join(codecs.BOM_UTF8 + event for event in events)
        assert [one.raw for one in read_events(io.BytesIO(joined), "f") if isinstance(one, FileEvent)] == events
        indented = between.join(codecs.BOM_UTF8 + event.replace(b", ", b",\n ") for event in events)
        assert len([one for one in read_events(io.BytesIO(indented), "f") if isinstance(one, FileEvent)]) == 3
