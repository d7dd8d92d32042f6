"""The pages of docs/howto/, followed to the letter."""

import re
import shutil
import textwrap
from pathlib import Path

from notifyctl.bootstrap import Runtime
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.templates import shipped_templates

ROOT = Path(__file__).resolve().parents[2]


def block(page: str, name: str) -> str:
    """What stands in the fenced block below the comment of that name."""
    text = (ROOT / "docs" / "howto" / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name}: .*?-->\n *```\w+\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no block {name}"
    return textwrap.dedent(found[1])


def test_a_template_is_added_by_its_two_files(tmp_path: Path, runtime: Runtime, notifyctl: CommandLine) -> None:
    folder = Path(shutil.copytree(ROOT / "templates", tmp_path / "templates"))
    new = folder / "email" / "TRIAL_ENDING"
    new.mkdir()
    (new / "body.txt").write_text(block("template.md", "text"), encoding="utf-8")
    (new / "body.html").write_text(block("template.md", "html"), encoding="utf-8")
    a_client(runtime)

    linted = notifyctl("templates", "lint", "--dir", str(folder))
    assert linted.code == 0, linted.out
    count = len(shipped_templates()) + 1
    assert notifyctl("templates", "seed", "--dir", str(folder)).err == f"{count} templates, 1 changed.\n"
    rendered = notifyctl("templates", "render", "TRIAL_ENDING", "--set", "ends_on=2026-05-01", "--dir", str(folder))
    assert "Your trial ends on 1 May 2026" in rendered.out
    values = ("--set", "ends_on=2026-05-01", "--set", "plans_url=https://app.acme.example/plans")
    sent = notifyctl("send", "TRIAL_ENDING", "--client", "acme", *values)
    assert sent.code == 0, sent.err
