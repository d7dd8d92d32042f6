import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from notifyctl.errors import ExitCode, InvalidInput
from notifyctl.sandbox import Sandbox
from tests.support.processes import Processes


def send_email(sandbox: Sandbox, **changes: Any) -> requests.Response:
    email = {
        "From": "hello@example.com",
        "To": "ada@a.test",
        "Subject": "Welcome",
        "TextBody": "Hello",
        **changes,
    }
    headers = {"X-Postmark-Server-Token": "any"}
    return requests.post(f"{sandbox.url}/email", json=email, headers=headers, timeout=5)


def send_sms(sandbox: Sandbox, **changes: str) -> requests.Response:
    form = {"To": "+14155550123", "From": "+15005550006", "Body": "Your code is 123456.", **changes}
    url = f"{sandbox.url}/2010-04-01/Accounts/AC1/Messages.json"
    return requests.post(url, data=form, auth=("AC1", "any"), timeout=5)


def page(sandbox: Sandbox, path: str = "/", **query: Any) -> requests.Response:
    answer = requests.get(f"{sandbox.url}{path}", params=query, timeout=5)
    assert answer.status_code == 200
    return answer


def test_the_inbox_lists_emails_and_sms_newest_first(sandbox: Sandbox) -> None:
    send_email(sandbox, To="ada@a.test")
    send_sms(sandbox)
    send_email(sandbox, To="grace@b.test")

    html = page(sandbox).text
    assert html.index("grace@b.test") < html.index("+14155550123") < html.index("ada@a.test")


def test_the_inbox_is_filtered_by_channel_and_recipient(sandbox: Sandbox) -> None:
    send_email(sandbox, To="ada@a.test")
    send_email(sandbox, To="grace@b.test")
    send_sms(sandbox)

    only_sms = page(sandbox, channel="SMS").text
    assert "+14155550123" in only_sms
    assert "ada@a.test" not in only_sms
    only_grace = page(sandbox, to="GRACE").text
    assert "grace@b.test" in only_grace
    assert "ada@a.test" not in only_grace


@pytest.mark.parametrize(
    ("words", "shown"), [("GRACE", "grace@b.test"), ("invoice 7", "ada@a.test"), ("spring sale", "grace@b.test")]
)
def test_the_inbox_is_searched_by_recipient_subject_and_text(sandbox: Sandbox, words: str, shown: str) -> None:
    send_email(sandbox, To="ada@a.test", Subject="Invoice 7")
    send_email(sandbox, To="grace@b.test", TextBody="Our spring sale")
    listed = page(sandbox, q=words).text
    assert {name for name in ("ada@a.test", "grace@b.test") if name in listed} == {shown}
    assert "Nothing matches" in page(sandbox, q=f"{words} x").text


def test_older_messages_are_on_the_next_page(sandbox: Sandbox) -> None:
    for number in range(51):
        send_sms(sandbox, Body=f"text {number}.")

    assert "text 0." not in page(sandbox).text
    assert "text 0." in page(sandbox, page=2).text


def test_an_empty_inbox_says_how_to_point_notifyctl_at_it(sandbox: Sandbox) -> None:
    assert f"POSTMARK_API_URL={sandbox.url}" in page(sandbox).text


def test_an_email_is_shown_in_a_frame_without_scripts(sandbox: Sandbox) -> None:
    html = '<head></head><p title="quoted">Hello <script>steal()</script></p>'
    message_id = send_email(sandbox, HtmlBody=html, Tag="WELCOME_EMAIL").json()["MessageID"]

    answer = page(sandbox, f"/inbox/{message_id}")
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in answer.text
    assert "<script>steal" not in answer.text
    assert "&lt;script&gt;steal()" in answer.text
    assert "&lt;head&gt;&lt;base target=&#34;_blank&#34;&gt;&lt;/head&gt;" in answer.text


def test_the_parts_of_an_email_have_tabs(sandbox: Sandbox) -> None:
    message_id = send_email(
        sandbox,
        HtmlBody="<p>Hi</p>",
        TextBody="Plain words",
        Metadata={"message_id": "0190a8f2"},
        Headers=[{"Name": "X-Campaign", "Value": "spring"}],
    ).json()["MessageID"]

    assert "Plain words" in page(sandbox, f"/inbox/{message_id}", tab="text").text
    headers = page(sandbox, f"/inbox/{message_id}", tab="headers").text
    assert "0190a8f2" in headers
    assert "X-Campaign" in headers
    source = page(sandbox, f"/inbox/{message_id}", tab="source").text
    assert "&lt;p&gt;Hi&lt;/p&gt;" in source
    assert "&#34;subject&#34;: &#34;Welcome&#34;" in source


def test_an_sms_is_shown_with_its_encoding_and_segments(sandbox: Sandbox) -> None:
    sid = send_sms(sandbox, Body="ж" * 71).json()["sid"]

    html = page(sandbox, f"/inbox/{sid}").text
    assert "<b>UCS-2</b>encoding" in html
    assert "<b>71</b>characters" in html
    assert "<b>2</b>segments" in html


def test_what_a_message_says_never_becomes_markup(sandbox: Sandbox) -> None:
    attack = '"><script>alert(1)</script>'
    mail_id = send_email(sandbox, Subject=attack, TextBody=attack, Tag=attack, ReplyTo="").json()["MessageID"]
    sms_id = send_sms(sandbox, Body=attack, From=attack, StatusCallback=attack).json()["sid"]

    paths = ["/", f"/inbox/{mail_id}?tab=text", f"/inbox/{mail_id}?tab=headers", f"/inbox/{sms_id}"]
    for path in [*paths, f"/?to={attack}"]:
        assert "<script>alert" not in page(sandbox, path).text


def test_half_a_surrogate_pair_breaks_no_page(sandbox: Sandbox) -> None:
    answer = requests.post(
        f"{sandbox.url}/email",
        data=r'{"From": "a@b.test", "To": "c@d.test", "Subject": "\ud83d", "TextBody": "\ud83d"}',
        headers={"X-Postmark-Server-Token": "any", "Content-Type": "application/json"},
        timeout=5,
    )

    page(sandbox)
    page(sandbox, f"/inbox/{answer.json()['MessageID']}")
    assert page(sandbox, "/inbox.json").json()[0]["subject"] == "\ud83d"


def test_every_page_carries_a_policy_that_lets_nothing_in(sandbox: Sandbox) -> None:
    send_sms(sandbox)

    headers = page(sandbox).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_message_that_is_gone_is_a_page_not_found(sandbox: Sandbox) -> None:
    assert requests.get(f"{sandbox.url}/inbox/nowhere", timeout=5).status_code == 404


def test_the_json_inbox_is_newest_first_filtered_and_limited(sandbox: Sandbox) -> None:
    send_email(sandbox, To="ada@a.test", Subject="first")
    send_email(sandbox, To="ada@a.test", Subject="second")
    send_email(sandbox, To="dada@a.test", Subject="not hers")
    send_sms(sandbox)

    def listed(**query: Any) -> list[str]:
        return [message.get("subject", "SMS") for message in page(sandbox, "/inbox.json", **query).json()]

    assert listed() == ["SMS", "not hers", "second", "first"]
    assert listed(to="ADA@a.test") == ["second", "first"]
    assert listed(channel="EMAIL", limit=1) == ["not hers"]
    assert listed(channel="SMS") == ["SMS"]


def test_counts_hold_what_was_accepted_and_every_call(sandbox: Sandbox) -> None:
    send_email(sandbox)
    send_sms(sandbox)
    send_sms(sandbox, To="+15005550001")

    assert page(sandbox, "/inbox/count.json").json() == {"EMAIL": 1, "SMS": 1, "calls": 3}


def test_emptying_the_inbox_starts_everything_over(sandbox: Sandbox) -> None:
    assert send_email(sandbox, To="busy-1@a.test").status_code == 503
    assert send_email(sandbox, To="busy-1@a.test").status_code == 200

    assert requests.delete(f"{sandbox.url}/inbox", timeout=5).status_code == 204

    assert sandbox.messages() == []
    assert page(sandbox, "/inbox/count.json").json() == {"EMAIL": 0, "SMS": 0, "calls": 0}
    assert send_email(sandbox, To="busy-1@a.test").status_code == 503


def test_beyond_its_limit_the_sandbox_drops_the_oldest_and_goes_on_counting() -> None:
    with Sandbox(keep=2) as sandbox:
        first = send_sms(sandbox, Body="first").json()["sid"]
        send_sms(sandbox, Body="second")
        send_sms(sandbox, Body="third")

        assert [message.text for message in sandbox.messages()] == ["second", "third"]
        assert requests.get(f"{sandbox.url}/inbox/{first}", timeout=5).status_code == 404
        to_her = page(sandbox, "/inbox.json", to="+14155550123").json()
        assert [message["text"] for message in to_her] == ["third", "second"]
        assert page(sandbox, "/inbox/count.json").json()["SMS"] == 3


def test_a_port_that_is_taken_is_named_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=rf"Port {port} on 127\.0\.0\.1 is taken\. .*--port") as refused:
            Sandbox(port=port).__enter__()

    assert refused.value.exit_code is ExitCode.USAGE


RUN = """
from notifyctl.sandbox import run
run("127.0.0.1", 0, ready=lambda url: print(url, flush=True))
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_running_sandbox_answers_until_a_signal_and_exits_cleanly(
    processes: Processes, tmp_path: Path, stop: signal.Signals
) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    process = processes.start(sys.executable, script, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    with requests.Session() as session:
        assert session.get(f"{url}/inbox/count.json", timeout=5).status_code == 200
        process.send_signal(stop)
        output, errors = process.communicate(timeout=10)

    assert (process.returncode, output, errors) == (0, b"", b"")
