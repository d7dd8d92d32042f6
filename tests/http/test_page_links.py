"""`notifyctl open`: a link that signs in once, whoever takes it first, and soon not at all."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from time import monotonic

import pytest
import requests
from sqlalchemy import text

from notifyctl.http import api_keys
from notifyctl.http.pages import links
from notifyctl.http.pages.sessions import HOME, SIGN_IN
from notifyctl.models.enums import Scope
from tests.support.api import Api
from tests.support.page_browser import Browser
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.settings import make_settings


def link_of(api: Api, *, ago: timedelta = timedelta()) -> str:
    with api.runtime.database.transaction() as session:
        return f"/admin{links.make(session, actor='cli:mira', now=api.runtime.clock() - ago)}"


def test_a_link_signs_in_once_by_the_name_of_who_made_it(browser: Browser, api: Api) -> None:
    link = link_of(api)
    assert [browser.get(link).status_code for _ in range(3)] == [200] * 3  # a preview uses nothing up
    taken = browser.submit(link, SIGN_IN)
    assert (taken.status_code, taken.headers["Location"]) == (303, HOME)
    assert "cli:mira" in browser.get(HOME).text

    again = Browser(api).submit(link, SIGN_IN)
    assert (again.status_code, "Set-Cookie" in again.headers) == (401, False)
    assert "was used already, or is too old" in again.text
    with api.runtime.database.read() as session:
        rows = session.execute(
            text("SELECT action, actor FROM audit_log WHERE action != 'TEMPLATE_SEEDED' ORDER BY id")
        ).all()
    assert [tuple(row) for row in rows] == [
        ("API_KEY_CREATED", "cli:mira"),
        ("OPERATOR_ACTION", "cli:mira"),
        ("OPERATOR_ACTION", "key:cli:mira"),
    ]


def take(api: Api, code: str) -> int:
    answer = requests.post(
        f"{api.url}{SIGN_IN}", {"code": code}, headers={"Origin": api.url}, timeout=60, allow_redirects=False
    )
    return answer.status_code


def test_of_twenty_who_take_a_link_at_once_one_is_signed_in(browser: Browser, api: Api) -> None:
    code = link_of(api).partition("code=")[2]
    barrier = Barrier(20)

    def at_once(_number: int) -> int:
        barrier.wait(30)
        return take(api, code)

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(at_once, range(20))) == [303] + [401] * 19


def count(api: Api, statement: str) -> int:
    """In a transaction of its own: who is at work is looked at once in each."""
    with api.runtime.database.read() as session:
        return int(session.execute(text(statement)).scalar_one())


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_of_two_who_have_both_seen_a_link_one_is_signed_in(browser: Browser, api: Api) -> None:
    """Each waits for the row when it is let go: whoever looked first and deleted then would have two signed in."""
    code = link_of(api).partition("code=")[2]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with ThreadPoolExecutor(2) as pool:
        with api.runtime.database.transaction() as session:
            session.execute(text("SELECT id FROM page_session FOR UPDATE")).all()
            both = [pool.submit(take, api, code) for _ in range(2)]
            deadline = monotonic() + 30
            while count(api, waiting) < 2:
                assert monotonic() < deadline
        assert sorted(one.result() for one in both) == [303, 401]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("spoil", ["late", "revoked", "another", "as a cookie"])
def test_a_link_that_is_no_good_any_more_signs_nobody_in(browser: Browser, api: Api, spoil: str) -> None:
    link = link_of(api, ago=links.LIFE if spoil == "late" else timedelta())
    fields: dict[str, str] = {}
    if spoil == "revoked":
        with api.runtime.database.transaction() as session:
            api_keys.revoke(session, "cli:mira", actor="test", now=api.runtime.clock())
    elif spoil == "another":
        fields["code"] = "\u20ac"
    elif spoil == "as a cookie":
        browser.cookie = link.partition("code=")[2]
        assert browser.get(HOME).status_code == 303
        return
    assert browser.submit(link, SIGN_IN, **fields).status_code == 401


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_second_link_is_of_the_same_key_and_a_weak_one_is_not_taken(api: Api) -> None:
    link_of(api), link_of(api)
    with api.runtime.database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM api_key")).scalar_one() == 1
        api_keys.revoke(session, "cli:mira", actor="test", now=api.runtime.clock())
    api.key(Scope.READ, name="cli:mira")
    with pytest.raises(links.InvalidInput, match="lacks the scope admin; revoke it"):
        link_of(api)


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({"public_base_url": "https://notify.example"}, "https://notify.example/admin"),
        ({"http_host": "0.0.0.0", "http_port": 8099}, "http://127.0.0.1:8099/admin"),
        ({"http_host": "fd00::1"}, "http://[fd00::1]:8080/admin"),
    ],
)
def test_a_link_leads_to_where_the_server_is(values: dict[str, object], url: str) -> None:
    assert links.page_url(make_settings(**values)) == url


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_open_prints_the_link_alone_and_serve_says_on_a_terminal_where_the_page_is(
    api: Api, browser: Browser, processes: Processes, environment: Environment
) -> None:
    there = environment(PUBLIC_BASE_URL=api.url)
    opened = processes.run(*NOTIFYCTL, "open", env=there)
    assert opened.returncode == 0, opened.stderr
    link = opened.stdout.strip().removeprefix(api.url)
    assert "once, within 10 min" in opened.stderr
    assert browser.submit(link, SIGN_IN).status_code == 303

    ours, its_end = os.openpty()
    process = processes.start(*NOTIFYCTL, "serve", "--port", "0", env=environment(), stdout=its_end, stderr=its_end)
    os.close(its_end)
    screen = b""
    while b"signs you in." not in screen:
        screen += os.read(ours, 65_536)  # fails when the server ends without a word
    process.terminate()
    os.close(ours)
    assert re.search(rb"The page is at http://127\.0\.0\.1:\d+/admin; `notifyctl open` prints a link", screen)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_reference_opens_for_who_has_signed_in_and_asks_a_browser_to(
    signed_in: Browser, api: Api, sender: str
) -> None:
    stranger = Browser(api)
    assert [signed_in.get(path).status_code for path in ("/docs", "/openapi.json")] == [200, 200]
    asked = stranger.get("/docs")
    assert (asked.status_code, asked.headers["Location"]) == (303, f"{SIGN_IN}?next=%2Fdocs")
    assert stranger.get("/docs", Accept="application/json").status_code == 401
    assert stranger.get("/docs", Authorization=f"Bearer {sender}").status_code == 403
    assert signed_in.post(SIGN_IN, {"key": "x", "next": "/docs"}).status_code == 401
    signed_in.post("/admin/logout")
    assert signed_in.get("/openapi.json", Accept="*/*").status_code == 401


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("path", ["/", "/admin", "/admin/"])
def test_the_first_address_that_one_types_leads_to_the_page(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (303, HOME)
