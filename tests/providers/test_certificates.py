"""Authorities of one's own, for all three providers and by all the usual variables."""

import shutil
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from notifyctl.errors import ProviderError
from notifyctl.models.enums import Channel
from notifyctl.providers.contract import Accepted, LookupMiss, OutboundMessage, Unavailable, UncertainSend
from notifyctl.providers.registry import build_lookups, build_senders
from notifyctl.providers.stripe import build_stripe_api
from notifyctl.settings import Settings, load_settings
from tests.support.scripted_server import Reply, ScriptedServer, private_authority
from tests.support.settings import PEPPER, SECRET, make_settings

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def send_email(settings: Settings) -> str:
    return _send(settings, Channel.EMAIL, "anna@client.example")


def send_sms(settings: Settings) -> str:
    return _send(settings, Channel.SMS, "+15558675310")


def _send(settings: Settings, channel: Channel, recipient: str) -> str:
    sender = build_senders(settings, [channel], 1)[channel]
    sender.submit([OutboundMessage("m1", "T", recipient, "Hello", "Hello")])
    (answer,) = sender.collect(10)
    sender.close()
    if isinstance(answer.result, Accepted):
        return ""
    assert isinstance(answer.result, Unavailable)
    return answer.result.detail


def look_up_email(settings: Settings) -> str:
    return _look_up(settings, Channel.EMAIL)


def look_up_sms(settings: Settings) -> str:
    return _look_up(settings, Channel.SMS)


def _look_up(settings: Settings, channel: Channel) -> str:
    lookup = build_lookups(settings, [channel])[channel]
    finding = lookup.find(UncertainSend("m1", "x", "Hello", timedelta()), held_elsewhere=lambda _: set())
    lookup.close()
    return "" if isinstance(finding, LookupMiss) else getattr(finding, "detail", "?")


def ask_stripe(settings: Settings) -> str:
    with build_stripe_api(settings) as api:
        try:
            api.event("evt_1")
        except ProviderError as error:
            return str(error)
    return ""


CALLS: dict[str, tuple[Callable[[Settings], str], Any]] = {
    "Postmark": (send_email, [{"ErrorCode": 0, "MessageID": "pm-1"}]),
    "Postmark, asked": (look_up_email, {"TotalCount": 0, "Messages": []}),
    "Twilio": (send_sms, {"sid": "SM1", "status": "queued"}),
    "Twilio, asked": (look_up_sms, {"messages": []}),
    "Stripe": (ask_stripe, {"id": "evt_1"}),
}
every_call = pytest.mark.parametrize(("call", "answer"), CALLS.values(), ids=CALLS)


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    return private_authority(tmp_path)


def settings_for(url: str, **values: object) -> Settings:
    urls = {"postmark_api_url": url, "twilio_api_url": url, "stripe_api_url": url}
    return make_settings(**urls, stripe_api_key="sk_test_1", **values)


@every_call
@pytest.mark.parametrize("variable", VARIABLES)
def test_every_call_trusts_the_authority_that_a_variable_names(
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    call: Callable[[Settings], str],
    answer: Any,
) -> None:
    file, tls = authority
    monkeypatch.setenv(variable, str(file))
    with ScriptedServer(Reply(200, answer), tls=tls) as server:
        assert call(settings_for(server.url)) == ""
        assert len(server.requests) == 1


@every_call
def test_without_it_the_error_says_what_is_trusted_and_what_to_set(
    authority: tuple[Path, ssl.SSLContext], call: Callable[[Settings], str], answer: Any
) -> None:
    _, tls = authority
    with ScriptedServer(Reply(200, answer), tls=tls) as server:
        said = call(settings_for(server.url))
        assert server.requests == []
    assert "unable to get local issuer certificate" in said
    assert "trusted: the shipped list of public authorities" in said
    assert "SSL_CERT_FILE" in said
    assert "\n" not in said


@every_call
def test_another_authority_is_named_with_its_variable(
    authority: tuple[Path, ssl.SSLContext], tmp_path: Path, call: Callable[[Settings], str], answer: Any
) -> None:
    _, tls = authority
    other = tmp_path / "other"
    other.mkdir()
    file, _ = private_authority(other)
    with ScriptedServer(Reply(200, answer), tls=tls) as server:
        said = call(settings_for(server.url, curl_ca_bundle=str(file)))
        assert server.requests == []
    assert f"trusted: CURL_CA_BUNDLE {file}" in said


@every_call
def test_a_trusted_certificate_of_another_host_is_refused(
    tmp_path: Path, call: Callable[[Settings], str], answer: Any
) -> None:
    file, tls = private_authority(tmp_path, host="127.0.0.2")
    with ScriptedServer(Reply(200, answer), tls=tls) as server:
        assert call(settings_for(server.url, ssl_cert_file=str(file))) != ""
        assert server.requests == []


@every_call
def test_a_path_may_have_any_letters(
    authority: tuple[Path, ssl.SSLContext], tmp_path: Path, call: Callable[[Settings], str], answer: Any
) -> None:
    file, tls = authority
    folder = tmp_path / "Jürgens Büro 東"
    folder.mkdir()
    moved = shutil.move(file, folder)
    with ScriptedServer(Reply(200, answer), tls=tls) as server:
        assert call(settings_for(server.url, ssl_cert_file=str(moved))) == ""


def test_so_may_the_path_of_the_shipped_list(
    authority: tuple[Path, ssl.SSLContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a virtual environment below such a folder."""
    file, tls = authority
    folder = tmp_path / "a path with ünïcode"
    folder.mkdir()
    monkeypatch.setattr(certifi, "where", lambda: str(shutil.move(file, folder)))
    with ScriptedServer(Reply(200, {"sid": "SM1", "status": "queued"}), tls=tls) as server:
        assert send_sms(settings_for(server.url)) == ""


def test_a_proxy_that_is_itself_reached_by_https_is_trusted_likewise(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, tls = authority
    with ScriptedServer(Reply(201, {"sid": "SM1", "status": "queued"}), tls=tls) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        said = send_sms(settings_for("http://twilio.invalid"))
        assert "SSL_CERT_FILE" in said
        assert send_sms(settings_for("http://twilio.invalid", ssl_cert_file=str(file))) == ""
    assert proxy.requests[0].path.startswith("http://twilio.invalid/")


@every_call
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("kind", ["the system's list", "an empty folder"])
def test_what_any_variable_names_is_trusted_beside_the_others(
    authority: tuple[Path, ssl.SSLContext],
    tmp_path: Path,
    variable: str,
    kind: str,
    call: Callable[[Settings], str],
    answer: Any,
) -> None:
    file, tls = authority
    (tmp_path / "hashed").mkdir()
    images = certifi.where() if kind == "the system's list" else str(tmp_path / "hashed")
    named = {name.lower(): images for name in VARIABLES} | {variable.lower(): str(file)}
    with ScriptedServer(Reply(200, answer), tls=tls) as server:
        assert call(settings_for(server.url, **named)) == ""


@every_call
def test_all_that_are_trusted_are_named_each_once(
    authority: tuple[Path, ssl.SSLContext], tmp_path: Path, call: Callable[[Settings], str], answer: Any
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    file, _ = private_authority(other)
    named = {"ssl_cert_file": certifi.where(), "requests_ca_bundle": certifi.where(), "curl_ca_bundle": str(file)}
    with ScriptedServer(Reply(200, answer), tls=authority[1]) as server:
        said = call(settings_for(server.url, **named))
        assert server.requests == []
    assert f"trusted: SSL_CERT_FILE {certifi.where()} and CURL_CA_BUNDLE {file}; " in said


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_variable_must_name_what_can_be_used(tmp_path: Path, variable: str) -> None:
    named = {name.lower(): certifi.where() for name in VARIABLES} | {variable.lower(): str(tmp_path / "gone")}
    with pytest.raises(ProviderError, match=f"{variable} {tmp_path / 'gone'}: no such file"):
        build_senders(settings_for("https://127.0.0.1:9", **named), list(Channel), 1)


def test_the_env_file_names_it_as_well_as_the_environment(
    authority: tuple[Path, ssl.SSLContext], tmp_path: Path
) -> None:
    file, tls = authority
    env = tmp_path / ".env"
    with ScriptedServer(Reply(200, {"id": "evt_1"}), tls=tls) as server:
        lines = (
            f"SSL_CERT_FILE={file}",
            f"STRIPE_API_URL={server.url}",
            "STRIPE_API_KEY=sk_test_1",
            f"NOTIFICATION_SECRET_KEY={SECRET}",
            f"OTP_PEPPER={PEPPER}",
        )
        env.write_text("\n".join(lines))
        assert ask_stripe(load_settings(env)) == ""


def test_a_folder_of_certificates_does_as_well(authority: tuple[Path, ssl.SSLContext], tmp_path: Path) -> None:
    file, tls = authority
    folder = tmp_path / "hashed"
    folder.mkdir()
    shutil.copy(file, folder / f"{_subject_hash(file)}.0")
    with ScriptedServer(Reply(200, {"sid": "SM1", "status": "queued"}), tls=tls) as server:
        assert send_sms(settings_for(server.url, requests_ca_bundle=str(folder))) == ""


def _subject_hash(file: Path) -> str:
    name = x509.load_pem_x509_certificate(file.read_bytes()).subject
    # OpenSSL hashes the canonical form: text in UTF-8, lower case, without the outer SEQUENCE.
    canonical = x509.Name(
        [x509.NameAttribute(item.oid, str(item.value).lower(), x509.name._ASN1Type.UTF8String) for item in name]
    ).public_bytes()[2:]
    digest = hashes.Hash(hashes.SHA1())
    digest.update(canonical)
    return f"{int.from_bytes(digest.finalize()[:4], 'little'):08x}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("", "has no certificate in PEM form"),
        ("not a certificate", "has no certificate in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n", "has no certificate in PEM form"),
    ],
    ids=["missing", "empty", "text", "broken"],
)
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_file_that_cannot_be_used_is_named_before_anything_is_sent(
    tmp_path: Path, variable: str, content: str | None, words: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    settings = settings_for("https://127.0.0.1:9", **{variable.lower(): f" {file} "})
    builders = (
        lambda: build_senders(settings, list(Channel), 1),
        lambda: build_lookups(settings, list(Channel)),
        lambda: build_stripe_api(settings),
    )
    for build in builders:
        with pytest.raises(ProviderError, match=f"{variable} {file}: {words}"):
            build()
