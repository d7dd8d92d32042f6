import os
import stat
import sys
from datetime import time, timedelta
from pathlib import Path

import pytest

from notifyctl.cli.admin import setup
from notifyctl.env_file import find_env_file
from notifyctl.errors import ConfigurationError, NotifyctlError
from notifyctl.settings import Settings, load_settings, parse_rate
from tests.support.processes import Processes
from tests.support.settings import PEPPER, SECRET

ENV_FILE = f"NOTIFICATION_SECRET_KEY={SECRET}\nOTP_PEPPER={PEPPER}\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def faults(env_file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(env_file)
    return refusal.value.faults


def test_without_secrets_nothing_starts_and_both_are_named() -> None:
    (fault,) = faults()
    assert fault.startswith("NOTIFICATION_SECRET_KEY and OTP_PEPPER are not set: ")


def test_in_a_folder_without_an_env_file_one_is_led_to_the_installation_before_a_new_one(tmp_path: Path) -> None:
    """Whoever makes fresh secrets for a store that has others cannot open what is in it."""
    for fault in faults():
        assert f"there is no .env in {tmp_path}" in fault
        assert fault.index("go to the folder of your installation") < fault.index("`notifyctl init`")
        assert "--env-file or NOTIFYCTL_ENV_FILE" in fault


def test_a_file_of_an_installation_above_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"{ENV_FILE}HTTP_PORT=8081\n")
    below = tmp_path / "logs" / "today"
    below.mkdir(parents=True)
    (tmp_path / "logs" / ".env").write_text("DATABASE_URL=postgresql://another.example/program\n")
    monkeypatch.chdir(below)
    assert load_settings().http_port == 8081
    assert find_env_file() == tmp_path / ".env"
    monkeypatch.setenv("NOTIFYCTL_ENV_FILE", "none.env")
    with pytest.raises(ConfigurationError, match=r"NOTIFYCTL_ENV_FILE none\.env: no such file"):
        load_settings()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_above_that_another_user_has_put_there_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(ENV_FILE)
    os.chown(tmp_path / ".env", 65534, 65534)
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    (fault,) = faults()
    assert fault.startswith(
        f"NOTIFICATION_SECRET_KEY and OTP_PEPPER are not set: there is no .env in {below}, nor one of notifyctl above;"
    )
    assert fault.endswith("for a new one, `notifyctl init` writes them")


def test_the_files_of_this_folder_come_before_those_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(ENV_FILE)
    below = tmp_path / "below"
    below.mkdir()
    (below / ".env").write_text(f"NOTIFICATION_SECRET_KEY={SECRET}\n")
    monkeypatch.chdir(below)
    assert faults()[0].startswith("OTP_PEPPER is not set in .env; ")


def test_a_secret_that_the_file_lacks_is_not_made_anew_in_a_file_that_exists() -> None:
    Path(".env").write_text(f"NOTIFICATION_SECRET_KEY={SECRET}\n")
    (fault,) = faults()
    assert fault.startswith("OTP_PEPPER is not set in .env; take it from where your installation has it")
    assert "`notifyctl init --env-file NEW`" in fault


def test_a_folder_that_is_gone_under_us_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "there is no .env in this folder, which is no more" in faults()[0]
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("secret", ["", ",", "short", "changeme" * 8, "a" * 64, "your-secret-key-of-some-length-here"])
def test_an_empty_short_or_sample_secret_is_refused_and_not_shown(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFICATION_SECRET_KEY", secret)
    monkeypatch.setenv("OTP_PEPPER", PEPPER)
    (fault,) = faults()
    assert fault.startswith("NOTIFICATION_SECRET_KEY")
    assert "notifyctl init" in fault
    assert not secret.strip(",") or secret not in fault


def test_every_fault_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv("DATABASE_URL", "mysql://root:hunter2@host/db")
    monkeypatch.setenv("HTTP_PORT", "0")
    monkeypatch.setenv("OTP_SEND_RATE_LIMIT", "often")
    found = faults()
    assert {fault.split()[0] for fault in found} == {"DATABASE_URL", "HTTP_PORT", "OTP_SEND_RATE_LIMIT"}
    assert "hunter2" not in " ".join(found)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://bob:hunter2@host:notaport/db", "has a port that is no number from 1 to 65535"),
        ("postgresql://bob:hunter2@host:0/db", "has a port that is no number from 1 to 65535"),
        ("postgresql+psycopg://bob:hunter2@host:99999/db", "has a port that is no number from 1 to 65535"),
        ("postgres://h:port/d", "has a port that is no number from 1 to 65535"),
        ("postgresql://bob:hunter2@[::1/db", "has a port that is no number from 1 to 65535"),
    ],
)
def test_a_database_url_that_cannot_be_read_is_one_fault_without_its_password(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv("DATABASE_URL", url)
    (fault,) = faults()
    assert fault == f"DATABASE_URL {words}; write postgresql://user:password@host:5432/name"
    assert "hunter2" not in fault


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/db", "postgresql://bob:hun%40ter@[::1]:5432/db?connect_timeout=2", "postgresql:///db",
        "postgresql:///db?host=/var/run", "postgresql://a,b/db",
    ],
)  # fmt: skip
def test_the_usual_spellings_of_a_database_url_are_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv("DATABASE_URL", url)
    assert load_settings().database_url == url


def test_reading_settings_does_not_import_the_database_library(processes: Processes) -> None:
    code = "import sys, notifyctl.settings; sys.exit('sqlalchemy' in sys.modules)"
    assert processes.run(sys.executable, "-c", code).returncode == 0


@pytest.mark.parametrize("name", ["DATABASE_URL", "NOTIFICATION_SECRET_KEY", "EMAIL_SENDER", "QUIET_HOURS"])
def test_a_setting_that_is_not_utf_8_is_one_fault(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv(name, "sqlite:///x\udcff")
    assert faults() == [f"{name} is not UTF-8; write it in UTF-8"]


@pytest.mark.parametrize("text", ["3/" + "9" * 20 + "d", "9" * 5_000 + "/30m"])
def test_a_rate_that_no_clock_can_count_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv("OTP_SEND_RATE_LIMIT", text)
    (fault,) = faults()
    assert fault.startswith(f"OTP_SEND_RATE_LIMIT '{text[:60]}'")
    assert fault.endswith("must be COUNT/WINDOW, for example 3/30m")


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text(f"{ENV_FILE}HTTP_PORT=8081\nHTTP_HOST=0.0.0.0\n")
    monkeypatch.setenv("HTTP_PORT", "8082")
    loaded = load_settings()
    assert (loaded.http_port, loaded.http_host, loaded.http_docs) == (8082, "0.0.0.0", False)


def test_an_env_file_that_was_named_and_is_not_there_is_refused() -> None:
    assert faults(Path("other.env")) == [
        "--env-file other.env: no such file; `notifyctl init --env-file other.env` writes one"
    ]


def test_a_folder_in_the_place_of_an_env_file_is_called_one() -> None:
    Path("settings").mkdir()
    assert faults(Path("settings")) == ["--env-file settings is a folder; name the file in it"]


def test_an_env_file_is_read_more_than_once_so_that_a_pipe_is_refused() -> None:
    os.mkfifo("pipe")
    assert faults(Path("pipe")) == ["--env-file pipe is no file that can be read twice; write it to a file of its own"]


def test_an_env_file_that_the_environment_names_and_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv("NOTIFYCTL_ENV_FILE", "other.env")
    assert faults() == ["NOTIFYCTL_ENV_FILE other.env: no such file; `notifyctl init --env-file other.env` writes one"]
    Path("other.env").write_text(f"{ENV_FILE}HTTP_PORT=8081\n")
    assert load_settings().http_port == 8081
    assert load_settings(Path(".env")).http_port == 8080


def test_an_empty_name_of_an_env_file_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv("NOTIFYCTL_ENV_FILE", "")
    assert load_settings().http_port == 8080


def test_secrets_are_not_in_the_repr() -> None:
    Path(".env").write_text(ENV_FILE)
    shown = repr(load_settings())
    assert SECRET not in shown
    assert PEPPER not in shown


@pytest.mark.parametrize("text", ["3", "0/30m", "3/0m", "3/30", "3/30w", "-3/30m", "3/30m ", "٣/30m"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="COUNT/WINDOW"):
        parse_rate(text)


def test_a_rate_is_a_count_and_a_window() -> None:
    assert parse_rate("3/30m") == (3, timedelta(minutes=30))


def test_a_fresh_env_file_is_private_names_every_setting_once_and_is_valid() -> None:
    setup.write_env_file(Path(".env"))
    text = Path(".env").read_text()
    assert stat.S_IMODE(os.stat(".env").st_mode) == 0o600
    names = [line.lstrip("#").partition("=")[0] for line in text.splitlines() if "=" in line and line[:2] != "# "]
    assert sorted(names) == sorted(name.upper() for name in Settings.model_fields)
    assert load_settings().model_dump() == load_settings(Path(".env")).model_dump()


@pytest.mark.parametrize(("folder", "name"), [("acme-prod", "acme-prod"), ("x" * 33, None), ("a|b", None)])
def test_a_fresh_env_file_names_the_installation_after_its_folder(
    tmp_path: Path, folder: str, name: str | None
) -> None:
    (tmp_path / folder).mkdir()
    setup.write_env_file(Path(folder) / ".env")
    assert load_settings(Path(folder) / ".env").installation_name == name


def test_the_defaults_in_a_fresh_env_file_are_those_in_force() -> None:
    setup.write_env_file(Path(".env"))
    bare = load_settings()
    lines = Path(".env").read_text().splitlines()
    Path(".env").write_text(
        "\n".join(line[1:] if line[:2] not in ("# ", "##") and line[:1] == "#" else line for line in lines)
    )
    assert load_settings() == bare


def test_two_fresh_env_files_have_different_secrets() -> None:
    setup.write_env_file(Path("a.env"))
    setup.write_env_file(Path("b.env"))
    first, second = load_settings(Path("a.env")), load_settings(Path("b.env"))
    secrets = {
        *first.notification_secret_key,
        *second.notification_secret_key,
        *first.otp_pepper,
        *second.otp_pepper,
    }
    assert len(secrets) == 4


def test_an_env_file_that_exists_is_never_overwritten() -> None:
    Path(".env").write_text("KEPT=1\n")
    with pytest.raises(NotifyctlError, match=r"\.env exists already"):
        setup.write_env_file(Path(".env"))
    assert Path(".env").read_text() == "KEPT=1\n"


def test_the_effective_settings_say_where_each_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f"{ENV_FILE}HTTP_PORT=8081\nhttp_host=0.0.0.0\nEMAIL_SENDER=\n")
    monkeypatch.setenv("HTTP_PORT", "nonsense")
    found = {setting.name: (setting.value, setting.source) for setting in setup.effective(Path(".env"))}
    assert list(found) == [name.upper() for name in Settings.model_fields]
    assert found["HTTP_PORT"] == ("nonsense", "environment")
    assert found["HTTP_HOST"] == ("0.0.0.0", ".env")
    assert found["EMAIL_SENDER"] == ("", "default")
    assert found["COMPLIANCE_EXPIRY_WINDOWS"] == ("30,14,7", "default")


def test_the_effective_settings_show_no_secret_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f"NOTIFICATION_SECRET_KEY={SECRET},{PEPPER}\nPOSTMARK_SERVER_TOKEN=token-1\n")
    monkeypatch.setenv("STRIPE_API_URL", "https://user:hunter2@proxy.example:8443/v1")
    found = {setting.name: setting.value for setting in setup.effective(Path(".env"))}
    assert found["NOTIFICATION_SECRET_KEY"] == "set (2 keys)"
    assert found["POSTMARK_SERVER_TOKEN"] == "set"
    assert found["TWILIO_AUTH_TOKEN"] == "not set"
    assert found["STRIPE_API_URL"] == "https://user:***@proxy.example:8443/v1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://bob:hunter2@host/db", "postgresql://bob:***@host/db"),
        ("postgresql://bob:hun@ter/2@host/db", "postgresql://bob:***@host/db"),
        (
            "postgresql://host/db?user=bob&password=hunter2&x=1",
            "postgresql://host/db?user=bob&password=***&x=1",
        ),
        ("mysql://bob:hunter2@host/db", "mysql://bob:***@host/db"),
        ("host=db user=bob password=hunter2 dbname=n", "host=db user=bob password=*** dbname=n"),
        ("password = 'hun ter2' host=db", "password = *** host=db"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("sqlite:////var/lib/n.db", "sqlite:////var/lib/n.db"),
    ],
)
def test_a_password_in_the_database_url_is_masked_also_when_the_url_is_wrong(
    url: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    found = {setting.name: setting.value for setting in setup.effective(Path(".env"))}
    assert found["DATABASE_URL"] == shown


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("QUIET_HOURS", "21-8", "must be HH:MM-HH:MM"),
        ("QUIET_HOURS", "24:00-08:00", "must be HH:MM-HH:MM"),
        ("QUIET_HOURS", "21:00-08:60", "must be HH:MM-HH:MM"),
        ("QUIET_HOURS", "off", "00:00-00:00 is never quiet"),
        ("COMPLIANCE_EXPIRY_WINDOWS", "30,a week", "must be days from 0 to 9999"),
        ("COMPLIANCE_EXPIRY_WINDOWS", "-1", "must be days from 0 to 9999"),
        ("COMPLIANCE_EXPIRY_WINDOWS", ",", "must be days from 0 to 9999"),
        ("LOGIN_URL", "app.example", "URL"),
        ("LOGIN_URL", "https://app.example/{client_id}", "brackets encoded"),
        ("COMPLIANCE_RENEW_URL", "https://app.example/{id}", "brackets encoded"),
        ("COMPLIANCE_RENEW_URL", "https://app.example/a b/{reference}", "blanks"),
        ("COMPLIANCE_RENEW_URL", "ftp://app.example/{reference}", "URL"),
    ],
)
def test_a_setting_of_the_alerts_that_makes_no_sense_is_refused(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv(name, value)
    (fault,) = faults()
    assert fault.startswith(f"{name} ")
    assert words in fault


def test_settings_of_the_alerts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(ENV_FILE)
    monkeypatch.setenv("QUIET_HOURS", "13:30 - 15:00")
    monkeypatch.setenv("COMPLIANCE_EXPIRY_WINDOWS", "7, 30,14,7")
    monkeypatch.setenv("COMPLIANCE_RENEW_URL", "https://app.example/{client_id}/renew?item={reference}")
    settings = load_settings()
    assert settings.quiet_span == (time(13, 30), time(15))
    assert settings.expiry_windows == (30, 14, 7)
    assert settings.compliance_renew_url == "https://app.example/{client_id}/renew?item={reference}"
