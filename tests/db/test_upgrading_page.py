"""The upgrade from 0.1.0, as docs/upgrading.md says it: on a store that the program of 0.1.0 has filled."""

import json
import re
import sqlite3
from pathlib import Path

import pytest

from notifyctl.models.enums import Channel
from notifyctl.sandbox import Sandbox
from tests.support.processes import NOTIFYCTL, Environment, Processes

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "upgrading.md"
STORE = ROOT / "tests" / "support" / "payloads" / "first_release.sql"
HEAD = "1:31629ee45577f1cacd1713a8eb39c885c9ebe9a38f76a25bd97901a6dc26e57d"
KEYS = {
    "NOTIFICATION_SECRET_KEY": "1b879fe82cc69882b9b1c68fbd919c10d6ca9e3c108de0ea6b7617e64e961eb0",
    "OTP_PEPPER": "07d3e2fb08c8b92cda9190a469f421d20ec2215731d7864f58235c7009d6296b",
}
"""What its values are sealed with. The send-by time of what waits in it was put off to 2099."""


class Upgraded:
    """The folder of an installation whose store has gone through the block of the page."""

    def __init__(self, folder: Path, variables: dict[str, str], processes: Processes) -> None:
        self._options = {"cwd": folder, "env": variables}
        self._processes = processes
        with sqlite3.connect(folder / "notifyctl.db") as store:
            store.executescript(STORE.read_text(encoding="utf-8"))
        store.close()
        (folder / "head-of-0.1.0").write_text(f"{HEAD}\n")
        (folder / "notifyctl").write_text(f'#!/bin/sh\nexec {" ".join(map(str, NOTIFYCTL))} "$@"\n')
        (folder / "notifyctl").chmod(0o755)
        found = re.search(r"<!-- upgrade: .*?-->\n```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        assert found
        # Without -e: `templates diff` exits 1 where there is a difference.
        self.ran = processes.run("sh", "-uc", found[1], **self._options)

    def notifyctl(self, *command: str) -> str:
        ran = self._processes.run(*NOTIFYCTL, *command, **self._options)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def rows(self, *command: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = json.loads(self.notifyctl(*command, "--format", "json"))
        return rows


@pytest.fixture
def upgraded(environment: Environment, processes: Processes, sandbox: Sandbox, tmp_path: Path) -> Upgraded:
    urls = dict.fromkeys(("POSTMARK_API_URL", "TWILIO_API_URL"), sandbox.url)
    variables = environment(**KEYS, **urls, DATABASE_URL=f"sqlite:///{tmp_path}/notifyctl.db")
    return Upgraded(tmp_path, variables | {"PATH": f"{tmp_path}:{variables['PATH']}"}, processes)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_first_release_is_upgraded_by_the_steps_of_the_page(upgraded: Upgraded, sandbox: Sandbox) -> None:
    assert upgraded.ran.returncode == 0, upgraded.ran.stderr
    assert re.search(r"^verified +24 rows", upgraded.ran.stdout, re.MULTILINE)
    assert "upgraded from 0008" in upgraded.ran.stderr
    assert "1 template kept, which came from another folder" in upgraded.ran.stderr
    states = {row["template_key"]: row["version"] for row in upgraded.rows("templates", "list")}
    assert (states["WELCOME_EMAIL"], states["PASSWORD_RESET"]) == (1, 2)

    upgraded.notifyctl("worker", "--once")
    assert sandbox.accepted_by_recipient(Channel.EMAIL) == {"ops@acme.example": 1}, "what waited, with its sealed link"
    found = upgraded.rows("messages", "list")
    assert [row["status"] for row in found] == ["SENT", "BLOCKED", "BLOCKED", "SENT"]
    assert {row["reason"] for row in found} == {None, "RATE_LIMITED", "PROVISIONING_INCOMPLETE"}
    assert [row["address"] for row in upgraded.rows("suppressions", "list", "--reveal")] == ["gone@acme.example"]
    assert [(row["name"], row["state"]) for row in upgraded.rows("keys", "list")] == [("shop", "active")]
    assert [row["id"] for row in upgraded.rows("clients", "list")] == ["acme", "beta"]
    assert {row["channel"]: row["per_minute_limit"] for row in upgraded.rows("limits", "show")}["EMAIL"] == 300
    upgraded.notifyctl("jobs", "run", "audit_seal")
    upgraded.notifyctl("audit", "verify", "--expect-head", HEAD)
