"""The documentation says what the code does: nothing missing, nothing stale, nothing that leads nowhere."""

import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import notifyctl
from docs import generate
from notifyctl.cli.main import whole_tree
from notifyctl.errors import ExitCode
from notifyctl.models.enums import Audience, BlockReason, Channel, FailureReason, Lane, MessageStatus, OnDoubt
from notifyctl.models.template import Template
from notifyctl.orchestrator import gates
from notifyctl.providers.codes_page import POSTMARK_CODES, TWILIO_CODES
from notifyctl.settings import Settings
from tests.support.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = dict(generate.commands())


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def leaves(command: object, path: str = "notifyctl") -> Iterator[tuple[str, object]]:
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from leaves(child, f"{path} {name}")
    if not children or getattr(command, "invoke_without_command", False):
        yield path, command


LEAVES = dict(leaves(whole_tree()))


def test_a_generated_page_is_what_the_code_says() -> None:
    for page, make in generate.PAGES.items():
        assert text(page) == make(), f"{page} is stale; run `make docs`"


def test_the_pages_do_not_depend_on_the_terminal_that_they_are_made_on(processes: Processes) -> None:
    narrow = os.environ | {"COLUMNS": "40", "FORCE_COLOR": "1", "TERM": "xterm-256color", "LANG": "C"}
    made = processes.run(sys.executable, "docs/generate.py", "--check", cwd=ROOT, env=narrow, fresh=True)
    assert (made.returncode, made.stderr) == (0, f"All {len(generate.PAGES)} generated pages are up to date.\n")


def test_a_stale_page_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(generate.PAGES, "docs/cli.md", lambda: "another page\n")
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        generate.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "docs/cli.md is stale; run `make docs`\n"


def test_a_command_says_what_it_does_and_stands_in_the_reference() -> None:
    reference = text("docs/cli.md")
    for path, help_text in COMMANDS.items():
        assert f"\n## {path}\n" in reference
        assert re.match(r" {2}\S.*\.$", help_text.split("\n\n")[1], re.DOTALL), f"{path} has no sentence of help"


def test_a_setting_has_its_row_with_a_meaning() -> None:
    rows = text("docs/NOTIFICATION_ENV_VARS.md").splitlines()
    for name in (name.upper() for name in Settings.model_fields):
        row = next((line for line in rows if line.startswith(f"| `{name}` |")), "")
        assert row, f"{name} has no row"
        _, kind, _, meaning, read_at = (cell.strip() for cell in row.strip("|").split(" | "))
        assert kind, name
        assert meaning.endswith("."), name
        places = [] if read_at == "reserved" else read_at.split(", ")
        assert all(re.fullmatch(r"notifyctl/[\w/]+\.py:\d+", place) for place in places), name


def test_every_row_that_is_promised_is_there() -> None:
    words = [rf"( \d+ \|)? {word} \| \w.*[.?]" for word in (*MessageStatus, *BlockReason, *FailureReason)]
    exit_codes = [rf" {int(code)} \|" for code in ExitCode]
    promised = {
        "docs/statuses.md": words,
        "docs/cli.md": exit_codes,
        "docs/operations.md": exit_codes,
        "docs/provider-codes.md": [rf" {code} \|" for code in (*POSTMARK_CODES, *TWILIO_CODES)],
    }
    for page, rows in promised.items():
        for row in rows:
            assert re.search(rf"^\|{row}", text(page), re.MULTILINE), f"{page} has no row {row}"


@pytest.mark.parametrize(
    ("gate", "closed"),
    [
        (BlockReason.TEMPLATE_DISABLED, {"enabled": False}),
        (BlockReason.BILLING_ONLY_FROM_STRIPE, {"billing": True}),
        (BlockReason.CLIENT_UNKNOWN, {"client_id": "gone"}),
        (BlockReason.CONTEXT_INVALID, {"context_faults": ("x is missing",)}),
        (BlockReason.RECIPIENT_MISSING, {"recipient": None}),
        (BlockReason.RECIPIENT_INVALID, {"recipient_fault": "no address"}),
        (BlockReason.SUPPRESSED, {"suppressed": "MANUAL"}),
        (BlockReason.SMS_DISABLED, {"channel": Channel.SMS, "sms_enabled": False}),
        (BlockReason.RATE_LIMITED, {"rate_limit_window_seconds": 60, "sends_in_window": 1}),
    ],
)
def test_the_table_of_the_gates_is_right_about_what_is_asked_again(
    gate: BlockReason, closed: dict[str, object]
) -> None:
    facts = some_facts(closed)
    assert gates.first_refusal(gates.ask_all(facts)).gate is gate
    again = gates.asked_again(facts)
    assert (again is not None and again.gate is gate) == (gate in generate.ASKED_AGAIN)


def some_facts(closed: dict[str, object]) -> gates.Facts:
    flags = {
        "template_key": "T", "channel": Channel.EMAIL, "audience": Audience.CLIENT, "lane": Lane.BULK,
        "billing": False, "requires_provisioned": False, "requires_active_subscription": False,
        "plan_required_feature_key": None, "rate_limit_window_seconds": None, "rate_limit_max_sends": 1,
        "rate_limit_by": (), "sensitive": False, "expires_after_seconds": None, "on_doubt": OnDoubt.HOLD,
        "audit_sent": None, "enabled": True, "description": "", "version": 1, "variables": {},
    }  # fmt: skip
    found = {
        "client_id": None, "client": None, "sms_enabled": True, "plan_has_feature": False, "suppressed": None,
        "recipient": "ops@acme.example", "from_stripe": False,
    }  # fmt: skip
    for name, value in closed.items():
        (flags if name in flags else found)[name] = value
    return gates.Facts(template=Template(**flags), **found)


PATH = re.compile(
    r"`((?:notifyctl|tests|docs|templates|migrations|\.ci|\.github)/[\w./-]*)`|<!-- \w+: (\S+) runs this block"
)
A_NEW_ONE = "NAME"
"""Stands in a path for what is still to be made."""


def test_every_path_between_backticks_is_there() -> None:
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    paths = [(page.name, found[1] or found[2]) for page in pages for found in PATH.finditer(page.read_text("utf-8"))]
    assert len(paths) > 30
    assert [(page, path) for page, path in paths if A_NEW_ONE not in path and not (ROOT / path).exists()] == []


def test_every_room_of_the_import_contract_has_its_sentence() -> None:
    project = tomllib.loads(text("pyproject.toml"))
    rooms = re.findall(r"\w+", " ".join(project["tool"]["importlinter"]["contracts"][0]["layers"]))
    rows = dict(
        re.findall(r"^\| `notifyctl/([\w/]+)(?:/|\.py)` \| (\w.*\w.*) \|$", text("docs/architecture.md"), re.MULTILINE)
    )
    assert set(rooms) <= set(rows)
    assert all(sentence.rstrip()[-1] in ".:" for sentence in rows.values()), rows


def test_a_word_of_the_glossary_is_explained_once_and_found_by_its_letter() -> None:
    words = re.findall(r"^\| (\w[^|]*) \| \w", text("docs/glossary.md"), re.MULTILINE)[1:]
    assert len(words) > 30
    assert words == sorted(set(words))


def test_the_program_the_package_and_the_changelog_are_of_one_version() -> None:
    released = re.findall(r"^## \[(\d\S*)\] - (\d{4}-\d\d-\d\d)$", text("CHANGELOG.md"), re.MULTILINE)
    assert [version for version, _ in released][-2:] == ["1.0.0", "0.1.0"]
    assert [day for _, day in released] == sorted((day for _, day in released), reverse=True)
    assert tomllib.loads(text("pyproject.toml"))["project"]["version"] == notifyctl.__version__ == released[0][0]


LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_somewhere() -> None:
    links = [(page, target) for page in PAGES for target in LINK.findall(page.read_text(encoding="utf-8"))]
    for page, target in links:
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.is_file(), f"{page.name} links to {target}"
        assert there.is_relative_to(ROOT), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    to_read = [ROOT / "README.md"]
    while to_read:
        page = to_read.pop()
        seen.add(page)
        targets = [target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8"))]
        linked = {(page.parent / name).resolve() for name in targets if name.endswith(".md")}
        to_read += linked - seen - set(to_read)
    assert set(PAGES) - seen == set()


FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
AS_A_COMMAND = re.compile(r"(?:^|&& |\$\(|/bin/|flock -n \S+ )notifyctl +([^#|&)\n]*)", re.MULTILINE)


def commands_in(document: str) -> Iterator[str]:
    """What follows `notifyctl` where a shell would run it, and between backticks in the text."""
    for language, block in FENCED.findall(document):
        if language in ("sh", "ini", "crontab"):
            yield from AS_A_COMMAND.findall(block.replace("\\\n", " "))
    for span in re.findall(r"`notifyctl\s+([^`]+)`", FENCED.sub("", document)):
        yield " ".join(span.split())


DOCUMENTED = sorted(
    {
        (page.name, command.strip())
        for page in PAGES
        if page.name != "cli.md"
        for command in commands_in(page.read_text(encoding="utf-8"))
    }
)


def test_commands_are_found_in_the_documentation() -> None:
    assert ("README.md", "worker --once") in DOCUMENTED
    assert ("operations.md", "--env-file /etc/notifyctl/env db upgrade") in DOCUMENTED
    assert len(DOCUMENTED) > 50


def test_a_command_in_the_documentation_exists_with_its_options() -> None:
    for page, command in DOCUMENTED:
        words = shlex.split(command.partition('"$(')[0])
        if words[0] == "--env-file":
            words = words[2:]
        path = "notifyctl"
        while words and f"{path} {words[0]}" in COMMANDS:
            path = f"{path} {words.pop(0)}"
        assert path in LEAVES or path == f"notifyctl {command}" or words in (["…"], ["$@"], ["--version"]), (
            f"{page} names {command!r}"
        )
        for word in words:
            assert not word.startswith("--") or re.search(rf"{word}\b", COMMANDS[path]), f"{page} names {command!r}"
