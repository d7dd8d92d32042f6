"""What a person does with the pages, and what the pages do by themselves."""

import re
from typing import Any

import pytest
from fastapi import FastAPI

from notifyctl.bootstrap import open_runtime
from notifyctl.http import api_keys
from notifyctl.models.enums import MessageStatus
from notifyctl.operations import pauses
from tests.browser.chromium import Chromium, Tab
from tests.browser.scenes import a_bad_hour, a_good_day, a_message, a_story, a_worker, write
from tests.browser.signing_in import HOME, sign_in
from tests.support.api import Api
from tests.support.settings import make_settings

NASTY = "<img src=x onerror=alert(1)><script>alert(2)</script>'\"&lt;"
QUICK = "for (const script of document.querySelectorAll('script[data-seconds]')) script.dataset.seconds = '0.2'"


def hurry(tab: Tab) -> None:
    """From the next page on, refreshes come after 0.2 s instead of ten."""
    source = f"document.addEventListener('readystatechange', () => {{ {QUICK} }})"
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=source)


def shown_moment(tab: Tab) -> str:
    return tab.text("[data-live=moment]")


def test_signing_in_by_keyboard_leads_to_the_page_that_was_asked_for(tab: Tab, api: Api, key: str) -> None:
    tab.open(f"{api.url}{HOME}?window_minutes=1440")
    assert tab.js("document.activeElement.id") == "key"
    tab.call("Input.insertText", text=key)
    tab.press("Enter")
    tab.loaded()

    assert tab.url == f"{api.url}{HOME}?window_minutes=1440"
    assert tab.text("h1") == "Notification health"
    assert tab.text(".windows [aria-current]").endswith("24 h")
    assert tab.js("document.cookie") == "notifyctl_zone=UTC"  # the session's is out of reach
    assert key not in tab.js("document.documentElement.outerHTML")


def test_a_wrong_key_stays_on_the_form_and_is_told_to_screen_readers(tab: Tab, api: Api) -> None:
    sign_in(tab, f"{api.url}{HOME}", "nonsense")

    assert tab.text("[role=alert]").startswith("This key does not open the page")
    assert tab.js("document.querySelector('#key').value") == ""
    assert tab.js("document.activeElement.id") == "key"


def test_times_are_the_viewers_and_a_bar_leads_into_its_quarter_of_an_hour(tab: Tab, api: Api, key: str) -> None:
    a_good_day(api.runtime, size=400)
    tab.call("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    sign_in(tab, f"{api.url}{HOME}?window_minutes=240", key)
    assert shown_moment(tab).endswith(", Asia/Tokyo")
    assert "Z" not in tab.text(".list .when")
    tab.click(".channels .card:first-child a.column:nth-of-type(20)")
    tab.loaded()
    assert "from=" in tab.url
    since, until = (tab.js(f"document.querySelector('#filter-{name}').value") for name in ("since", "until"))
    assert since[:14] == tab.js("document.querySelector('[name=from]').value")[:14]
    assert (int(until[-2:]) - int(since[-2:])) % 60 == 15


def test_signing_out_ends_it(signed_in: Tab, api: Api) -> None:
    signed_in.click(".session button")
    signed_in.loaded()
    assert signed_in.url == f"{api.url}/admin/login"
    signed_in.open(f"{api.url}{HOME}")

    assert "/admin/login" in signed_in.url


def test_what_is_wrong_comes_before_the_figures(signed_in: Tab, api: Api) -> None:
    a_bad_hour(api.runtime)
    signed_in.open(f"{api.url}{HOME}?window_minutes=240")
    headings = signed_in.js("[...document.querySelectorAll('h1, h2')].map(found => found.innerText)")

    assert headings[:4] == ["Notification health", "1 problem", "Email", "SMS"]
    assert "its provider is taken for down" in signed_in.text(".problems")
    assert "39.7%" not in signed_in.text(".problems"), "the monitor's last words"
    assert signed_in.js("document.title").startswith("1 problem")
    assert signed_in.js("document.querySelectorAll('rect.failed').length") > 0


def test_choosing_filters_finds_the_message_and_its_page_tells_its_story(signed_in: Tab, api: Api) -> None:
    a_good_day(api.runtime, size=60)
    message_id = a_story(api.runtime, client_id="hooli", recipient="ben@hooli.example")
    signed_in.open(f"{api.url}{HOME}")
    signed_in.fill("#filter-client_id", "hooli")
    signed_in.press("Enter")
    signed_in.loaded()
    assert signed_in.js("document.querySelectorAll('.list tbody tr').length") == 1
    assert "ben@hooli.example" not in signed_in.text()
    signed_in.click(".list tbody a")
    signed_in.loaded()

    assert signed_in.url.endswith(f"/messages/{message_id}")
    assert "It arrived: Postmark reported delivery" in signed_in.text(".lead")
    steps = signed_in.js("[...document.querySelectorAll('.steps b')].map(found => found.innerText)")
    assert steps == ["Queued", "Retry scheduled", "Retry scheduled", "Sent", "Delivered"]


def test_a_recipient_is_shown_by_a_click_and_not_in_the_address(signed_in: Tab, api: Api) -> None:
    message_id = a_story(api.runtime, recipient="ben@hooli.example")
    signed_in.open(f"{api.url}{HOME}/messages/{message_id}")
    assert "b***@hooli.example" in signed_in.text(".facts")
    signed_in.click("#reveal")
    signed_in.loaded()

    assert "ben@hooli.example" in signed_in.text(".facts")
    assert "ben" not in signed_in.url


def test_it_refreshes_by_itself_and_keeps_focus_scroll_and_what_is_typed(tab: Tab, api: Api, key: str) -> None:
    a_good_day(api.runtime, size=400)
    hurry(tab)
    sign_in(tab, f"{api.url}{HOME}?window_minutes=240", key)
    # Chromium would keep the place by itself; others do not.
    tab.js("document.documentElement.style.overflowAnchor = document.body.style.overflowAnchor = 'none'")
    tab.js("document.querySelector('#figures-email').open = true")
    tab.js("document.querySelector('#filter-client_id').value = 'half typed'")
    tab.js("document.querySelector('.list tbody tr:nth-child(9) a').focus()")
    before, focused = tab.js("scrollY"), tab.js("document.activeElement.href")
    on_screen = tab.js("document.activeElement.getBoundingClientRect().top")
    now = api.runtime.clock()
    with api.runtime.database.transaction() as session:
        pauses.add(session, pauses.PauseScope(client_id="globex"), reason="they asked", actor="cli:mira", now=now)
    write(api.runtime, [a_message(now, client_id="newcomer")])
    tab.until(lambda: "newcomer" in tab.text(".list") and "they asked" in tab.text(".paused"), "what is new")

    assert before > 0
    assert tab.js("document.activeElement.href") == focused
    assert tab.js("document.querySelector('#figures-email').open") is True
    assert tab.js("document.querySelector('#filter-client_id').value") == "half typed"
    moved = abs(tab.js("document.activeElement.getBoundingClientRect().top") - on_screen)
    assert moved < 60  # the row above it, and no more


def test_text_that_is_being_selected_does_not_go_away(tab: Tab, api: Api, key: str) -> None:
    a_good_day(api.runtime, size=40)
    hurry(tab)
    sign_in(tab, f"{api.url}{HOME}?window_minutes=240", key)
    tab.js("getSelection().selectAllChildren(document.querySelector('.list tbody tr td'))")
    write(api.runtime, [a_message(api.runtime.clock(), client_id="newcomer")])
    moment = shown_moment(tab)
    tab.until(lambda: shown_moment(tab) != moment, "a refresh")

    assert tab.js("getSelection().toString()") != ""
    assert "newcomer" not in tab.text(".list")


def test_a_hidden_tab_asks_for_nothing_and_catches_up_when_it_is_seen_again(tab: Tab, api: Api, key: str) -> None:
    hurry(tab)
    sign_in(tab, f"{api.url}{HOME}", key)
    hide(tab, True)
    asked = "performance.getEntriesByType('resource').filter(found => found.initiatorType === 'fetch').length"
    tab.js("new Promise(done => setTimeout(done, 500))")
    before = tab.js(asked)
    tab.js("new Promise(done => setTimeout(done, 1000))")
    while_hidden = tab.js(asked)
    hide(tab, False)
    tab.until(lambda: tab.js(asked) > while_hidden, "a refresh")

    assert while_hidden == before


def hide(tab: Tab, is_hidden: bool) -> None:
    tab.js(
        f"Object.defineProperty(document, 'hidden', {{configurable: true, value: {str(is_hidden).lower()}}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_updates_can_be_paused_and_resumed(tab: Tab, api: Api, key: str) -> None:
    hurry(tab)
    sign_in(tab, f"{api.url}{HOME}", key)
    tab.click("[data-pause]")
    tab.js("new Promise(done => setTimeout(done, 500))")
    moment = shown_moment(tab)
    tab.js("new Promise(done => setTimeout(done, 1500))")
    assert (tab.text("[data-pause]"), shown_moment(tab)) == ("Resume updates", moment)
    tab.click("[data-pause]")
    tab.until(lambda: shown_moment(tab) != moment, "a refresh")


def test_a_refresh_that_fails_says_so_and_keeps_the_figures_and_one_that_succeeds_takes_it_back(
    tab: Tab, api: Api, app: FastAPI, key: str
) -> None:
    a_good_day(api.runtime, size=200)
    hurry(tab)
    sign_in(tab, f"{api.url}{HOME}?window_minutes=240", key)
    figures = tab.text(".main")
    gone = open_runtime(make_settings(database_url="postgresql://nobody@127.0.0.1:9/none"))
    app.state.runtime = gone
    words = tab.until(lambda: tab.text("[data-refresh-status]"), "the failure")
    assert "Not refreshed: the database cannot be used. These are the figures of" in words
    assert tab.text(".main") == figures
    app.state.runtime = api.runtime
    gone.close()
    tab.until(lambda: not tab.text("[data-refresh-status]"), "the recovery")

    assert tab.js("document.documentElement.className") == ""


def test_a_session_that_ends_while_the_page_is_open_says_so(tab: Tab, api: Api, key: str) -> None:
    hurry(tab)
    sign_in(tab, f"{api.url}{HOME}", key)
    with api.runtime.database.transaction() as session:
        api_keys.revoke(session, "operations", actor="test", now=api.runtime.clock())
    words = tab.until(lambda: tab.text("[data-refresh-status]"), "the end of the session")

    assert words == "Your session has ended. Sign in again"
    assert "/login" not in tab.url


def test_a_database_that_is_gone_is_a_page_that_comes_back_by_itself(signed_in: Tab, api: Api, app: FastAPI) -> None:
    gone = open_runtime(make_settings(database_url="postgresql://nobody@127.0.0.1:9/none"))
    app.state.runtime = gone
    signed_in.open(f"{api.url}{HOME}")
    assert signed_in.text("h1") == "No database"
    app.state.runtime = api.runtime
    gone.close()
    signed_in.until(lambda: signed_in.text("h1") == "Notification health", "the page")


def test_all_of_it_works_without_scripts(chromium: Chromium, api: Api, key: str) -> None:
    a_bad_hour(api.runtime)
    a_worker(api.runtime)
    with chromium.tab() as tab:
        tab.without_scripts()
        sign_in(tab, f"{api.url}{HOME}", key)
        assert "1 problem" in tab.text(".summary")
        assert tab.js("getComputedStyle(document.querySelector('[data-pause]')).display") == "none"
        tab.click(".windows li:nth-child(2) a")
        tab.loaded()
        assert "window_minutes=240" in tab.url
        tab.click(".figures summary")
        assert tab.text(".figures td") != ""
        tab.js("document.querySelector('#filter-status').value = 'FAILED'")
        tab.click(".filters .go")
        tab.loaded()
        states = tab.js("[...new Set([...document.querySelectorAll('.list .status')].map(found => found.innerText))]")
        assert states == ["Failed"]
        tab.click(".list tbody a")
        tab.loaded()
        tab.click("#reveal")
        tab.loaded()
        assert "anna.schmidt@acme.example" in tab.text(".facts")
        tab.click(".session button")
        tab.loaded()
        assert tab.url == f"{api.url}/admin/login"


@pytest.mark.parametrize("where", ["list", "message", "form"])
def test_what_others_wrote_is_shown_as_they_wrote_it_and_runs_nowhere(signed_in: Tab, api: Api, where: str) -> None:
    now = api.runtime.clock()
    fields: dict[str, Any] = {
        "status": MessageStatus.FAILED, "client_id": NASTY, "template_key": NASTY, "reason": NASTY, "error": NASTY,
        "error_code": NASTY, "recipient": f"a{NASTY}@acme.example", "subject": NASTY, "source_ref": NASTY,
        "provider_message_id": NASTY, "finished_at": now,
    }  # fmt: skip
    row = a_message(now, **fields)
    write(api.runtime, [row])
    with api.runtime.database.transaction() as session:
        pauses.add(session, pauses.PauseScope(client_id=NASTY), reason=NASTY, actor=NASTY, now=now)
    if where == "form":
        signed_in.open(f"{api.url}{HOME}")
        signed_in.fill("#filter-client_id", NASTY)
        signed_in.click(".filters .go")
        signed_in.loaded()
        assert signed_in.js("document.querySelector('#filter-client_id').value") == NASTY
    else:
        signed_in.open(f"{api.url}{HOME}" + (f"/messages/{row['id']}" if where == "message" else ""))

    assert NASTY in signed_in.text()
    assert signed_in.js("document.querySelectorAll('main img, main script').length") == 0
    assert not re.search("alert", " ".join(signed_in.heard()))
