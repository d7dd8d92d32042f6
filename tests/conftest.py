"""What every test may ask for. Both databases for each that asks for `database`: a SQLite file, and a real PostgreSQL.

The markers come from here: a test is `postgresql`, `process`, `browser` or `wheel` by the fixtures that it asks for.
"""

import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import freezegun
import hypothesis
import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.cli.main import main
from notifyctl.db.database import Database
from notifyctl.sandbox import Sandbox
from notifyctl.settings import Settings
from tests.support import leaks
from tests.support.command_line import CommandLine, Ran
from tests.support.databases import KeptDatabase, KeptFile, PostgresServer, fast_folder, shared
from tests.support.poolers import ABSENT, PROGRAM, Pooled, start_pooler
from tests.support.processes import Environment, Processes, WarmParent, watch
from tests.support.runtimes import open_shared
from tests.support.sandboxes import at_rest
from tests.support.settings import PEPPER, SECRET, make_settings
from tests.support.setups import SET_UPS, SetUp, promoted
from tests.support.templates import seed_templates

ROOT = Path(__file__).resolve().parents[1]
MARKER_OF_FIXTURE = {
    "postgres_server": "postgresql",
    "processes": "process",
    "chromium": "browser",
    "wheel": "wheel",
    "exhaustive": "exhaustive",
}

for name in [name.upper() for name in Settings.model_fields] + ["NOTIFYCTL_ENV_FILE"]:
    os.environ.pop(name, None)

# A worker in this process has seen what no other test's database knows.
os.environ["STATE_DIRECTORY"] = os.devnull

# A suite in the background of a shell, or under nohup, ignores signals, and so would every program that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Servers that serve all tests go on while a test's time stands still.
freezegun.configure(extend_ignore_list=["asyncio", "uvicorn", "selectors"])

if (memory := fast_folder()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", memory)

platform.processor()  # Stripe's SDK asks for it, by a program that is started once a process
sys.addaudithook(watch)

hypothesis.settings.register_profile("suite", print_blob=True, deadline=None)
hypothesis.settings.load_profile("suite")

SEED = int(os.environ.get("NOTIFYCTL_TEST_SEED", "0"))


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: some tests wait for a time-out."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    watch.is_on = "chromium" not in getattr(item, "fixturenames", ())  # which looks after its browser itself
    try:
        return (yield)
    finally:
        watch.is_on = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in _markers(item):
            item.add_marker(marker)
    items[:] = _long_ones_first(items)


def _long_ones_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """A test with a timeout of its own takes minutes: begun last, it would run alone. Each process begins with some."""
    long = [item for item in items if any(mark.name == "timeout" for mark in item.own_markers)]
    others = [item for item in items if item not in set(long)]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    edges = [len(others) * number // processes for number in range(processes + 1)]
    return [
        item
        for number, (start, end) in enumerate(pairwise(edges))
        for item in [*long[number::processes], *others[start:end]]
    ]


def _markers(item: pytest.Item) -> set[str]:
    asked = set(getattr(item, "fixturenames", ()))
    found = {marker for fixture, marker in MARKER_OF_FIXTURE.items() if fixture in asked}
    parameters = getattr(item, "callspec", None)
    if parameters is not None and parameters.params.get("backend") == "postgresql":
        found.add("postgresql")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the test's programs and its PostgreSQL have said at the end."""
    report = yield
    if report.failed:
        asked: dict[str, Any] = getattr(item, "funcargs", {})
        if "processes" in asked:
            report.sections += asked["processes"].said().items()
        if item.get_closest_marker("postgresql") and PostgresServer.running is not None:
            report.sections.append(("end of PostgreSQL's log", PostgresServer.running.log()))
        if "seed" in asked:
            report.sections.append(("seed", f"NOTIFYCTL_TEST_SEED={SEED} in the environment draws the same again"))
    return report


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """The URL of a real server's maintenance database."""
    return postgres_server.uri


@pytest.fixture(scope="session")
def kept_database(postgres_server: PostgresServer) -> KeptDatabase:
    return KeptDatabase(postgres_server)


@pytest.fixture(scope="session")
def kept_file(tmp_path_factory: pytest.TempPathFactory) -> KeptFile:
    return KeptFile(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a table."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'notifyctl.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.fresh("notifyctl_empty", "template0") as url:
        yield url


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated, empty database, alone with this test."""
    if backend == "sqlite":
        file: KeptFile = request.getfixturevalue("kept_file")
        file.renew()
        yield file.url
        return
    kept: KeptDatabase = request.getfixturevalue("kept_database")
    yield kept.url
    kept.empty()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = shared(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url=database_url)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """Migrated, with the shipped templates seeded, on the real clock."""
    opened = open_shared(settings)
    seed_templates(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def sandbox_server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def sandbox(sandbox_server: Sandbox) -> Sandbox:
    """The providers' stand-in as it is when it starts."""
    return at_rest(sandbox_server)


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables for a process whose LC_ALL is C or en_US.ISO-8859-1, and means it."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef to make a locale with")
    name = "en_US.ISO-8859-1"
    made = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / name)]
    with watch.known():
        subprocess.run(made, capture_output=True, timeout=60, check=False)
    if not (folder / name).exists():
        pytest.skip("localedef has no en_US")
    return {"LOCPATH": str(folder), "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> Environment:
    """The variables of a real process that works on this test's database."""

    def make(**values: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DATABASE_URL": database_url,
            "NOTIFICATION_SECRET_KEY": SECRET,
            "OTP_PEPPER": PEPPER,
            "EMAIL_SENDER": "hello@acme.example",
            "POSTMARK_SERVER_TOKEN": "sandbox-token",
            "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
            "TWILIO_AUTH_TOKEN": "sandbox-token",
            "TWILIO_FROM_NUMBER": "+15005550006",
            "QUIET_HOURS": "00:00-00:00",
            # No test asks the real providers; what needs one names its own.
            **dict.fromkeys(("POSTMARK_API_URL", "TWILIO_API_URL", "STRIPE_API_URL"), "http://127.0.0.1:9"),
            **values,
        }

    return make


@pytest.fixture(scope="session")
def exhaustive() -> None:
    """For a test that tries a great many cases, in seconds: `make test-fast` leaves it out."""


@pytest.fixture(scope="session")
def seed() -> int:
    """Of whatever a test draws by itself: the same in each run, unless NOTIFYCTL_TEST_SEED is another."""
    return SEED


@pytest.fixture(scope="session")
def warm_parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmParent | None]:
    if sys.platform != "linux":
        yield None
        return
    parent = WarmParent(tmp_path_factory.mktemp("warm-parent"))
    yield parent
    parent.close()


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path, warm_parent: WarmParent | None) -> Iterator[Processes]:
    """The only way for a test to start a program."""
    # They are emptied, or end, once nobody writes to them any more.
    for database in ("database_url", "empty_database_url"):
        if database in request.fixturenames:
            request.getfixturevalue(database)
    started = Processes(tmp_path, warm_parent)
    yield started
    started.end()


@pytest.fixture
def pooled(database_url: str, processes: Processes) -> Pooled:
    """Ways to this test's PostgreSQL through a real PgBouncer."""
    if PROGRAM is None:
        pytest.skip(ABSENT)
    return partial(start_pooler, database_url, processes)


@pytest.fixture(params=SET_UPS)
def set_up(
    request: pytest.FixtureRequest, database_url: str, kept_database: KeptDatabase, postgres_server: PostgresServer
) -> Iterator[SetUp]:
    """Each way in which PostgreSQL is run; which of them, a test may say by parametrizing it. Asked for beside
    `processes`, whose programs end first.
    """
    match request.param:
        case "direct":
            yield SetUp(database_url)
        case "pooled":
            yield SetUp(request.getfixturevalue("pooled")("transaction"))
        case "promoted":
            with promoted(postgres_server, kept_database) as made:
                yield made


@pytest.fixture
def notifyctl(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    """Runs a command on this test's database: in this process, with the real program's error boundary."""

    def run(*arguments: str, **variables: str) -> Ran:
        for name, value in environment(**variables).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return Ran(ended.value.code, *capsys.readouterr())

    root = logging.getLogger("notifyctl")
    before = (list(root.handlers), root.level, root.propagate)
    handlers = {number: signal.getsignal(number) for number in leaks.SIGNALS}
    yield run
    # What a process of its own would have taken along.
    root.handlers[:], level, root.propagate = before
    root.setLevel(level)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    before = leaks.look()
    yield
    left = leaks.left_behind(before, leaks.look())
    assert not left, "The test leaves behind: " + "; ".join(left)


@pytest.fixture(scope="session", autouse=True)
def leaves_no_files() -> Iterator[None]:
    before = leaks.files(ROOT)
    yield
    left = sorted(leaks.files(ROOT) - before)
    assert not left, f"The suite leaves files in the checkout: {', '.join(left)}"
