import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from docs.pictures import INBOX
from notifyctl.models.enums import BlockReason
from tests.support.processes import NOTIFYCTL, Processes

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A machine that knows nothing of notifyctl yet, with a .env that the demo must not touch."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text("DATABASE_URL=postgresql://nobody@127.0.0.1:1/none\nNOTIFICATION_SECRET_KEY=short\n")
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}


@pytest.fixture
def start(processes: Processes, environment: dict[str, str]) -> Start:
    pipe = subprocess.PIPE
    return lambda *options: processes.notifyctl(
        "demo", *options, env=environment, cwd=environment["HOME"], stdout=pipe, stderr=pipe, text=True
    )


def test_two_demos_at_once_both_show_every_gate_a_retry_and_a_hard_failure(
    start: Start, environment: dict[str, str]
) -> None:
    demos = [start(), start()]
    for demo in demos:
        shown, said = demo.communicate(timeout=60)
        assert demo.returncode == 0, said
        assert [reason for reason in BlockReason if reason not in shown] == []
        assert "1 RETRY_SCHEDULED, 1 FAILED" in shown
        assert "5 SENT, 1 FAILED" in shown
        heard = shown.partition("Stripe posts its events")[2].partition("A backlog of 40")[0]
        assert [line.split("  ")[-1] for line in heard.splitlines() if re.search(r"  (200|400)  ", line)] == [
            "subscription none -> active; no mail",
            "SUBSCRIPTION_CONFIRMED QUEUED",
            "no second mail about one purchase",
            "known already, nothing is done twice",
            "PAYMENT_FAILED QUEUED",
            "refused: it is not Stripe's signature",
        ]
        assert heard.count("  1 SENT  ") == 2
        assert "bonjour@dune.example  Your payment did not go through" in heard
        met = shown.partition("A backlog of 40")[2].partition("The link left")[0]
        assert re.findall(r"(?:password link|by its clock)  +(\d+ \w+.*?)  ", met) == ["1 SENT", "40 SENT"]
        assert "RETRY_SCHEDULED" in shown.partition("messages explain")[2]
        assert "Traceback" not in shown + said
    assert [path.name for path in Path(environment["HOME"]).iterdir()] == [".env"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_half_way_leaves_nothing_behind(
    start: Start, environment: dict[str, str], number: signal.Signals
) -> None:
    demo = start()
    assert demo.stdout is not None
    assert demo.stdout.readline()
    demo.send_signal(number)
    _, said = demo.communicate(timeout=60)
    assert (demo.returncode, said.strip()) == (130, "notifyctl: interrupted")
    assert [path.name for path in Path(environment["HOME"]).iterdir()] == [".env"]


def test_the_staying_demo_takes_a_message_from_another_terminal_and_ends_on_sigterm(
    start: Start, processes: Processes, environment: dict[str, str]
) -> None:
    demo = start("--stay")
    assert demo.stderr is not None
    assert demo.stdout is not None
    shown = ""
    while "Ctrl-C ends the demo" not in shown:
        line = demo.stdout.readline()
        assert line, demo.stderr.read()
        shown += line
    said = ""
    while "sandbox stripe" not in said:
        said += demo.stderr.readline()
    inbox = INBOX.findall(said)[0]
    link = re.findall(r"Page: +(http://\S+)", said)[0]
    with urllib.request.urlopen(link, timeout=5) as answer:
        assert "Your link signs you in" in answer.read().decode()
    for command in re.findall(r"notifyctl (--env-file .*)", said.replace("\\\n", "")):
        ran = processes.run(*NOTIFYCTL, *command.split(), env=environment, cwd=environment["HOME"])
        assert ran.returncode == 0, ran.stderr
    for address, mails in (("hello@beacon.example", 1), ("bonjour@dune.example", 3)):
        for _ in range(100):
            with urllib.request.urlopen(f"{inbox}/inbox.json?to={address}", timeout=5) as answer:
                if len(json.load(answer)) >= mails:
                    break
            sleep(0.1)
        else:
            pytest.fail(f"a mail to {address} never arrived")
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(30) == 0
