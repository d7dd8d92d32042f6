"""How soon idle workers are at work: single messages beside pgqueuer, and one-time codes from the HTTP request on.

    python -m tests.benchmarks.pick_up [--rounds 5]

A worker and a server for each database and a worker of pgqueuer run side by side with nothing to do, and are asked in
turns. A message is timed from when the caller's commit has returned, a code from before its request, both until the
provider has read the call.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from itertools import count
from random import Random
from statistics import median
from subprocess import PIPE
from time import CLOCK_REALTIME, clock_gettime, sleep

from notifyctl.bootstrap import Runtime
from notifyctl.http import api_keys
from notifyctl.models.enums import Scope
from notifyctl.orchestrator.requests import Queued, SendRequest
from tests.benchmarks import harness
from tests.benchmarks.harness import DATABASES, NAMES, Figure, Provider, measures, percentile, program, wait_until
from tests.support.messages import CODE, code_pipe

A_ROUND = 15
"""Questions to each."""
GAPS_SECONDS = (0.1, 0.25)
"""Between questions: long enough to be idle again, and never in step with anybody's polling."""
WARM_UP = 3
"""Of the first questions: they open connections and fill caches."""
numbers = count()
Ask = Callable[[str], float]
"""From a phone to the moment since when the call is waited for, by the wall clock."""


def a_phone() -> str:
    """Each of a prefix of its own: there is a limit for each number, and for those that have much in common."""
    return f"+49151{next(numbers) * 7919 % 10**8:08}"


class Idle:
    """A store with a worker and a server that have nothing to do."""

    def __init__(self, runtime: Runtime, stack: ExitStack) -> None:
        self._runtime = runtime
        environment, port = harness.environment(runtime.settings), harness.free_port()
        with runtime.database.transaction() as session:
            key = api_keys.create(session, "bench", [Scope.OTP], expires_at=None, actor="bench", now=runtime.clock())
        stack.enter_context(program("-m", "notifyctl", "worker", env=environment))
        server = ("-m", "notifyctl", "serve", "--port", str(port))
        stack.enter_context(program(*server, env=environment, port=port))
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._connection = HTTPConnection("127.0.0.1", port)

    def send(self, phone: str) -> float:
        with self._runtime.database.transaction() as session:
            asked = SendRequest(template_key="OTP_CODE_SMS", recipient=phone, context=CODE)
            decision = code_pipe(self._runtime).send(session, asked)
        assert isinstance(decision, Queued), decision
        return clock_gettime(CLOCK_REALTIME)

    def code(self, phone: str) -> float:
        body = json.dumps({"phone_number": phone, "action": "PHONE_VERIFY"})
        at = clock_gettime(CLOCK_REALTIME)
        self._connection.request("POST", "/api/otp/send", body, self._headers)
        answer = self._connection.getresponse()
        assert answer.status == 202, answer.read()
        answer.read()
        return at


def idle(kind: str, provider: str, stack: ExitStack) -> Idle:
    addresses = {"postmark_api_url": provider, "twilio_api_url": provider}
    return Idle(stack.enter_context(harness.fresh_store(kind, **addresses)), stack)


def pgqueuer(url: str, provider: str, stack: ExitStack) -> Ask:
    module = ("-m", "tests.benchmarks.peers.pgqueuer_worker")
    environment = harness.environment(harness.make_settings(database_url=url))
    fill = stack.enter_context(program(*module, "fill", url, env=environment, stdin=PIPE, stdout=PIPE))

    def ask(phone: str) -> float:
        harness.tell(fill, [{"to": phone, "context": harness.values(1)}])
        return float(harness.heard(fill))

    ask(a_phone())  # makes its tables, which the worker asks for
    stack.enter_context(program(*module, "work", url, provider, "Hello {{ name }}", env=environment))
    return ask


def waits_ms(provider: Provider, asks: dict[str, Ask], rounds: int) -> dict[str, list[float]]:
    """From each question to the provider's call, one after another in turns."""
    gaps = Random(0)
    asked: dict[str, list[tuple[str, float]]] = {name: [] for name in asks}
    for turns in (WARM_UP, A_ROUND * rounds):
        for _ in range(turns):
            for name, ask in asks.items():
                phone = a_phone()
                asked[name].append((phone, ask(phone)))
                sleep(gaps.uniform(*GAPS_SECONDS))
        wait_until(lambda: provider.count() == sum(map(len, asked.values())))
    arrived = provider.arrivals()
    return {
        name: [(arrived[phone] - at) * 1000 for phone, at in questions[WARM_UP:]] for name, questions in asked.items()
    }


def told(what: str, waits: list[float], *, p50: float | None = None, p95: float | None = None) -> Iterator[Figure]:
    yield Figure("S4", f"{what}, p50", median(waits), "ms", at_most=p50)
    yield Figure("S4", f"{what}, p95", percentile(waits, 0.95), "ms", at_most=p95)


@measures("S4")
def pick_up(rounds: int) -> Iterator[Figure]:
    with ExitStack() as stack:
        url = stack.enter_context(harness.provider())
        provider = Provider(url)
        ours = {kind: idle(kind, url, stack) for kind in DATABASES}
        peer = stack.enter_context(harness.fresh_database("postgresql"))
        asks = {kind: each.send for kind, each in ours.items()} | {"pgqueuer": pgqueuer(peer, url, stack)}
        wait_until(lambda: provider.count() == 1)
        provider.arrivals()
        waits = waits_ms(provider, asks, rounds)
        codes = waits_ms(provider, {kind: each.code for kind, each in ours.items()}, rounds)
    for kind in DATABASES:
        yield from told(f"idle pick-up, {NAMES[kind]}", waits[kind], p50=10, p95=30)
    yield from told("idle pick-up, pgqueuer", waits["pgqueuer"])
    for kind in DATABASES:
        yield from told(f"OTP request to provider, {NAMES[kind]}", codes[kind], p50=25, p95=60)


if __name__ == "__main__":
    harness.main()
