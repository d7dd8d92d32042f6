"""docs/templates.md, followed to the letter in an installation of its own."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.processes import Processes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "templates.md"
NAMES = ("brand", "word", "layout", "language", "template")


def blocks() -> dict[str, str]:
    found = re.findall(
        r"<!-- (\w+): .*? runs this block as it stands -->\n```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S
    )
    return dict(found)


def test_every_block_of_commands_is_run() -> None:
    assert tuple(blocks()) == NAMES
    assert PAGE.read_text().count("```sh") == len(NAMES)


@pytest.fixture
def shell(processes: Processes, tmp_path: Path):  # type: ignore[no-untyped-def]
    folder = tmp_path / "acme"
    folder.mkdir()
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{folder / 'notifyctl.db'}",
    }

    def run(script: str) -> str:
        ran = processes.run("bash", "-euo", "pipefail", "-c", script, cwd=folder, env=env)
        assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    run("notifyctl init; notifyctl db upgrade; notifyctl templates seed")
    return run


def test_a_company_makes_the_mails_its_own(shell) -> None:  # type: ignore[no-untyped-def]
    steps = blocks()
    shell(steps["brand"])
    assert "Acme: 493817 is your code" in shell("notifyctl templates render OTP_CODE_SMS --stored")
    assert "thank you for your trust" in shell(steps["word"])
    shell(steps["layout"])
    assert "border-radius: 0" in shell("notifyctl templates render PAYMENT_FAILED --stored --html")
    assert "Subject: Il suo account è pronto" in shell(steps["language"])
    assert "Vale 10 minuti" in shell("notifyctl templates render OTP_CODE_SMS --stored --locale it")
    sent = json.loads(shell("notifyctl messages show last --format json"))
    assert (sent["client_id"], sent["language"], sent["status"]) == ("anna", "it", "QUEUED")
    shell(steps["template"])
    assert "Acme: your parcel is here. We keep it for 7 days." in shell("notifyctl templates render PARCEL_READY_SMS")
    shell("notifyctl templates diff")
    kept = json.loads(shell("sed -i /NOTIFICATION_TEMPLATES/d .env; notifyctl templates seed --format json"))
    assert {row["template_key"] for row in kept if row["status"] == "KEPT"} >= {"WELCOME_EMAIL", "OTP_CODE_SMS"}
    assert "CHANGED" not in {row["status"] for row in kept}
