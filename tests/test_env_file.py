"""One .env file means the same to notifyctl, to systemd's EnvironmentFile and to Docker's --env-file."""

import codecs
import os
import sys
from pathlib import Path

import pytest

from notifyctl import env_file
from notifyctl.errors import ConfigurationError
from notifyctl.settings import Settings, load_settings
from tests.support.processes import Processes
from tests.support.settings import PEPPER, SECRET

SECRETS = f"NOTIFICATION_SECRET_KEY={SECRET}\nOTP_PEPPER={PEPPER}\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str | bytes) -> env_file.EnvFile:
    Path(".env").write_bytes(text.encode() if isinstance(text, str) else text)
    return env_file.read(Path(".env"))


def refused(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigurationError) as refusal:
        read(text)
    return refusal.value.faults


def systemd(text: str) -> dict[str, str]:
    """EnvironmentFile= as systemd.exec(5) describes it, for one statement."""
    name, _, value = text.strip().partition("=")
    value = value.strip()
    taken, quote, i = "", "", 0
    while i < len(value):
        char, rest = value[i], value[i + 1 : i + 2]
        if not quote and not taken and char in "'\"":
            quote = char
        elif quote and char == quote:
            break
        elif char == "\\" and (not quote or (quote == '"' and rest in ('"', "\\", "`", "$"))):
            taken, i = taken + rest, i + 1
        else:
            taken += char
        i += 1
    return {name.strip(): taken}


def docker(text: str) -> dict[str, str]:
    """--env-file: what stands behind the first =, as it is."""
    name, _, value = text.lstrip().partition("=")
    return {name: value}


@pytest.mark.parametrize(
    "line",
    [
        "EMAIL_SENDER=Acme <hello@acme.example>", "A=b=c==", "A=a$b", "A=$HOME", "A=${HOME}", "A=100%", "A=x#y", "A=#x",
        "A=it's", 'A=a"b"', "A=a'b", "A=Größe", "A=a  b", "A=a;b", "A=!x", "A=`date`", "A=$(date)", "A=~/x",
        "DATABASE_URL=postgresql://u:p$w&d@db/n?a=b&c=d", "A=a\u2028b\u0085c\x0bd",
    ],
)  # fmt: skip
def test_a_bare_value_is_what_systemd_and_docker_take(line: str) -> None:
    (name, value), *_ = read(line).values.items()
    assert {name: value} == systemd(line) == docker(line)


@pytest.mark.parametrize(
    "line",
    [
        "A='a $b \"c\" \\ # d'", 'A="a $b # \'c\'"', r'A="a\"b\\c\$d\`e\nf"', "A=''", 'A=""', "A = b", "A=  b  ",
        "  A=b", "A='${HOME}'", 'A="${HOME}"', "A='Acme, Inc. <a@b.example>'",
    ],
)  # fmt: skip
def test_what_docker_refuses_or_keeps_in_quotes_is_what_systemd_takes(line: str) -> None:
    assert read(line).values == {name: value for name, value in systemd(line).items() if value}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SMS_ENABLED", "is not NAME=VALUE"),
        ("EMAIL_SENDER hello", "is not NAME=VALUE"),
        ("=x", "is not NAME=VALUE"),
        ("A B=c", "is not NAME=VALUE"),
        ("A=s3cret # of the shop", "has a comment behind the value of A"),
        ("A=s3cret\t#x", "has a comment behind the value of A"),
        ('A="s3cret', "begins the value of A with a quote that is not closed"),
        ("A='s3cret\nB=c'", "begins the value of A with a quote that is not closed"),
        ('A="s3cret" # of the shop', "has text behind the closing quote of A"),
        ('A="Acme, Inc." <hello@acme.example>', "has text behind the closing quote of A"),
    ],
)
def test_a_line_that_others_would_take_otherwise_is_refused_and_not_shown(line: str, words: str) -> None:
    fault = refused(f"# a comment\n{line}")[0]
    assert fault.startswith(f".env line 2 {words}")
    assert "s3cret" not in fault


def test_every_such_line_is_listed() -> None:
    assert len(refused("a\nB=c\nd\n")) == 2


def test_export_is_taken_and_told() -> None:
    found = read("export A=b\n")
    assert found.values == {"A": "b"}
    assert found.remarks[1].startswith("A begins with export: systemd passes over such a line, and Docker refuses it")


@pytest.mark.parametrize(("line", "word"), [("A=${HOME}/x", "${…}"), (r"A=a\b", "\\")])
def test_what_others_might_expand_is_told(line: str, word: str) -> None:
    assert word in read(line).remarks[1]


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + "EMAIL_SENDER=Größe <a@b.example>\nHTTP_PORT=81\n".encode(),
        "EMAIL_SENDER=Größe <a@b.example>\r\nHTTP_PORT=81\r\n".encode(),
        "EMAIL_SENDER=Größe <a@b.example>\rHTTP_PORT=81".encode(),
    ],
    ids=["BOM", "CRLF", "CR"],
)
def test_a_file_of_any_editor_is_read(data: bytes) -> None:
    assert read(data).values == {"EMAIL_SENDER": "Größe <a@b.example>", "HTTP_PORT": "81"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("A=b\n".encode("utf-16"), ".env is UTF-16; save it as UTF-8"),
        (b"A=b\n\nC=Gr\xf6\xdfe\n", ".env is not UTF-8 in line 3; save it as UTF-8"),
    ],
)
def test_a_file_that_is_not_utf_8_is_one_line(data: bytes, words: str) -> None:
    assert refused(data) == [words]


def test_names_are_taken_in_any_case_the_last_line_counts_and_an_empty_value_is_none() -> None:
    found = read("http_port=1\nHTTP_PORT=2\nA=b\nA=\n; a comment\n#C=d\n")
    assert found.values == {"HTTP_PORT": "2"}


@pytest.mark.parametrize("locale", ["C", "en_US.ISO-8859-1"])
@pytest.mark.parametrize("where", ["environment", "file"])
def test_the_locale_says_nothing_about_a_value(
    locale: str, where: str, locales: dict[str, str], processes: Processes
) -> None:
    sender = "Größe <a@b.example>"
    text = SECRETS + (f"EMAIL_SENDER={sender}\n" if where == "file" else "")
    Path(".env").write_text(text, encoding="utf-8")
    code = "from notifyctl.settings import load_settings; print(ascii(load_settings().email_sender))"
    variables = {"PATH": os.environ["PATH"], "LC_ALL": locale, **locales}
    if where == "environment":
        variables["EMAIL_SENDER"] = sender
    ran = processes.run(sys.executable, "-c", code, env=variables)
    assert (ran.returncode, ran.stdout.strip()) == (0, ascii(sender))


@pytest.mark.parametrize("value", ['"app.example"', "'app.example'"])
def test_a_value_that_comes_in_quotes_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(SECRETS)
    monkeypatch.setenv("OTP_DOMAIN", value)
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    (fault,) = refusal.value.faults
    assert fault.startswith("OTP_DOMAIN is in quotes")
    assert "Docker" in fault


@pytest.mark.parametrize(("name", "meant"), [("POSTMARK_SERVER_TOKN", "POSTMARK_SERVER_TOKEN"), ("TZ", None)])
def test_an_unknown_name_of_the_file_is_told(name: str, meant: str | None) -> None:
    Path(".env").write_text(f"{SECRETS}{name}=x\n")
    given = env_file.RawSettings.read(Path(".env"), [field.upper() for field in Settings.model_fields])
    told = f".env line 3: {name} is no setting of notifyctl and has no effect"
    assert given.remarks() == [f"{told}; did you mean {meant}?" if meant else told]


def test_of_the_environment_only_what_is_misspelt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKN", "x")
    monkeypatch.setenv("STRIPE_PRICE", "x")
    given = env_file.RawSettings.read(None, [field.upper() for field in Settings.model_fields])
    assert given.remarks() == [
        "TWILIO_AUTH_TOKN in the environment is no setting of notifyctl; did you mean TWILIO_AUTH_TOKEN?"
    ]


def test_a_misspelt_name_is_told_beside_what_it_leaves_unset() -> None:
    Path(".env").write_text(SECRETS.replace("OTP_PEPPER", "OTP_PEPER"))
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    missing, misspelt = refusal.value.faults
    assert missing.startswith("OTP_PEPPER is not set")
    assert misspelt.endswith("OTP_PEPER is no setting of notifyctl and has no effect; did you mean OTP_PEPPER?")
