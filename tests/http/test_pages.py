import dataclasses
import html
import logging
import re
from datetime import timedelta
from typing import Any

import pytest
import requests
from fastapi import FastAPI
from sqlalchemy import text

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.http import api_keys
from notifyctl.http.pages.sessions import COOKIE, HOME, SIGN_IN, safe_next
from notifyctl.http.pages.sign_in import FailedSignIns
from notifyctl.models.enums import Channel, Scope
from notifyctl.operations import pauses
from notifyctl.orchestrator.requests import Queued
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import WELCOME, actions, send
from tests.support.page_browser import Browser
from tests.support.settings import SECRET, make_settings

OTHER_SECRET = "77aa1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"
NASTY = "<script>alert(1)</script>\"'`{{7*7}}"
CHOSEN = ("status", "reason", "channel", "template_key", "since")
"""Filters that are picked and not written: what is no choice is not filled in again."""


def with_settings(app: FastAPI, runtime: Runtime, **values: Any) -> None:
    app.state.runtime = dataclasses.replace(runtime, settings=runtime.settings.model_copy(update=values))


def accepted(api: Api, client_id: str = "acme") -> str:
    decision = send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id=client_id)
    assert isinstance(decision, Queued)
    return decision.message_id


# Signing in and out


@pytest.mark.parametrize("path", [HOME, f"{HOME}/messages/0198c7b2-0000-7000-8000-000000000000"])
def test_without_a_session_a_page_sends_to_the_form_to_sign_in_on(browser: Browser, path: str) -> None:
    answer = browser.get(path)

    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(SIGN_IN)


def test_the_page_begins_with_the_name_of_the_installation_and_strangers_do_not_read_it(
    browser: Browser, api: Api, admin: str, app: FastAPI, runtime: Runtime
) -> None:
    a_client(runtime)
    with_settings(app, runtime, installation_name="acme-prod")
    assert "acme-prod" not in browser.get(SIGN_IN).text
    browser.sign_in(admin)
    for path in (HOME, f"{HOME}/messages/{accepted(api)}", f"{HOME}/pause?channel=EMAIL"):
        page = browser.get(path).text
        assert " · acme-prod</title>" in page
        assert 'height="24">acme-prod</a>' in page


def test_after_signing_in_one_is_where_one_wanted_to_go(browser: Browser, admin: str) -> None:
    wanted = f"{HOME}?window_minutes=240&status=FAILED"
    form = browser.get(browser.get(wanted).headers["Location"])
    remembered = html.unescape(re.search('name="next" value="([^"]*)"', form.text)[1])  # type: ignore[index]

    assert remembered == wanted
    assert browser.sign_in(admin, next=remembered).headers["Location"] == wanted
    assert browser.get(wanted).status_code == 200


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/admin/notification-health//..\\evil",
        "/admin/notification-health\r\nSet-Cookie: a=b",
        "/admin/notification-healthy",
        "/admin/logout",
        "/api/admin/message-logs",
        "javascript:alert(1)",
        "",
    ],
)
def test_signing_in_leads_to_no_page_but_ours(browser: Browser, admin: str, wanted: str) -> None:
    assert safe_next(wanted) == HOME
    assert browser.sign_in(admin, next=wanted).headers["Location"] == HOME


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites_and_ends(browser: Browser, admin: str) -> None:
    cookie = browser.sign_in(admin).headers["Set-Cookie"]

    assert {part.strip() for part in cookie.split(";")[1:]} == {
        "HttpOnly", "Max-Age=43200", "Path=/", "SameSite=strict",
    }  # fmt: skip
    assert admin not in cookie


def test_the_cookie_is_secure_where_the_public_address_is(app: FastAPI, browser: Browser, api: Api, admin: str) -> None:
    with_settings(app, api.runtime, public_base_url="https://notify.example")

    assert "Secure" in browser.sign_in(admin).headers["Set-Cookie"]


def test_whatever_is_wrong_with_a_key_the_form_says_the_same(browser: Browser, api: Api, admin: str) -> None:
    old = api.key(Scope.ADMIN, name="old", expires_at=api.runtime.clock() - timedelta(seconds=1))
    wrong = ["", "x", f"{admin}x", admin[:-1], api.key(Scope.READ, name="reader"), old, "nfy_1_2", "\ud800", "é" * 500]
    answers = [browser.post(SIGN_IN, b"key=" + key.encode("utf-8", "surrogatepass")) for key in wrong]

    assert {(answer.status_code, answer.content) for answer in answers} == {(401, answers[0].content)}
    assert "does not open the page" in answers[0].text
    assert not any("Set-Cookie" in answer.headers for answer in answers)


@pytest.mark.parametrize("body", [b"", b"key", b"\xff\xfe", b"&" * 1000, b"=" * 1000, b"key=%ff%fe%00"])
def test_a_form_of_any_bytes_is_refused_in_good_order(browser: Browser, body: bytes) -> None:
    assert browser.post(SIGN_IN, body).status_code == 401


def test_a_key_in_the_address_signs_nobody_in(browser: Browser, admin: str) -> None:
    assert browser.get(f"{HOME}?key={admin}").status_code == 303
    assert browser.get(HOME, Authorization=f"Bearer {admin}").status_code == 303


def test_strangers_with_wrong_keys_are_put_off_and_keep_no_admin_out(
    browser: Browser, api: Api, admin: str, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [browser.sign_in(f"x{number}") for number in range(FailedSignIns.MOST)]
    lines = len(caplog.records)
    refused = [browser.sign_in(key) for key in ("x", reader, f"{admin}x") for _ in range(5)]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.status_code for answer in refused} == {429}
    assert all(0 < int(answer.headers["Retry-After"]) <= 60 for answer in refused)
    assert not any("Set-Cookie" in answer.headers for answer in refused)
    assert not [record for record in caplog.records[lines:] if record.message.startswith("sign-in")]
    assert Browser(api).sign_in(admin).headers["Location"] == HOME


def test_signing_out_takes_the_cookie_away_and_ends_what_it_opened(signed_in: Browser, api: Api, admin: str) -> None:
    """Whoever has copied it, from a shared computer or a proxy's log, has nothing."""
    a_client(api.runtime)
    message_id, elsewhere = accepted(api), Browser(api)
    elsewhere.sign_in(admin)
    cookie = signed_in.cookie
    answer = signed_in.post("/admin/logout")
    without = signed_in.get(HOME)
    signed_in.cookie = cookie

    assert (answer.status_code, answer.headers["Location"]) == (303, SIGN_IN)
    assert f'{COOKIE}="";' in answer.headers["Set-Cookie"]
    assert (without.status_code, signed_in.get(HOME).status_code) == (303, 303)
    assert signed_in.post(f"{HOME}/messages/{message_id}/reveal").headers["Location"].startswith(SIGN_IN)
    assert elsewhere.get(HOME).status_code == 200


@pytest.mark.parametrize("cookie", ["", "x", "0" * 32 + ".a.1." + "0" * 32])
def test_signing_out_without_a_session_ends_nobodys(signed_in: Browser, api: Api, cookie: str) -> None:
    stranger = Browser(api)
    stranger.cookie = cookie
    forged = Browser(api)
    forged.cookie = signed_in.cookie[:-1] + ("0" if signed_in.cookie[-1] != "0" else "1")

    assert [one.post("/admin/logout").status_code for one in (stranger, forged)] == [303, 303]
    assert signed_in.get(HOME).status_code == 200


def test_sessions_that_are_over_leave_no_row(app: FastAPI, browser: Browser, api: Api, admin: str) -> None:
    for hours in (0, 1, 13):
        ahead = timedelta(hours=hours)
        app.state.runtime = dataclasses.replace(api.runtime, clock=lambda ahead=ahead: api.runtime.clock() + ahead)
        assert browser.sign_in(admin).status_code == 303
    with api.runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM page_session")).scalar_one() == 1


def test_revoking_the_key_ends_its_sessions_at_once(signed_in: Browser, api: Api) -> None:
    before = signed_in.get(HOME).status_code
    with api.runtime.database.transaction() as session:
        api_keys.revoke(session, "admin", actor="test", now=api.runtime.clock())

    assert (before, signed_in.get(HOME).status_code) == (200, 303)


def test_a_session_ends_after_twelve_hours(app: FastAPI, signed_in: Browser, api: Api) -> None:
    seen = []
    for hours in (11.99, 12.01):
        ahead = timedelta(hours=hours)
        app.state.runtime = dataclasses.replace(api.runtime, clock=lambda ahead=ahead: api.runtime.clock() + ahead)
        seen.append(signed_in.get(HOME).status_code)

    assert seen == [200, 303]


def test_a_session_outlives_the_rotation_of_the_secret_but_not_its_removal(
    app: FastAPI, signed_in: Browser, api: Api
) -> None:
    seen = []
    for secrets in (f"{OTHER_SECRET},{SECRET}", OTHER_SECRET):
        rotated = make_settings(database_url=str(api.runtime.settings.database_url), notification_secret_key=secrets)
        app.state.runtime = dataclasses.replace(api.runtime, settings=rotated)
        seen.append(signed_in.get(HOME).status_code)

    assert seen == [200, 303]


def test_a_cookie_that_was_altered_opens_nothing(signed_in: Browser, api: Api) -> None:
    genuine = signed_in.cookie
    session_id, key_id, expires, mac = genuine.split(".")
    other = api.key(Scope.ADMIN, name="other").split("_")[1]
    altered = [
        f"{'0' * 32}.{key_id}.{expires}.{mac}",
        f"{session_id}.{key_id}.{int(expires) + 1}.{mac}",
        f"{session_id}.{other}.{expires}.{mac}",
        f"{session_id}.{key_id}.{expires}.{mac[:-1]}{'0' if mac[-1] != '0' else '1'}",
        f"{session_id}.{key_id}.{expires}.{'0' * 32}",
        f"{session_id}.{key_id}.{expires}.",
        f"{session_id}.{key_id}.{'9' * 11}.{mac}",
        f"{key_id}.{expires}.{mac}",
        "..",
        "x",
        "%00",
        "a" * 3000,
    ]
    seen = []
    for value in altered:
        signed_in.cookie = value
        seen.append(signed_in.get(HOME).status_code)
    signed_in.cookie = genuine

    assert set(seen) == {303}
    assert signed_in.get(HOME).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None, "http://127.0.0.1:1", "http://[", ""])
def test_forms_of_other_sites_are_refused(signed_in: Browser, api: Api, admin: str, origin: str | None) -> None:
    if origin == "":
        origin = f"{api.url}.evil.example"
    a_client(api.runtime)
    message_id = accepted(api)
    for path in (SIGN_IN, "/admin/logout", f"{HOME}/messages/{message_id}/reveal"):
        answer = signed_in.post(path, {"key": admin}, origin=origin)
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (403, False), path
    assert actions(api.runtime, message_id) == ["NOTIFICATION_QUEUED"]


def test_behind_a_proxy_forms_of_the_public_address_are_taken(
    app: FastAPI, browser: Browser, api: Api, admin: str
) -> None:
    with_settings(app, api.runtime, public_base_url="https://notify.example/base")

    assert browser.post(SIGN_IN, {"key": admin}, origin="https://notify.example").status_code == 303


def test_signing_in_is_logged_by_the_keys_name_and_never_with_the_key(
    browser: Browser, api: Api, admin: str, caplog: pytest.LogCaptureFixture
) -> None:
    reader = api.key(Scope.READ, name="reader")
    with caplog.at_level(logging.INFO, "notifyctl.http"):
        browser.sign_in(reader)
        browser.sign_in("nonsense")
        browser.sign_in(admin)
        pages = browser.get(HOME).text
    lines = [vars(record) for record in caplog.records if record.msg != "request"]

    assert [(line["msg"], line.get("key"), line.get("cause")) for line in lines] == [
        ("sign-in refused", "reader", "lacks the scope admin"),
        ("sign-in refused", None, "unknown"),
        ("signed in", "admin", None),
    ]
    for secret in (admin, reader):
        assert secret.split("_", 2)[2] not in str([vars(record) for record in caplog.records]) + pages


# What a page may do


def test_every_page_loads_nothing_but_our_own_files_and_is_not_kept(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime)
    pages = [SIGN_IN, HOME, f"{HOME}/messages/{accepted(api)}", f"{HOME}/messages/x", "/admin/nothing"]
    for path in pages:
        answer = signed_in.get(path)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy.pop("default-src") == "'none'", path
        assert policy == {
            "style-src": "'self'", "script-src": "'self'", "img-src": "'self'", "connect-src": "'self'",
            "form-action": "'self'", "base-uri": "'none'", "frame-ancestors": "'none'",
        }  # fmt: skip
        assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\bstyle=|\son[a-z]+=|javascript:", answer.text), path
        addresses = re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)
        assert all(found.startswith(("/admin", "#", "?")) or found == "/docs" for found in addresses), path


def test_files_are_kept_for_good_under_the_address_of_their_content(browser: Browser) -> None:
    page = browser.get(SIGN_IN).text
    script = "/admin/static/0/refresh.js"
    addresses = set(re.findall(r'"(/admin/static/[^"]*)"', page))
    kinds = {path.rpartition(".")[2]: browser.get(path) for path in addresses}

    assert {kind: answer.headers["Content-Type"] for kind, answer in kinds.items()} == {
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }
    assert {answer.headers["Cache-Control"] for answer in kinds.values()} == {"public, max-age=31536000, immutable"}
    assert {answer.headers["X-Content-Type-Options"] for answer in kinds.values()} == {"nosniff"}
    assert browser.get(script).headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert browser.get(script).headers["Cache-Control"] == "no-store"
    assert browser.get("/admin/static/0/..%2fsite.py").status_code == 404
    assert browser.get("/admin/static/0/page.py").status_code == 404


def test_an_error_is_a_page_where_a_browser_asks_and_json_elsewhere(signed_in: Browser) -> None:
    paths = {f"{HOME}/messages/x": 422, "/admin/nothing": 404, "/admin/logout": 405}
    for path, status in paths.items():
        page, other = signed_in.get(path), signed_in.get(path, Accept="application/json")
        assert (page.status_code, page.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
        assert (other.status_code, set(other.json())) == (status, {"error", "message"})
        assert html.escape(other.json()["message"]) in page.text
    assert signed_in.get("/api/nothing").headers["Content-Type"] == "application/json"
    assert signed_in.get("/admin/logout").headers["Allow"] == "POST"


def test_a_database_that_is_gone_is_a_page_that_tries_again(app: FastAPI, signed_in: Browser) -> None:
    gone = open_runtime(make_settings(database_url="postgresql://nobody:s3cr3t-w0rd@127.0.0.1:9/none"))
    app.state.runtime = gone
    answer = signed_in.get(HOME)
    posted = signed_in.sign_in("x")
    gone.close()

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert ("/retry.js" in answer.text, f'href="{HOME}"' in answer.text) == (True, True)
    assert (posted.status_code, "/retry.js" in posted.text) == (503, False)
    assert "s3cr3t-w0rd" not in answer.text + posted.text


# What the pages show


def test_the_page_has_what_waits_and_the_messages_behind_it(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime)
    message_id = accepted(api)
    with api.runtime.database.transaction() as session:
        scope = pauses.PauseScope(channel=Channel.EMAIL)
        pauses.add(session, scope, reason="new sender", actor="cli:mira", now=api.runtime.clock())
    page = signed_in.get(HOME).text

    assert "Channel EMAIL is paused" in page
    assert "new sender" in page
    assert f"/messages/{message_id}" in page
    assert "a***@client.example" in page
    assert "acme@client.example" not in page


def test_filters_choose_the_messages_and_are_still_filled_in(signed_in: Browser, api: Api) -> None:
    for name in ("acme", "globex"):
        a_client(api.runtime, name, email=f"{name}@client.example")
    wanted, other = accepted(api, "acme"), accepted(api, "globex")
    queries = {
        "client_id=acme": True, "recipient=ACME%40client.example": True, "status=QUEUED": True, "channel=email": True,
        "template_key=WELCOME_EMAIL": True, "since=2026-01-01T00:00": True, "client_id=nobody": False,
        "status=FAILED": False, "channel=SMS": False, "reason=RATE_LIMITED": False, "since=9000-01-01T00:00": False,
        "recipient=%2B4915112345678": False, "template_key=%00": False, "lane=transactional": True,
        "lane=BULK": False, "until=2026-01-01T00:00": False, "since=2h": True,
    }  # fmt: skip
    shown = {query: f"/messages/{wanted}" in signed_in.get(f"{HOME}?{query}").text for query in queries}
    page = signed_in.get(f"{HOME}?client_id=acme&window_minutes=240").text

    assert shown == queries
    assert f"/messages/{other}" not in page
    assert 'value="acme"' in page
    assert 'name="window_minutes" value="240"' in page


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("recipient=nobody", "Cannot be looked for"),
        ("since=yesterday", "Is not a time"),
        ("since=0001-01-01T00:00", "in the years 1970 to 9998"),
        ("status=CANCELD", "Is unknown; did you mean CANCELED?"),
        ("reason=NO_SUCH", "Is unknown; it is one of"),
        ("channel=FAX", "Is unknown; it is one of EMAIL, SMS"),
        ("client_id=" + "x" * 300, "Has more than 255 characters"),
        ("template_key=a%00b", "or one that it may not have"),
    ],
)
def test_a_filter_that_is_not_understood_shows_nothing_and_says_so_beside_it(
    signed_in: Browser, api: Api, query: str, words: str
) -> None:
    a_client(api.runtime)
    message_id = accepted(api)
    answer = signed_in.get(f"{HOME}?{query}")

    assert answer.status_code == 422
    assert words in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert message_id not in answer.text


def test_older_messages_are_on_further_pages_each_once(signed_in: Browser, api: Api) -> None:
    for number in range(60):
        a_client(api.runtime, f"c{number}", email=f"c{number}@client.example")
    made = [accepted(api, f"c{number}") for number in range(60)]
    seen, path = [], f"{HOME}?template_key=WELCOME_EMAIL"
    while path:
        page = signed_in.get(path).text
        seen.append(list(dict.fromkeys(re.findall(r"/messages/([0-9a-f-]{36})", page))))
        older = re.search(r'rel="next" href="([^"#]*)', page)
        path = html.unescape(older[1]) if older else ""

    assert [len(page) for page in seen] == [25, 25, 10]
    assert [found for page in seen for found in page] == made[::-1]


def test_a_message_that_never_had_a_recipient_is_not_called_erased(signed_in: Browser, api: Api) -> None:
    """That would look as if somebody's data had been removed."""
    message_id = send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id="nobody").message_id
    listed, shown = signed_in.get(HOME).text, signed_in.get(f"{HOME}/messages/{message_id}").text

    assert "CLIENT_UNKNOWN" in listed
    assert "erased" not in listed
    assert "CLIENT_UNKNOWN" in shown
    assert "erased" not in re.sub("<[^>]*>", "", shown)


def test_the_page_of_a_message_explains_it(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime)
    page = signed_in.get(f"{HOME}/messages/{accepted(api)}").text

    assert "It has waited for a worker" in page
    assert "Provisioning completed" in page
    assert "a***@client.example" in page
    assert "acme@client.example" not in page


def test_a_part_of_an_id_leads_to_the_page_of_its_message(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime)
    message_id = accepted(api)
    found = {part: signed_in.get(f"{HOME}/messages/{part}") for part in (message_id[:13], message_id[-8:], "last")}
    assert {answer.headers["Location"] for answer in found.values()} == {f"{HOME}/messages/{message_id}"}
    strange = ("12345", "00000000", "0198c7b2-0000-7000-8000-000000000000", "%ff", "x" * 3_000)
    assert {signed_in.get(f"{HOME}/messages/{text}").status_code for text in strange} == {404, 422}


def test_a_recipient_is_shown_on_demand_and_that_is_audited(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime)
    message_id = accepted(api)
    page = signed_in.submit(f"{HOME}/messages/{message_id}", f"{HOME}/messages/{message_id}/reveal").text
    with api.runtime.database.read() as session:
        last = audit_log.of_message(session, message_id)[-1]

    assert "acme@client.example" in page
    assert (last.action, last.actor) == ("OPERATOR_ACTION", "key:admin")
    assert "@" not in str(last.metadata)
    assert "acme@client.example" not in signed_in.get(f"{HOME}/messages/{message_id}").text


def test_showing_a_recipient_needs_a_session(browser: Browser, api: Api) -> None:
    a_client(api.runtime)
    message_id = accepted(api)

    assert browser.post(f"{HOME}/messages/{message_id}/reveal").status_code == 303
    assert actions(api.runtime, message_id) == ["NOTIFICATION_QUEUED"]


@pytest.mark.parametrize("name", ["status", "reason", "channel", "template_key", "client_id", "recipient", "since"])
def test_what_comes_from_outside_is_text_and_nothing_else(signed_in: Browser, name: str) -> None:
    page = signed_in.get(f"{HOME}?{name}={requests.utils.quote(NASTY)}&before={requests.utils.quote(NASTY)}").text

    assert "<script>alert" not in page
    assert html.escape(NASTY, quote=True)[:20] in page or name in CHOSEN


@pytest.mark.parametrize(
    "window", ["60", "240", "1440", "10080", "0", "-1", "x", "999999999999", "%F0%9F%98%80", "\u0664"]
)
def test_any_window_gives_a_page(signed_in: Browser, window: str) -> None:
    assert signed_in.get(f"{HOME}?window_minutes={window}").status_code == 200
