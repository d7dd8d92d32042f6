"""`templates send`: what a template says, sent to whoever works on it, through the pipe and marked as a test."""

import json
from pathlib import Path

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel
from notifyctl.models.message import TEST_TEMPLATES, MessagePayload
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Sandbox
from notifyctl.templates.context import MAX_VALUE_CHARACTERS
from notifyctl.templates.render import Content, Renderer, as_values
from tests.support.command_line import CommandLine
from tests.support.delivery import arrivals
from tests.support.templates import shipped_templates


def test_an_example_arrives_marked_as_a_test(runtime: Runtime, notifyctl: CommandLine, sandbox: Sandbox) -> None:
    """Also of a billing mail, which no client gets but from Stripe."""
    at = {"POSTMARK_API_URL": sandbox.url, "TWILIO_API_URL": sandbox.url, "BRAND_NAME": "Acme"}
    sent = notifyctl("templates", "send", "PAYMENT_FAILED", "--to", "me@acme.example", "--format", "json", **at)
    assert sent.code == 0, sent.err
    assert notifyctl("templates", "send", "OTP_CODE_SMS", "--to", "+4915112345678", **at).code == 0
    assert notifyctl("worker", "--once", "--no-jobs", **at).code == 0

    [mail] = arrivals(sandbox, "me@acme.example")
    assert mail.subject == "[TEST] Your payment did not go through"
    assert "19 March 2026" in mail.text
    file = next(file for file in shipped_templates() if file.template_key == "PAYMENT_FAILED")
    assert "Your payment did not go through</h1>" in mail.html
    assert mail.html.count("<html") == (file.html_body or "").count("<html") == 1
    [sms] = arrivals(sandbox, "+4915112345678")
    assert sms.text.startswith("TEST: Acme: 493817 is your code.")

    shown = json.loads(notifyctl("messages", "show", json.loads(sent.out)["id"], "--format", "json").out)
    assert (shown["template_key"], shown["audience"], shown["source"]) == ("TEMPLATE_TEST", "ADMIN", "cli")
    assert shown["metadata"] == {"template_key": "PAYMENT_FAILED"}
    audited = notifyctl("audit", "list", "--format", "json").out
    assert json.loads(sent.out)["id"] in audited


def test_files_are_tried_before_they_are_seeded(runtime: Runtime, notifyctl: CommandLine, tmp_path: Path) -> None:
    notifyctl("templates", "export", str(tmp_path / "acme"), "WELCOME_EMAIL")
    body = tmp_path / "acme" / "email" / "WELCOME_EMAIL" / "body.txt"
    body.write_text(
        body.read_text().replace('subject = "Your account is ready"', 'subject = "Hello {{ client_name }}"')
    )
    sent = notifyctl(
        "templates", "send", "WELCOME_EMAIL", "--to", "me@acme.example", "--dir", str(tmp_path / "acme"),
        "--set", "client_name=Ann", "--format", "json",
    )  # fmt: skip
    with runtime.database.read() as session:
        payload = session.get(MessagePayload, json.loads(sent.out)["id"])
    assert payload is not None
    assert json.loads(payload.context or "")["subject"] == "Hello Ann"


def test_the_gates_are_asked_as_of_any_message(runtime: Runtime, notifyctl: CommandLine) -> None:
    notifyctl("suppressions", "add", "EMAIL", "me@acme.example")
    refused = notifyctl("templates", "send", "WELCOME_EMAIL", "--to", "me@acme.example")
    assert refused.code == 3
    assert "refused by SUPPRESSED" in refused.err
    assert notifyctl("templates", "send", "WELCOME_EMAIL", "--to", "nobody").code == 3
    assert notifyctl("templates", "send", "WELCOM_EMAIL", "--to", "me@acme.example").code == 4
    assert notifyctl("templates", "send", "WELCOME_EMAIL").code == 2


@pytest.mark.parametrize("key", TEST_TEMPLATES.values())
def test_nothing_else_sends_what_says_whatever_it_is_told(key: str, runtime: Runtime) -> None:
    with (
        pytest.raises(InvalidInput, match="only `notifyctl templates send` sends it"),
        runtime.database.transaction() as session,
    ):
        runtime.orchestrator.send(session, SendRequest(template_key=key, recipient="me@acme.example"))


def test_a_long_page_is_put_together_again_and_a_longer_one_is_told() -> None:
    page = "<html>" + "x" * (2 * MAX_VALUE_CHARACTERS) + "</html>"
    values = as_values("WELCOME_EMAIL", Content("Hello", "Hi", page))
    assert sorted(values) == ["html", "html_2", "html_3", "subject", "text"]
    [test] = [file for file in shipped_templates() if file.template_key == TEST_TEMPLATES[Channel.EMAIL]]
    assert (Renderer().render(test.source, values).html or "").strip() == page
    with pytest.raises(InvalidInput, match="WELCOME_EMAIL has 40,013 characters of HTML, at most 30,000 can be sent"):
        as_values("WELCOME_EMAIL", Content("Hello", "Hi", page + "x" * 20_000))
