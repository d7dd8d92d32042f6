"""One-time codes through two real server processes, a real worker, and the SDK's calls to the sandbox."""

import json
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from threading import Barrier
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import inspect, text

from notifyctl.bootstrap import Runtime
from notifyctl.http import api_keys
from notifyctl.models.enums import Channel, Scope
from notifyctl.sandbox import Sandbox
from notifyctl.sandbox.faults.faults import Fault, Faults
from tests.support.otp_codes import PHONE, audits, wrong
from tests.support.processes import NOTIFYCTL, Environment, Processes

SEND, VERIFY = "/api/otp/send", "/api/otp/verify"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


Post = Callable[..., Answer]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "processes.log"


@pytest.fixture
def start(
    processes: Processes, environment: Environment, sandbox: Sandbox, log: Path
) -> Callable[..., subprocess.Popen[bytes]]:
    variables = environment(TWILIO_API_URL=sandbox.url, OTP_ALLOWED_COUNTRIES="DE", OTP_DOMAIN="app.example.com")
    return lambda *command: processes.notifyctl(*command, env=variables, log=log)


@pytest.fixture
def ports(start: Callable[..., Any]) -> list[int]:
    """Two servers that know nothing of one another."""
    found = [_free_port(), _free_port()]
    for port in found:
        start("serve", "--port", str(port))
    for port in found:
        _wait_for(lambda port=port: _is_up(port))
    return found


@pytest.fixture
def post(runtime: Runtime, ports: list[int]) -> Post:
    """To one server and the other in turn."""
    with runtime.database.transaction() as session:
        key = api_keys.create(session, "test", [Scope.OTP], expires_at=None, actor="test", now=runtime.clock())
    numbers = count()

    def send(path: str, **fields: Any) -> Answer:
        connection = HTTPConnection("127.0.0.1", ports[next(numbers) % len(ports)], timeout=60)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", path, json.dumps(fields), headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    return send


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _is_up(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.02)


def _at_once(do: Callable[[int], Answer], times: int) -> list[Answer]:
    barrier = Barrier(times)

    def one(number: int) -> Answer:
        barrier.wait(30)
        return do(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def _code(sandbox: Sandbox, phone: str = PHONE) -> str:
    """The last one that arrived there."""
    texts = [arrival.text for arrival in sandbox.messages() if arrival.to == phone]
    return re.findall(r"\b\d{6}\b", texts[-1])[0]


def _arrived(sandbox: Sandbox, phone: str = PHONE) -> int:
    return sandbox.accepted_by_recipient(Channel.SMS)[phone]


def _distinct(answers: list[Answer]) -> set[tuple[Any, ...]]:
    """Status, headers but for the time of day, and bytes."""
    return {
        (
            answer.status,
            tuple(item for item in sorted(answer.headers.items()) if item[0].lower() != "date"),
            answer.body,
        )
        for answer in answers
    }


def test_fifty_sends_at_once_over_two_servers_are_three_sms(post: Post, start: Any, sandbox: Sandbox) -> None:
    actions = ("PHONE_VERIFY", "SENSITIVE_ACTION")
    answers = _at_once(lambda number: post(SEND, phone_number=PHONE, action=actions[number % 2]), 50)
    start("worker", "--once").wait(60)

    assert {answer.status for answer in answers} == {202}
    # Of three codes, those that were replaced before a worker came were withdrawn.
    assert 1 <= _arrived(sandbox) <= 3
    assert len(_distinct(answers)) == 1


def test_fifty_sends_at_once_beside_a_worker_are_never_over_three_sms(
    post: Post, start: Any, sandbox: Sandbox, runtime: Runtime
) -> None:
    start("worker")
    _at_once(lambda _: post(SEND, phone_number=PHONE, action="PHONE_VERIFY"), 50)
    with runtime.database.read() as session:
        accepted = session.execute(text("SELECT count(*) FROM message_log WHERE status != 'BLOCKED'")).scalar_one()
        blocked = session.execute(text("SELECT count(*) FROM message_log WHERE status = 'BLOCKED'")).scalar_one()

    assert (accepted, blocked) == (3, 47)
    _wait_for(lambda: _arrived(sandbox) >= 1)
    assert _arrived(sandbox) <= 3


def test_fifty_wrong_guesses_at_once_are_five_comparisons_and_one_lock(
    post: Post, start: Any, sandbox: Sandbox, runtime: Runtime
) -> None:
    post(SEND, phone_number=PHONE, action="PHONE_VERIFY")
    start("worker", "--once").wait(60)
    code = _code(sandbox)
    answers = _at_once(
        lambda number: post(VERIFY, phone_number=PHONE, action="PHONE_VERIFY", code=wrong(code, number + 1)), 50
    )

    said = Counter((action, details.get("cause") or details.get("event")) for action, details in audits(runtime))
    assert said["OTP_VERIFY_FAILED", "wrong_code"] == 5
    assert said["OTP_LOCKED_OUT", "begun"] == 1
    assert said["OTP_LOCKED_OUT", "refused"] == 45
    late = post(VERIFY, phone_number=PHONE, action="PHONE_VERIFY", code=code)
    assert len(_distinct([*answers, late])) == 1
    assert late.status == 400


def test_thirty_right_guesses_at_once_are_one_success(post: Post, start: Any, sandbox: Sandbox) -> None:
    post(SEND, phone_number=PHONE, action="PHONE_VERIFY")
    start("worker", "--once").wait(60)
    code = _code(sandbox)
    answers = _at_once(lambda _: post(VERIFY, phone_number=PHONE, action="PHONE_VERIFY", code=code), 30)

    assert Counter(answer.status for answer in answers) == {200: 1, 400: 29}
    assert json.loads(next(answer.body for answer in answers if answer.status == 200)) == {"verified": True}


def test_whatever_is_wrong_with_a_code_the_answer_is_the_same_bytes(
    post: Post, start: Any, sandbox: Sandbox, runtime: Runtime
) -> None:
    other = "+4915187654321"
    for phone in (PHONE, other):
        post(SEND, phone_number=phone, action="PHONE_VERIFY")
    start("worker", "--once").wait(60)
    replaced = _code(sandbox)
    post(SEND, phone_number=PHONE, action="PHONE_VERIFY")
    start("worker", "--once").wait(60)
    code = _code(sandbox)
    assert code != replaced

    def guess(guessed: str, phone: str = PHONE, action: str = "PHONE_VERIFY") -> Answer:
        return post(VERIFY, phone_number=phone, action=action, code=guessed)

    answers = [
        guess(wrong(code)),
        guess(replaced),
        guess(code, phone=other),
        guess(code, action="SENSITIVE_ACTION"),
        guess(code, phone="+4915100000000"),
        guess("12345"),
        guess("\u0661\u0662\u0663\u0664\u0665\u0666"),
    ]
    assert guess(code).status == 200
    answers.append(guess(code))
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE otp_challenge SET expires_at = created_at"))
    answers.append(guess(_code(sandbox, other), phone=other))

    assert len(_distinct(answers)) == 1
    assert json.loads(answers[0].body) == {"verified": False, "error": "invalid_code", "message": "Invalid code."}


def test_whatever_stands_against_a_send_the_answer_is_the_same_bytes(
    post: Post, runtime: Runtime, notifyctl_run: Callable[..., None]
) -> None:
    notifyctl_run("suppressions", "add", "SMS", "+4915155555555")
    numbers = {
        "sent": PHONE,
        "opted out": "+4915155555555",
        "country": "+447911123456",
        "premium": "+449098790000",
    }
    answers = [post(SEND, phone_number=number, action="PHONE_VERIFY") for number in numbers.values()]
    answers += [post(SEND, phone_number=PHONE, action="PHONE_VERIFY") for _ in range(4)]
    for _ in range(6):
        post(VERIFY, phone_number=PHONE, action="PHONE_VERIFY", code="x")
    answers.append(post(SEND, phone_number=PHONE, action="PHONE_VERIFY"))

    assert len(_distinct(answers)) == 1
    assert (answers[0].status, json.loads(answers[0].body)) == (202, {"status": "accepted"})
    with runtime.database.read() as session:
        reasons = session.execute(text("SELECT reason FROM message_log WHERE status = 'BLOCKED'")).scalars().all()
    assert Counter(reasons) == {
        "SUPPRESSED": 1, "COUNTRY_NOT_ALLOWED": 1, "RECIPIENT_INVALID": 1, "RATE_LIMITED": 3,
    }  # fmt: skip


@pytest.fixture
def notifyctl_run(processes: Processes, environment: Environment) -> Callable[..., None]:
    def run(*arguments: str) -> None:
        assert processes.run(*NOTIFYCTL, *arguments, env=environment()).returncode == 0

    return run


def test_a_send_is_answered_while_the_provider_still_hangs(
    post: Post, start: Any, sandbox: Sandbox, runtime: Runtime
) -> None:
    sandbox.set_faults(Channel.SMS, Faults((Fault("latency", ms=(4_000, 4_000)),)))
    start("worker")
    answer = post(SEND, phone_number=PHONE, action="PHONE_VERIFY")

    assert answer.status == 202
    assert _arrived(sandbox) == 0
    _wait_for(lambda: _arrived(sandbox) == 1)


def test_no_code_and_no_number_is_anywhere_but_where_it_must_be(
    post: Post, start: Any, sandbox: Sandbox, runtime: Runtime, log: Path
) -> None:
    worker = start("worker")
    post(SEND, phone_number=PHONE, action="PHONE_VERIFY")
    _wait_for(lambda: _arrived(sandbox) == 1)
    code = _code(sandbox)
    bodies = [
        post(VERIFY, phone_number=PHONE, action="PHONE_VERIFY", code=wrong(code)),
        post(VERIFY, phone_number=PHONE, code=code),
        post(VERIFY, phone_number=PHONE, action=code, code=code),
        post(VERIFY, phone_number=[PHONE], action="PHONE_VERIFY", code=code),
        post(VERIFY, phone_number=f"{PHONE}x", action="PHONE_VERIFY", code=code),
        post(VERIFY, phone_number=PHONE, action="PHONE_VERIFY", code=int(code)),
        post(VERIFY, **{"phone_number": PHONE, "action": "PHONE_VERIFY", "code": code, code: PHONE}),
    ]
    _wait_for(lambda: "message sent" in log.read_text())
    command_lines = [
        Path(f"/proc/{process}/cmdline").read_bytes() + Path(f"/proc/{process}/environ").read_bytes()
        for process in [worker.pid]
    ]
    digits = PHONE.lstrip("+")

    assert {answer.status for answer in bodies} == {400, 422}
    for answer in bodies:
        assert digits.encode() not in answer.body
    # A field's name is told, and this one was named like the code.
    for answer in bodies[:-1]:
        assert code.encode() not in answer.body
    for written in (log.read_text(), *map(repr, command_lines)):
        assert code not in written
        assert digits not in written
    for table, column, value in _every_value(runtime):
        assert code not in value, f"{table}.{column}"
        assert digits not in value or (table, column) == ("message_log", "recipient"), f"{table}.{column}"


def _every_value(runtime: Runtime) -> Iterator[tuple[str, str, str]]:
    for table in inspect(runtime.database.engine).get_table_names():
        with runtime.database.read() as session:
            for row in session.execute(text(f"SELECT * FROM {table}")).mappings():
                # A moment's microseconds may happen to be a code's digits.
                yield from ((table, name, str(value)) for name, value in row.items() if not name.endswith("_at"))
