"""What operators do on the page: as on the command line, confirmed, audited, and never by another site's form."""

import re
from urllib.parse import quote

import pytest
from sqlalchemy import text

from notifyctl.clients.suppressions import suppress
from notifyctl.http.pages.sessions import HOME
from notifyctl.models.enums import AuditAction, Channel, SuppressionReason
from notifyctl.operations import pauses
from notifyctl.operations.pauses import PauseScope
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import RESET, WELCOME, actions, message, send
from tests.support.page_browser import Browser

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def page_of(message_id: str) -> str:
    return f"{HOME}/messages/{message_id}"


def queued(api: Api) -> str:
    a_client(api.runtime)
    return send(api.runtime, "WELCOME_EMAIL", WELCOME).message_id


def failed(api: Api) -> str:
    message_id = queued(api)
    with api.runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'FAILED', finished_at = created_at, attempts = 4"))
    return message_id


def suppressed(api: Api) -> None:
    with api.runtime.database.transaction() as session:
        suppress(
            session, api.runtime.keys, Channel.EMAIL, "acme@client.example", reason=SuppressionReason.INACTIVE,
            actor="postmark", now=api.runtime.clock(),
        )  # fmt: skip


def offered(signed_in: Browser, message_id: str) -> set[str]:
    """The last words of the addresses that its page leads to."""
    page = signed_in.get(page_of(message_id)).text
    return set(re.findall(r'class="quiet" href="[^"]*/(\w+)[?"]', page))


def last_audit(api: Api) -> tuple[str, str]:
    with api.runtime.database.read() as session:
        row = session.execute(text("SELECT action, actor FROM audit_log ORDER BY id DESC LIMIT 1")).one()
    return row.action, row.actor


def test_a_failed_message_is_sent_again_after_a_question(signed_in: Browser, api: Api) -> None:
    message_id = failed(api)
    assert offered(signed_in, message_id) == {"retry", "pause"}
    asked = signed_in.get(f"{page_of(message_id)}/retry")
    assert f"notifyctl messages retry {message_id}" in asked.text
    assert message(api.runtime, message_id).status == "FAILED"

    done = signed_in.submit(f"{page_of(message_id)}/retry")
    assert (done.status_code, done.headers["Location"]) == (303, page_of(message_id))
    assert message(api.runtime, message_id).status == "QUEUED"
    assert actions(api.runtime, message_id)[-1] == AuditAction.OPERATOR_ACTION
    assert "by key:admin" in signed_in.get(page_of(message_id)).text


def test_what_a_gate_would_refuse_stays_failed_and_the_page_says_what_lifts_it(signed_in: Browser, api: Api) -> None:
    message_id = failed(api)
    form = signed_in.get(f"{page_of(message_id)}/retry").text
    suppressed(api)
    assert offered(signed_in, message_id) == {"lift", "pause"}
    refused = signed_in.post(f"{page_of(message_id)}/retry", {"token": token_in(form)})
    assert refused.status_code == 409
    assert "refused by SUPPRESSED now and stays FAILED" in refused.text
    assert "notifyctl suppressions remove EMAIL" in refused.text
    assert message(api.runtime, message_id).status == "FAILED"

    asked = signed_in.get(f"{page_of(message_id)}/lift").text
    assert "a***@client.example is suppressed (INACTIVE by postmark)" in asked
    assert "Postmark itself still suppresses it" in asked
    assert signed_in.submit(f"{page_of(message_id)}/lift").status_code == 303
    assert last_audit(api) == ("SUPPRESSION_REMOVED", "key:admin")
    assert offered(signed_in, message_id) == {"retry", "pause"}


def test_what_to_do_next_is_said_as_the_terminal_says_it(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime, provisioning_status="PENDING")
    blocked = send(api.runtime, "WELCOME_EMAIL", WELCOME).message_id
    page = signed_in.get(page_of(blocked)).text
    command = "<code>notifyctl clients set acme --provisioning COMPLETED</code>"
    assert f"To lift that: {command}, once they are. Then send it anew" in page


def test_a_failed_one_to_a_suppressed_address_says_so_at_once(signed_in: Browser, api: Api) -> None:
    message_id = failed(api)
    suppressed(api)
    assert "Its address is suppressed now (INACTIVE). When that is over" in signed_in.get(page_of(message_id)).text


def test_a_client_that_is_not_there_is_not_offered_to_be_paused(signed_in: Browser, api: Api) -> None:
    known, unknown = queued(api), send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id="nobody").message_id
    assert "Pause its client" in signed_in.get(page_of(known)).text
    assert "Pause its client" not in signed_in.get(page_of(unknown)).text


def test_a_waiting_message_is_canceled(signed_in: Browser, api: Api) -> None:
    message_id = queued(api)
    assert offered(signed_in, message_id) == {"cancel", "pause"}
    assert signed_in.submit(f"{page_of(message_id)}/cancel").status_code == 303
    assert message(api.runtime, message_id).status == "CANCELED"
    assert actions(api.runtime, message_id)[-1] == "NOTIFICATION_CANCELED"
    again = signed_in.get(f"{page_of(message_id)}/cancel").text
    assert "only a waiting message can be canceled" in again
    assert "<form method" not in again.partition("<main")[2]


@pytest.mark.parametrize(
    "scope",
    [PauseScope(channel="EMAIL"), PauseScope(template_key="WELCOME_EMAIL"), PauseScope(client_id="acme")],
    ids=str,
)
def test_it_is_paused_with_a_reason_and_resumed(signed_in: Browser, api: Api, scope: PauseScope) -> None:
    message_id = queued(api)
    query = "&".join(f"{name}={value}" for name, value in vars_of(scope).items())
    wanted = f"{HOME}/pause?{query}&next={page_of(message_id)}"
    assert "1 of them now" in signed_in.get(wanted).text
    without = signed_in.submit(wanted, reason=" ")
    assert (without.status_code, "Say why" in without.text) == (422, True)
    done = signed_in.submit(wanted, reason="wrong link")
    assert (done.status_code, done.headers["Location"]) == (303, page_of(message_id))
    with api.runtime.database.read() as session:
        assert [(pauses.scope_of(row), row.reason) for row in pauses.everything(session)] == [(scope, "wrong link")]
    assert last_audit(api) == ("PAUSED", "key:admin")
    page = signed_in.get(page_of(message_id)).text
    assert "notifyctl resume" in page
    assert "Resume…" in signed_in.get(HOME).text

    assert signed_in.submit(f"{HOME}/resume?{query}").headers["Location"] == HOME
    assert last_audit(api) == ("RESUMED", "key:admin")
    assert signed_in.get(f"{HOME}/resume?{query}").text.count("Nothing is held by just this") == 1


def test_the_reason_of_the_first_who_paused_it_is_told_to_the_second(signed_in: Browser, api: Api) -> None:
    """They have had the page open since before."""
    wanted = f"{HOME}/pause?channel=EMAIL"
    token = token_in(signed_in.get(wanted).text)
    assert signed_in.submit(wanted, reason="wrong link").status_code == 303
    second = signed_in.post(wanted, {"token": token, "reason": "something else"})

    assert (second.status_code, "paused already, by key:admin: wrong link" in second.text) == (409, True)
    assert "<form method" not in signed_in.get(wanted).text.partition("<main")[2]


def test_a_command_to_copy_does_nothing_but_what_it_says(signed_in: Browser, api: Api) -> None:
    """Whatever an id has in it: it comes from callers, who may have it from anybody."""
    foul = "$(reboot);x"
    shown = "notifyctl {} --client &#39;$(reboot);x&#39;"
    a_client(api.runtime, foul, email="anna@acme.example")
    message_id = send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id=foul).message_id
    wanted = f"{HOME}/pause?client_id={quote(foul)}"

    assert shown.format("pause") in signed_in.get(wanted).text
    assert signed_in.submit(wanted, reason="why").status_code == 303
    assert shown.format("resume") in signed_in.get(page_of(message_id)).text
    unknown = send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id="$(halt);").message_id
    assert "notifyctl clients set &#39;$(halt);&#39; --name" in signed_in.get(page_of(unknown)).text


def vars_of(scope: PauseScope) -> dict[str, str]:
    names = ("channel", "template_key", "client_id")
    return {name: value for name in names if (value := getattr(scope, name))}


@pytest.mark.parametrize(
    "query", ["", "channel=FAX", "template_key=NO_SUCH", "client_id=nobody", "next=//evil.example"]
)
def test_what_is_not_there_cannot_be_paused(signed_in: Browser, api: Api, query: str) -> None:
    a_client(api.runtime)
    token = token_in(signed_in.get(f"{HOME}/pause?channel=EMAIL").text)
    answer = signed_in.post(f"{HOME}/pause?{query}", {"token": token, "reason": "why"})
    assert answer.status_code == 422
    with api.runtime.database.read() as session:
        assert not pauses.everything(session)


@pytest.mark.parametrize("token", ["", "0" * 32, "another session's", "\ud800"])
def test_a_form_without_the_token_of_its_session_does_nothing(
    signed_in: Browser, api: Api, admin: str, token: str
) -> None:
    message_id = queued(api)
    if token == "another session's":
        other = Browser(api)
        other.sign_in(admin)
        token = token_in(other.get(f"{page_of(message_id)}/cancel").text)
    body = b"reason=x&token=" + token.encode("utf-8", "surrogatepass")
    places = [f"{page_of(message_id)}/{last}" for last in ("retry", "cancel", "lift", "reveal")]
    places += [f"{HOME}/pause?channel=EMAIL", f"{HOME}/resume?channel=EMAIL"]
    assert {place: signed_in.post(place, body).status_code for place in places} == dict.fromkeys(places, 403)
    assert {place: Browser(api).post(place, body).status_code for place in places} == dict.fromkeys(places, 303)
    assert actions(api.runtime, message_id) == ["NOTIFICATION_QUEUED"]


def token_in(page: str) -> str:
    return re.findall(r'name="token" value="(\w+)"', page)[-1]


def test_what_a_message_said_is_shown_on_demand_and_bound(signed_in: Browser, api: Api) -> None:
    message_id = queued(api)
    before = signed_in.get(page_of(message_id))
    assert "Welcome" not in re.sub("<[^>]*>", "", before.text)
    assert "unsafe-inline" not in before.headers["Content-Security-Policy"]

    shown = signed_in.submit(page_of(message_id), f"{page_of(message_id)}/reveal")
    frame = re.search(r'<iframe[^>]*sandbox=""[^>]*srcdoc="([^"]*)"', shown.text)
    assert frame is not None
    assert frame[1].startswith(
        "&lt;meta http-equiv=&#34;Content-Security-Policy&#34; content=&#34;default-src &#39;none&#39;"
    )
    assert "https://cloud.example/login" in frame[1]
    assert "script-src 'self';" in shown.headers["Content-Security-Policy"]
    assert actions(api.runtime, message_id)[-1] == "OPERATOR_ACTION"

    with api.runtime.database.transaction() as session:
        session.execute(text("DELETE FROM message_payload"))
    gone = signed_in.submit(page_of(message_id), f"{page_of(message_id)}/reveal").text
    assert "Its values are no longer kept" in gone
    assert "<iframe" not in gone


def test_what_was_secret_is_never_shown(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime)
    message_id = send(api.runtime, "PASSWORD_RESET", RESET).message_id
    shown = signed_in.submit(page_of(message_id), f"{page_of(message_id)}/reveal").text
    assert "What it said is secret" in shown
    assert "t0k3n" not in shown
    assert "<iframe" not in shown


def test_an_action_that_there_is_not_is_not_found(signed_in: Browser, api: Api) -> None:
    assert signed_in.get(f"{page_of(queued(api))}/explode").status_code == 404
