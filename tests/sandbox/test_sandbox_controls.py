"""Faults by HTTP and by the command line, the bar on the inbox page, and a search that lags."""

import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from notifyctl.models.enums import Channel
from notifyctl.sandbox import Fault, Faults, Sandbox
from notifyctl.sandbox.faults.magic import MAGIC_RECIPIENTS
from tests.support.processes import NOTIFYCTL, Processes

ACCOUNT = "AC" + "0" * 32
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def send_email(url: str, to: str = "ada@a.test", **more: Any) -> requests.Response:
    email = {"From": "hello@acme.example", "To": to, "TextBody": "Hello", **more}
    return requests.post(f"{url}/email", json=email, headers={"X-Postmark-Server-Token": "any"}, timeout=5)


def send_sms(url: str, to: str = "+14155550123") -> requests.Response:
    form = {"To": to, "From": "+15005550006", "Body": "Hello"}
    return requests.post(
        f"{url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json", data=form, auth=(ACCOUNT, "any"), timeout=5
    )


def test_faults_are_set_seen_and_cleared_over_http(sandbox: Sandbox) -> None:
    url = f"{sandbox.url}/faults"
    lines = ["email:error=0.5,code=406", "latency,ms=1", "sms:http,status=504,body=empty,times=1"]

    assert requests.put(url, json={"seed": 7, "faults": lines}, timeout=5).status_code == 200
    assert send_sms(sandbox.url).status_code == 504

    assert requests.get(url, timeout=5).json() == {
        "faults": [
            {"fault": "email:error=0.5,code=406", "seed": 7, "struck": 0},
            {"fault": "email:latency,ms=1", "seed": 7, "struck": 0},
            {"fault": "sms:latency,ms=1", "seed": 7, "struck": 1},
            {"fault": "sms:http,status=504,body=empty,times=1", "seed": 7, "struck": 1},
        ]
    }
    assert requests.delete(url, timeout=5).status_code == 204
    assert requests.get(url, timeout=5).json() == {"faults": []}


def test_what_is_put_takes_the_place_of_all_that_was_set(sandbox: Sandbox) -> None:
    sandbox.set_faults(Channel.EMAIL, Faults([Fault("http")]))

    requests.put(f"{sandbox.url}/faults", json={"faults": ["sms:too-many,retry_after=3"]}, timeout=5)
    answer = send_sms(sandbox.url)
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["code"]) == (429, "3", 20429)
    assert send_email(sandbox.url).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"SMS": {"faults": []}}, "SMS: unknown; the fields are faults, seed"),
        ([1], "the body must be a JSON object"),
        ({}, 'faults: must be lines as --fault takes them, as {"faults": ["sms:hang=0.1"]}'),
        ({"faults": [{"kind": "hang"}]}, "faults: must be lines as --fault takes them"),
        ({"faults": [], "seed": "x"}, "seed: must be a whole number"),
        ({"faults": ["sms:error,code=406"]}, "406 is no code or class of SMS's provider"),
        ({"faults": ["stripe:error,code=transient"]}, "'transient' is no code of Stripe's API"),
        ({"faults": ["fax:hang"]}, "'fax' is none of email:, sms:, stripe:, email-search:, sms-search:"),
        ({"faults": ["explode"]}, "fault 'explode': kind: Input should be 'error'"),
        ({"faults": ["sms:hang=often"]}, "fault 'sms:hang=often': rate"),
        ({"faults": ["sms:hang", "sms:http"]}, "add up to 2"),
        ({"faults": ["hang,rte=1"]}, "rte: Unexpected keyword argument"),
    ],
)
def test_faults_that_make_no_sense_are_refused_and_change_nothing(sandbox: Sandbox, body: Any, words: str) -> None:
    sandbox.set_faults(Channel.EMAIL, Faults([Fault("http")], seed=1))

    answer = requests.put(f"{sandbox.url}/faults", json=body, timeout=5)

    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert requests.get(f"{sandbox.url}/faults", timeout=5).json()["faults"][0]["seed"] == 1


def test_the_page_tells_the_meter_the_faults_and_how_often_they_struck(sandbox: Sandbox) -> None:
    quiet = requests.get(sandbox.url, timeout=5).text
    assert "Faults for" not in quiet
    assert "SMS: 0 presented, 0 accepted, 0 in the last minute, peak 0 a minute" in quiet

    sandbox.set_faults(Channel.SMS, Faults([Fault("http", status=504, times=2)], seed=5))
    send_sms(sandbox.url)

    page = requests.get(sandbox.url, timeout=5).text
    assert "Faults for SMS (seed 5): http,status=504,times=2 [1]" in page
    assert "SMS: 1 presented, 0 accepted, 1 in the last minute, peak 1 a minute" in page


def test_faults_are_set_and_cleared_on_the_page_and_by_no_other_site(sandbox: Sandbox) -> None:
    def post(origin: str | None = sandbox.url, **fields: str) -> requests.Response:
        headers = {"Origin": origin} if origin else {}
        url = f"{sandbox.url}/faults"
        return requests.post(url, fields, headers=headers, timeout=5, allow_redirects=False)

    done = post(lines="sms:error=0.1,code=21610\r\n\r\nlatency=1,ms=5\r\n", do="set")
    assert (done.status_code, done.headers["Location"]) == (303, "/#faults")
    faults = [row["fault"] for row in requests.get(f"{sandbox.url}/faults", timeout=5).json()["faults"]]
    assert faults == ["email:latency,ms=5", "sms:error=0.1,code=21610", "sms:latency,ms=5"]
    assert "\n".join(faults) in requests.get(sandbox.url, timeout=5).text

    wrong = post(lines="sms:eror=0.1", do="set")
    assert (wrong.status_code, "sms:eror=0.1</textarea>" in wrong.text) == (400, True)
    for origin in (None, "null", "http://evil.example"):
        assert post(origin, do="clear").status_code == 403
    assert len(requests.get(f"{sandbox.url}/faults", timeout=5).json()["faults"]) == 3
    assert post(do="clear", lines="hang").status_code == 303
    assert requests.get(f"{sandbox.url}/faults", timeout=5).json() == {"faults": []}


def test_every_magic_recipient_stands_on_the_page_and_in_the_documentation(sandbox: Sandbox) -> None:
    page = requests.get(sandbox.url, timeout=5).text
    document = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
    for row in MAGIC_RECIPIENTS:
        for text in (page, document):
            for cell in (row.email, row.sms, row.fault, row.meaning):
                assert cell in text


def search(sandbox: Sandbox) -> tuple[int, int]:
    """How many emails and SMS the providers' searches find."""
    emails = requests.get(
        f"{sandbox.url}/messages/outbound",
        params={"count": 10, "offset": 0, "metadata_message_id": "m1"},
        headers={"X-Postmark-Server-Token": "any"},
        timeout=5,
    )
    sms = requests.get(f"{sandbox.url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json", auth=(ACCOUNT, "any"), timeout=5)
    return emails.json()["TotalCount"], len(sms.json()["messages"])


def test_a_search_finds_a_message_only_after_its_delay() -> None:
    clock = [NOON]
    with Sandbox(clock=lambda: clock[0], search_delay=timedelta(seconds=30)) as sandbox:
        email = send_email(sandbox.url, Metadata={"message_id": "m1"})
        sms = send_sms(sandbox.url)
        found = [search(sandbox)]
        for seconds in (29, 1):
            clock[0] += timedelta(seconds=seconds)
            found.append(search(sandbox))
        sandbox.search_delay = timedelta(minutes=5)
        found.append(search(sandbox))
        by_id = requests.get(
            f"{sandbox.url}/messages/outbound/{email.json()['MessageID']}/details",
            headers={"X-Postmark-Server-Token": "any"},
            timeout=5,
        )
        assert "Searches find a message after 300 s" in requests.get(sandbox.url, timeout=5).text

    assert found == [(0, 0), (0, 0), (1, 1), (0, 0)]
    assert (by_id.status_code, sms.status_code) == (200, 201)
    assert len(sandbox.messages()) == 2


@pytest.fixture
def start(processes: Processes, tmp_path: Path) -> Iterator[Any]:
    """Runs the real program with these options, and gives its URL."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str, **variables: str) -> str:
        process = processes.notifyctl(
            "sandbox", "--port", "0", *options, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variables},
        )  # fmt: skip
        running.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        return next(word.rstrip(";") for word in line.split() if word.startswith("http://"))

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0
        assert "Traceback" not in errors


def test_the_command_line_sets_faults_a_search_delay_and_receipts(start: Any) -> None:
    url = start(
        "--fault", "sms:error=0.5,code=21610", "--fault", "sms:latency=1,ms=1-2", "--fault", "http=0.25,times=3",
        "--seed", "11", "--search-delay", "2m", "--receipts-to", "http://127.0.0.1:1/hook",
        "--receipts", "delay=0.5-5s,bounced=0.1,doubled=0.2,reordered=0.3",
    )  # fmt: skip

    faults = requests.get(f"{url}/faults", timeout=5).json()["faults"]
    assert {fault["seed"] for fault in faults} == {11}
    assert [fault["fault"] for fault in faults] == [
        "email:http=0.25,times=3", "sms:error=0.5,code=21610", "sms:latency,ms=1-2", "sms:http=0.25,times=3"
    ]  # fmt: skip
    assert requests.get(f"{url}/receipts", timeout=5).json()["receipts"] == {
        "url": "http://127.0.0.1:1/hook", "delay": [0.5, 5.0], "bounced": 0.1, "doubled": 0.2, "reordered": 0.3,
        "seed": 11,
    }  # fmt: skip
    assert "Searches find a message after 120 s" in requests.get(url, timeout=5).text


@pytest.mark.parametrize("source", ["environment", ".env"])
def test_the_webhooks_carry_the_token_that_the_product_expects(source: str, start: Any, tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            tokens.append(self.headers["X-Postmark-Token"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    variables = {"POSTMARK_WEBHOOK_TOKEN": "expected"}
    if source == ".env":
        (tmp_path / ".env").write_text("POSTMARK_WEBHOOK_TOKEN=expected\n")
        variables = {}
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.timeout = 10
        url = start("--receipts-to", f"http://127.0.0.1:{server.server_port}/", "--receipts", "delay=0", **variables)
        send_email(url)
        server.handle_request()

    assert tokens == ["expected"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fault", "sms:hang=2"], "fault 'sms:hang=2': rate: Input should be less than or equal to 1"),
        (["--fault", "error=1,code=21610"], "21610 is no code or class of EMAIL's provider"),
        (["--fault", "fax:hang"], "'fax' is none of email:, sms:, stripe:, email-search:, sms-search:"),
        (["--fault", "hang=.6", "--fault", "http=.6"], "the rates of hang, http add up to 1.2"),
        (["--receipts-to", "localhost:8080"], "receipts: url: must be an http or https URL"),
        (["--receipts-to", "http://a.test", "--receipts", "delay=5x"], "'5x' is no span of time; write 5s, 2m, or"),
        (["--search-delay", "soon"], "--search-delay 'soon' is no span of time; write 5s, 2m, or a number"),
        (["--search-delay", "2d"], "--search-delay '2d' must be at most 86,400 seconds"),
        (["--receipts", "bounced=0.1"], "--receipts needs --receipts-to URL"),
        (["--receipts-to", "http://a.test", "--receipts", "lost=1"], "receipts: lost: Unexpected keyword argument"),
        (["--doubled", "0.1"], "one option now: --receipts delay=0.5-5,bounced=0.1,doubled=0.1,reordered=0.1"),
    ],
)
def test_an_option_that_makes_no_sense_is_a_usage_error(
    processes: Processes, tmp_path: Path, options: list[str], words: str
) -> None:
    ran = processes.run(*NOTIFYCTL, "sandbox", "--port", "0", *options, env={"HOME": str(tmp_path)})

    assert (ran.returncode, ran.stdout) == (2, "")
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
