"""The main job in each way in which PostgreSQL is run: asked for over HTTP, sent by a worker, counted at the provider,
and reported back by it.
"""

import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import requests
from sqlalchemy import text

from notifyctl.bootstrap import open_runtime
from notifyctl.http import api_keys
from notifyctl.models.enums import Channel, Scope
from notifyctl.sandbox import Receipts, Sandbox
from tests.support.messages import WELCOME
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.replicas import free_port
from tests.support.settings import make_settings
from tests.support.setups import SetUp
from tests.support.templates import seed_templates

pytestmark = [
    pytest.mark.usefixtures("exhaustive"),
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
]
SHORT_LEASE = Path(__file__).parents[1] / "support" / "short_lease.py"
TOKEN = "w3bh00k-token"
EACH_TIME = 10


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


class Caller:
    """Repeats what is not answered with a yes, as a caller must whose request may be lost."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    def insist(self, method: str, path: str, body: dict[str, Any]) -> None:
        until(lambda: self._try(method, path, body) in (200, 201, 202))

    def is_ready(self) -> bool:
        return self._try("GET", "/readyz", None) == 200

    def _try(self, method: str, path: str, body: dict[str, Any] | None) -> int:
        try:
            asked = requests.request(method, self._url + path, json=body, headers=self._headers, timeout=60)
        except requests.ConnectionError:
            return 0
        return asked.status_code


@pytest.mark.timeout(180)
def test_it_is_done_in_each_set_up(
    set_up: SetUp, sandbox: Sandbox, processes: Processes, environment: Environment
) -> None:
    runtime = open_runtime(make_settings(database_url=set_up.url))
    seed_templates(runtime)
    with runtime.database.transaction() as session:
        key = api_keys.create(session, "a", [Scope.ADMIN], actor="test", now=runtime.clock(), expires_at=None)
    runtime.close()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = environment(
        DATABASE_URL=set_up.url,
        POSTMARK_API_URL=sandbox.url,
        TWILIO_API_URL=sandbox.url,
        PUBLIC_BASE_URL=url,
        POSTMARK_WEBHOOK_TOKEN=TOKEN,
        IN_DOUBT_SEARCH_DELAY_SECONDS="2",
    )
    sandbox.set_receipts(Receipts(url=f"{url}/api/webhooks/postmark", token=TOKEN, delay=(0.0, 0.1)))
    programs = [
        processes.start(sys.executable, SHORT_LEASE, "worker", "--no-jobs", env=variables),
        processes.notifyctl("serve", "--port", str(port), env=variables),
    ]
    caller = Caller(url, key)
    until(caller.is_ready)
    for first in (0, EACH_TIME):
        for number in range(first, first + EACH_TIME):
            client = {"email": f"c{number}@client.example", "provisioning_status": "COMPLETED"}
            caller.insist("PUT", f"/api/clients/c{number}", client)
            welcome = {"template_key": "WELCOME_EMAIL", "client_id": f"c{number}", "context": WELCOME}
            caller.insist("POST", "/api/notifications", welcome | {"idempotency_key": f"welcome:{number}"})
            code = {"phone_number": f"+4915112{number:06}", "action": "PHONE_VERIFY"}
            caller.insist("POST", "/api/otp/send", code)
        done = {"DELIVERED": 2 * (first + EACH_TIME)}
        until(partial(is_so, set_up.url, done))
        if first == 0:
            set_up.strike()
    for channel in Channel:
        counted = sandbox.accepted_by_recipient(channel)
        assert (len(counted), set(counted.values())) == (2 * EACH_TIME, {1})
    explained = processes.run(*NOTIFYCTL, "messages", "list", "--client", "c0", env=variables)
    assert "DELIVERED" in explained.stdout
    for program in programs:
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
    assert [program.wait(30) for program in programs] == [0, 0]


def is_so(database_url: str, expected: dict[str, int]) -> bool:
    """Whether the messages have these statuses."""
    runtime = open_runtime(make_settings(database_url=database_url))
    with runtime.database.read() as session:
        found = session.execute(text("SELECT status, count(*) FROM message_log GROUP BY 1")).all()
    runtime.close()
    return {status: count for status, count in found} == expected
