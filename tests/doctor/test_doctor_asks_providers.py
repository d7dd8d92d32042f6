"""`doctor` asks all three providers: whether it is they who answer, and what their clocks say."""

from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from notifyctl.clock import system_clock
from notifyctl.doctor import settings_checks
from notifyctl.doctor.check import Check, CheckContext, CheckResult, CheckStatus
from notifyctl.doctor.doctor import examine
from notifyctl.sandbox import Sandbox
from tests.support.scripted_server import Reply, ScriptedServer, closed_port, private_authority
from tests.support.settings import make_settings

CHECKS: dict[str, tuple[Check, str, dict[str, Any]]] = {
    "Postmark": (settings_checks.postmark, "POSTMARK", {"TotalCount": 0, "Messages": []}),
    "Twilio": (settings_checks.twilio, "TWILIO", {"messages": []}),
    "Stripe": (settings_checks.stripe, "STRIPE", {"object": "list", "data": []}),
}
every_provider = pytest.mark.parametrize(("check", "name", "answer"), CHECKS.values(), ids=CHECKS)
REFUSALS = {
    "Postmark": {"ErrorCode": 10, "Message": "Bad or missing API token."},
    "Twilio": {"code": 20003, "message": "Authenticate", "status": 401},
    "Stripe": {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided: sk_test_*****1"}},
}


def finding(check: Check, url: str, **values: object) -> CheckResult:
    urls = {"postmark_api_url": url, "twilio_api_url": url, "stripe_api_url": url}
    settings = make_settings(**{**urls, "stripe_api_key": "sk_test_1", **values})
    (examined,) = examine(CheckContext(settings, Path(".env")), offline=(check,), schema=(), stored=())
    return examined.result


@every_provider
@pytest.mark.parametrize("ahead", [timedelta(), timedelta(seconds=25), -timedelta(seconds=25)], ids=str)
def test_a_provider_whose_clock_is_about_ours_is_ok(
    check: Check, name: str, answer: dict[str, Any], ahead: timedelta
) -> None:
    with Sandbox(clock=lambda: system_clock() + ahead) as sandbox:
        assert finding(check, sandbox.url) == CheckResult()


@every_provider
@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (timedelta(minutes=5), "this host's clock is {} s behind {}'s"),
        (-timedelta(hours=2), "this host's clock is {} s ahead of {}'s"),
    ],
    ids=["behind", "ahead"],
)
def test_a_clock_that_differs_is_a_warning(
    check: Check, name: str, answer: dict[str, Any], ahead: timedelta, words: str
) -> None:
    with Sandbox(clock=lambda: system_clock() + ahead) as sandbox:
        found = finding(check, sandbox.url)
    assert found.status is CheckStatus.WARN
    seconds = abs(ahead).total_seconds()
    assert found.problem in [words.format(f"{s:.0f}", name.title()) for s in (seconds - 1, seconds, seconds + 1)]
    assert "NTP" in found.remedy


@every_provider
def test_the_question_is_one_the_provider_answers_and_changes_nothing(
    check: Check, name: str, answer: dict[str, Any]
) -> None:
    date = {"Date": format_datetime(system_clock(), usegmt=True)}
    with ScriptedServer(Reply(200, answer, date)) as server:
        assert finding(check, server.url) == CheckResult()
    (request,) = server.requests
    assert request.body == b""


@every_provider
def test_an_answer_without_a_date_is_a_warning(check: Check, name: str, answer: dict[str, Any]) -> None:
    with ScriptedServer(Reply(200, answer)) as server:
        found = finding(check, server.url)
    assert (found.status, found.problem) == (CheckStatus.WARN, f"{name.title()} does not say what time it is")


@every_provider
def test_a_key_that_is_refused_fails_by_its_name_and_is_not_shown(
    check: Check, name: str, answer: dict[str, Any]
) -> None:
    with ScriptedServer(Reply(401, REFUSALS[name.title()])) as server:
        found = finding(check, server.url)
    assert found.status is CheckStatus.FAIL
    assert name in found.problem
    assert "HTTP 401" in found.problem
    for secret in ("sandbox-token", "sk_test_1"):
        assert secret not in found.problem + found.remedy


@every_provider
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(301, "", {"Location": "https://127.0.0.1:8443/x"}), CheckStatus.FAIL),
        (Reply(403, "<title>Blocked</title>"), CheckStatus.FAIL),
        (Reply(200, "<title>Sign in</title>"), CheckStatus.FAIL),
        (Reply(200, {"ok": True}), CheckStatus.FAIL),
        (Reply(502, ""), CheckStatus.WARN),
        (Reply(503, {"message": "later"}), CheckStatus.WARN),
    ],
    ids=["redirect", "filter", "login page", "JSON of something else", "502", "503"],
)
def test_something_else_that_answers_is_named_with_its_url_and_setting(
    check: Check, name: str, answer: dict[str, Any], reply: Reply, status: CheckStatus
) -> None:
    with ScriptedServer(reply) as server:
        found = finding(check, server.url)
    assert found.status is status
    assert server.url in found.problem
    assert f"{name}_API_URL" in found.problem + found.remedy


@every_provider
def test_a_provider_that_cannot_be_reached_is_a_warning(check: Check, name: str, answer: dict[str, Any]) -> None:
    found = finding(check, closed_port())
    assert found.status is CheckStatus.WARN
    assert "COULDNT_CONNECT" in found.problem
    assert f"{name}_API_URL" in found.remedy


@every_provider
def test_a_certificate_that_is_not_trusted_is_told_with_the_variable(
    check: Check, name: str, answer: dict[str, Any], tmp_path: Path
) -> None:
    file, tls = private_authority(tmp_path)
    with ScriptedServer(Reply(200, answer), tls=tls) as server:
        found = finding(check, server.url)
        trusting = finding(check, server.url, ssl_cert_file=str(file))
    assert found.status is CheckStatus.WARN
    assert "SSL_CERT_FILE" in found.problem
    assert "does not say what time" in trusting.problem
    gone = finding(check, server.url, ssl_cert_file="/nowhere/ca.pem")
    assert (gone.status, "no such file" in gone.problem) == (CheckStatus.FAIL, True)


@pytest.mark.parametrize(
    ("check", "values", "why"),
    [
        (settings_checks.postmark, {"postmark_server_token": " "}, "POSTMARK_SERVER_TOKEN is not set"),
        (settings_checks.twilio, {"twilio_auth_token": None}, "TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN is not set"),
        (settings_checks.twilio, {"sms_enabled": False}, "SMS_ENABLED is false"),
        (settings_checks.stripe, {"stripe_api_key": None}, "STRIPE_API_KEY is not set"),
    ],
)
def test_what_is_not_set_up_is_not_asked(check: Callable[..., Any], values: dict[str, Any], why: str) -> None:
    assert finding(check, closed_port(), **values) == CheckResult(problem=f"not asked: {why}")
