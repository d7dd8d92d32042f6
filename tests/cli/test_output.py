import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat
from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.text.durations import parse_duration, parse_moment
from tests.support.clocks import NOON

COLUMNS = ("name", "on", "at")
ROWS = [
    {"name": "Zoë | Co", "on": True, "at": datetime(2026, 3, 2, 12, 0, tzinfo=UTC), "hidden": 1},
    {"name": None, "on": False, "at": date(2026, 3, 2)},
]


def printed(capsys: pytest.CaptureFixture[str], form: OutputFormat, rows: object = None) -> str:
    output.rows(ROWS if rows is None else rows, form, columns=COLUMNS)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_json_is_an_array_of_the_chosen_columns_with_times_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, OutputFormat.JSON)
    assert json.loads(text) == [
        {"name": "Zoë | Co", "on": True, "at": "2026-03-02T12:00:00.000Z"},
        {"name": None, "on": False, "at": "2026-03-02"},
    ]
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


def test_no_rows_are_an_empty_array_and_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, OutputFormat.JSON, []) == "[]\n"
    assert printed(capsys, OutputFormat.JSONL, []) == ""
    assert printed(capsys, OutputFormat.CSV, []) == "name,on,at\n"


def test_json_lines_come_one_by_one_as_the_rows_do(capsys: pytest.CaptureFixture[str]) -> None:
    def endless() -> Iterator[dict[str, str]]:
        yield {"name": "first"}
        raise LookupError

    with pytest.raises(LookupError):
        output.rows(endless(), OutputFormat.JSONL, columns=("name",))
    assert capsys.readouterr().out == '{"name": "first"}\n'


@pytest.mark.parametrize(("form", "delimiter"), [(OutputFormat.CSV, ","), (OutputFormat.TSV, "\t")])
@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('=HYPERLINK("http://evil.example")', '\'=HYPERLINK("http://evil.example")'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\n=1", "'\n=1"),
        ("+491701234567", "+491701234567"),
        ("-12.5", "-12.5"),
        (-12.5, "-12.5"),
        ("a,b\tc\nd", "a,b\tc\nd"),
        (["=a", "b"], "'=a, b"),
        (None, ""),
    ],
)
def test_a_spreadsheet_never_computes_a_cell(
    capsys: pytest.CaptureFixture[str], form: OutputFormat, delimiter: str, value: object, cell: str
) -> None:
    output.rows([{"name": value}], form, columns=("name",))
    text = capsys.readouterr().out
    assert list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) == [
        ["name"],
        [cell] if cell else [],
    ] or (text == 'name\n""\n')


def test_a_table_in_a_pipe_is_plain_text_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.rows([{"name": "red \x1b[31m\nnext"}], OutputFormat.TABLE, columns=("name",))
    assert capsys.readouterr().out.splitlines() == ["name", "red  [31m next"]


def test_a_github_table_escapes_its_bars(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, OutputFormat.GITHUB)
    assert "Zoë \\| Co" in text
    assert text.splitlines()[1].startswith("|--")


def test_a_document_is_a_row_a_field_and_in_json_itself(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"plan": "PRO", "features": ["a", "b"]}, OutputFormat.CSV)
    assert capsys.readouterr().out == 'field,value\nplan,PRO\nfeatures,"a, b"\n'
    output.document({"plan": "PRO", "features": ["a", "b"]}, OutputFormat.JSON)
    assert json.loads(capsys.readouterr().out) == {"plan": "PRO", "features": ["a", "b"]}


def test_talk_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("done\x1b[2J")
    assert capsys.readouterr() == ("", "done [2J\n")


def test_without_a_terminal_there_is_no_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(output.track(iter([1, 2]), "Working", 2)) == [1, 2]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("2h", timedelta(hours=2)),
        ("1w", timedelta(days=7)),
        ("0m", timedelta(0)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "-2h", "2.5h", "٢h", "²h", "2y", "9" * 50 + "w", "100000d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"duration|longer"):
        parse_duration(text)


def test_assignments_keep_what_stands_behind_the_first_equals_sign() -> None:
    assert options.parse_assignments(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


@pytest.mark.parametrize("pairs", [["a"], ["=b"], ["a=1", "a=2"]])
def test_what_is_no_assignment_is_refused(pairs: list[str]) -> None:
    with pytest.raises(InvalidInput, match="--set"):
        options.parse_assignments(pairs)


def test_without_a_terminal_a_confirmation_asks_for_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(InvalidInput, match="--yes"):
        options.confirm("Erase it?", yes=False)
    options.confirm("Erase it?", yes=True)


def test_a_no_on_the_terminal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    with pytest.raises(NotifyctlError, match="nothing was changed"):
        options.confirm("Erase it?", yes=False)


@pytest.mark.parametrize(
    "text",
    ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "9999-12-31T23:59:59.999999-00:01"],
)
def test_a_time_that_no_calendar_has_in_utc_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a time"):
        parse_moment(text, NOON)


def test_a_time_is_given_in_utc() -> None:
    assert parse_moment("2026-03-01T12:00+02:00", NOON).isoformat() == "2026-03-01T10:00:00+00:00"
    assert parse_moment("2026-03-01", NOON).isoformat() == "2026-03-01T00:00:00+00:00"


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def hold(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return hold


class TestValuesFromFiles:
    @pytest.mark.parametrize(
        ("content", "value"),
        [(b"493027\n", "493027"), (b"493027\r\n", "493027"), (b"493027", "493027"), (b"a\nb\n\n", "a\nb\n"), (b"", "")],
    )
    def test_a_value_comes_without_the_line_break_at_its_end(self, content: bytes, value: str, tmp_path: Path) -> None:
        (tmp_path / "code").write_bytes(content)
        assert options.parse_assignments([f"code=@{tmp_path / 'code'}"]) == {"code": value}

    def test_a_value_comes_from_stdin(self, stdin: Callable[[bytes], None]) -> None:
        stdin("s3cret=ü\n".encode())
        assert options.parse_assignments(["a=1", "code=@-"]) == {"a": "1", "code": "s3cret=ü"}

    def test_a_doubled_at_sign_stands_for_itself(self) -> None:
        assert options.parse_assignments(["name=@@acme", "x=a@b"]) == {"name": "@acme", "x": "a@b"}

    @pytest.mark.parametrize(
        ("pairs", "content", "words"),
        [
            (["a=@-", "b=@-"], b"x", "--set b: stdin is read for a already; give one of them another way"),
            (["a=@-"], b"s3cret\xff", "--set a: - is not UTF-8"),
            (["a=@-"], b"s3cret" * 20_000, "--set a: - is longer than 65536 bytes"),
            (["a=@/nope"], b"", "--set a: /nope cannot be read: No such file or directory"),
            (["a=@/"], b"", "--set a: / cannot be read: Is a directory"),
            (["a=@"], b"", "--set a=@ names no file"),
            (["a=@x\0"], b"", "--set a: 'x\\\\x00' cannot be read"),
        ],
        ids=["stdin twice", "no text", "endless", "no file", "a directory", "nothing", "NUL"],
    )
    def test_what_is_no_value_is_refused_in_one_line_that_does_not_repeat_it(
        self, pairs: list[str], content: bytes, words: str, stdin: Callable[[bytes], None]
    ) -> None:
        stdin(content)
        with pytest.raises(InvalidInput, match=f"^{words}") as refusal:
            options.parse_assignments(pairs)
        assert "s3cret" not in str(refusal.value)

    def test_a_file_without_end_is_not_read_to_its_end(self) -> None:
        with pytest.raises(InvalidInput, match="--set a: /dev/zero is longer than 65536 bytes"):
            options.parse_assignments(["a=@/dev/zero"])
