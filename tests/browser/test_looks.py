"""What the pages look like to eyes, to screen readers, and on a phone. Pictures are left in the test's folder."""

import json
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import FastAPI

from notifyctl.bootstrap import open_runtime
from notifyctl.models.enums import MessageStatus
from notifyctl.operations import pauses
from notifyctl.sandbox import Sandbox
from tests.browser.chromium import Tab
from tests.browser.scenes import a_bad_hour, a_good_day, a_message, a_story, write
from tests.browser.signing_in import HOME
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import WELCOME, send
from tests.support.settings import make_settings

LONG = "A_TEMPLATE_KEY_THAT_GOES_ON_AND_ON_" * 3
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def a_very_busy_day(api: Api) -> None:
    """Long names, long errors, and many pauses on top of a bad hour."""
    a_bad_hour(api.runtime)
    now = api.runtime.clock()
    failed = {
        "status": MessageStatus.FAILED, "template_key": LONG[:120], "client_id": "client-" + "x" * 180,
        "recipient": "a" * 60 + "@" + "very-long-domain." * 8 + "example", "reason": "PROVIDER_UNAVAILABLE",
        "error": "it said " + "so and so " * 40, "error_code": "9" * 40,
    }  # fmt: skip
    write(api.runtime, [a_message(now, created_at=now - timedelta(seconds=number), **failed) for number in range(99)])
    with api.runtime.database.transaction() as session:
        for number in range(30):
            scope = pauses.PauseScope(client_id=f"{number}-" + "y" * 150)
            pauses.add(session, scope, reason="z" * 200, actor="cli:" + "w" * 60, now=now)


def bad(api: Api, _app: FastAPI) -> str:
    a_bad_hour(api.runtime)
    return f"{HOME}?window_minutes=240"


def good(api: Api, _app: FastAPI) -> str:
    a_good_day(api.runtime)
    return f"{HOME}?window_minutes=240"


def busy(api: Api, _app: FastAPI) -> str:
    a_very_busy_day(api)
    return f"{HOME}?window_minutes=10080"


def empty(_api: Api, _app: FastAPI) -> str:
    return HOME


def message(api: Api, _app: FastAPI) -> str:
    return f"{HOME}/messages/{a_story(api.runtime)}"


def faulty(_api: Api, _app: FastAPI) -> str:
    return f"{HOME}?recipient=nobody&since=never"


def missing(_api: Api, _app: FastAPI) -> str:
    return f"{HOME}/messages/0198c7b2-0000-7000-8000-000000000000"


def gone(_api: Api, app: FastAPI) -> str:
    app.state.runtime = open_runtime(make_settings(database_url="postgresql://nobody@127.0.0.1:9/none"))
    return HOME


def asking(api: Api, _app: FastAPI) -> str:
    return f"{HOME}/pause?channel=EMAIL"


def a_quarter(api: Api, _app: FastAPI) -> str:
    """Of a bad hour, as a bar leads there."""
    a_bad_hour(api.runtime)
    until = api.runtime.clock() - timedelta(minutes=2)
    since = until - timedelta(minutes=15)
    return f"{HOME}?from={since:%Y-%m-%dT%H:%M}Z&to={until:%Y-%m-%dT%H:%M}Z"


def reference(_api: Api, _app: FastAPI) -> str:
    return "/docs"


def form(_api: Api, _app: FastAPI) -> str:
    return "/admin/login"


Scene = Callable[[Api, FastAPI], str]
SCENES = [good, bad, busy, empty, message, faulty, missing, gone, asking, a_quarter, reference, form]


@pytest.fixture(params=SCENES, ids=lambda scene: scene.__name__)
def scene(request: pytest.FixtureRequest, signed_in: Tab, api: Api, app: FastAPI) -> str:
    """The page of it is open in the tab."""
    make: Scene = request.param
    path = make(api, app)
    signed_in.open(f"{api.url}{path}")
    return make.__name__


WIDTHS = [320, 360, 768, 1024]


def test_a_page_is_for_everyone_by_day_by_night_and_on_a_phone(
    scene: str, signed_in: Tab, axe: str, tmp_path: Path
) -> None:
    """All of it on one opening of the page, which costs more than looking at it."""
    faults = {"headings": headings_out_of_step(signed_in)}
    signed_in.js(f"{axe}; 0")
    for scheme in ("dark", "light"):
        signed_in.prefer(color_scheme=scheme)
        signed_in.picture(tmp_path / f"{scene}-{scheme}.png")
        faults[scheme] = violations(signed_in)
    for width in WIDTHS:
        signed_in.resize(width, 740)
        signed_in.picture(tmp_path / f"{scene}-{width}.png")
        faults[f"{width} pixels wide"] = sticking_out(signed_in, width)
        if width == 360:
            faults["phone"] = violations(signed_in)

    assert {what: found for what, found in faults.items() if found} == {}


def test_what_a_message_said_is_seen_in_its_frame(signed_in: Tab, api: Api, axe: str, tmp_path: Path) -> None:
    a_client(api.runtime, "acme", email="anna@acme.example")
    message_id = send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id="acme").message_id
    signed_in.open(f"{api.url}{HOME}/messages/{message_id}")
    signed_in.click("#reveal")
    signed_in.loaded()
    signed_in.js(f"{axe}; 0")
    faults = {}
    for scheme, width in (("dark", 1280), ("light", 1280), ("light", 390)):
        signed_in.prefer(color_scheme=scheme)
        signed_in.resize(width, 900)
        signed_in.picture(tmp_path / f"words-{scheme}-{width}.png")
        faults[scheme, width] = [*violations(signed_in), *sticking_out(signed_in, width)]
    assert {what: found for what, found in faults.items() if found} == {}
    assert signed_in.js("document.querySelector('iframe.mail').contentDocument") is None  # of nobody's origin
    assert signed_in.js("document.querySelector('iframe.mail').getBoundingClientRect().height") > 400


def test_the_pages_of_the_sandbox_are_for_everyone_too(tab: Tab, sandbox: Sandbox, axe: str, tmp_path: Path) -> None:
    mail = {"From": "hello@acme.example", "To": "anna@acme.example", "Subject": "Welcome", "HtmlBody": "<p>Hello</p>"}
    headers = {"X-Postmark-Server-Token": "any"}
    sent = requests.post(f"{sandbox.url}/email", json=mail, headers=headers, timeout=30).json()["MessageID"]
    tab.open(sandbox.url)
    tab.click("#faults summary")
    tab.fill("#lines", "sms:hang=0.1")
    tab.click("#faults .go")
    tab.loaded()
    faults = {}
    for name, path in (("list", "/"), ("html", f"/inbox/{sent}"), ("source", f"/inbox/{sent}?tab=source")):
        tab.open(f"{sandbox.url}{path}")
        tab.js(f"{axe}; 0")
        for scheme, width in (("dark", 1280), ("light", 1280), ("light", 390)):
            tab.prefer(color_scheme=scheme)
            tab.resize(width, 900)
            tab.picture(tmp_path / f"sandbox-{name}-{scheme}-{width}.png")
            faults[name, scheme, width] = [*violations(tab), *sticking_out(tab, width)]
    assert {what: found for what, found in faults.items() if found} == {}
    tab.open(sandbox.url)
    assert tab.js("document.querySelector('#lines').value") == "sms:hang=0.1"


def violations(tab: Tab) -> list[str]:
    wanted = json.dumps({"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]})
    found: list[dict[str, Any]] = tab.js(f"axe.run(document, {wanted}).then(done => done.violations)")
    return [f"{one['id']}: {node['html'][:150]} {node['failureSummary']}" for one in found for node in one["nodes"]]


def headings_out_of_step(tab: Tab) -> list[int]:
    """Their levels, unless there is one h1, which is the first, and they go down one step at a time."""
    levels: list[int] = tab.js("[...document.querySelectorAll('h1,h2,h3,h4')].map(found => Number(found.localName[1]))")
    is_in_order = all(later - earlier <= 1 for earlier, later in pairwise(levels))
    return [] if levels[:1] == [1] and levels.count(1) == 1 and is_in_order else levels or [0]


def sticking_out(tab: Tab, width: int) -> list[str]:
    """What a page would have to be scrolled sideways for."""
    needed = tab.js("document.documentElement.scrollWidth")
    found: list[str] = tab.js(STICKING_OUT)
    return found if needed <= width else [f"the page is {needed} wide", *found]


STICKING_OUT = """[...document.querySelectorAll('main *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width > 1 && box.right > innerWidth + 1 && !element.parentElement.closest(".cut");
}).map(element => element.outerHTML.slice(0, 120))"""


def test_figures_in_the_millions_fit_their_cards(signed_in: Tab, api: Api, tmp_path: Path) -> None:
    a_good_day(api.runtime, size=80)
    signed_in.open(f"{api.url}{HOME}?window_minutes=240")
    signed_in.js("document.querySelectorAll('dd').forEach(found => { found.textContent = '12,345,678'; })")
    signed_in.js("document.querySelectorAll('.top td').forEach(found => { found.textContent = '12,345,678'; })")
    overlapping = {}
    for width in (360, 900, 1280):
        signed_in.resize(width, 740)
        signed_in.picture(tmp_path / f"millions-{width}.png")
        overlapping[width] = signed_in.js(OVERLAPPING)

    assert overlapping == {360: [], 900: [], 1280: []}


OVERLAPPING = """[...document.querySelectorAll('.card')].flatMap(card => {
  const edge = card.getBoundingClientRect().right;
  const boxes = [...card.querySelectorAll('dd, .top td')].map(found => {
    const range = document.createRange();
    range.selectNodeContents(found);
    return range.getBoundingClientRect();
  });
  return boxes.filter((box, number) => {
    const next = boxes[number + 1];
    return box.right > edge || (next && Math.abs(next.top - box.top) < 2 && next.left < box.right);
  }).map(box => [box.left, box.right, edge]);
})"""


@pytest.mark.parametrize("width", [320, 390, 1100, 1280])
def test_what_a_bad_hour_says_is_not_cut(signed_in: Tab, api: Api, width: int) -> None:
    signed_in.resize(width, 900)
    signed_in.open(f"{api.url}{bad(api, FastAPI())}")
    assert signed_in.text(".top")
    assert signed_in.text(".problem.note")
    cut = "e => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1"
    for selector in (".top :is(th, a)", ".problem p", ".summary"):
        assert signed_in.js(f"[...document.querySelectorAll('{selector}')].filter({cut}).map(e => e.innerText)") == []
    # A browser does not tell of what it cuts within a field: day and minute take this much.
    widths = signed_in.js("[...document.querySelectorAll('.filters [type=datetime-local]')].map(e => e.clientWidth)")
    assert min(widths) > 190


def test_a_dark_page_is_dark(signed_in: Tab, api: Api) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    light = signed_in.js(ground)
    signed_in.prefer(color_scheme="dark")

    assert (light > 600, signed_in.js(ground) < 120) == (True, True)


def test_the_keyboard_reaches_the_content_first_and_shows_where_it_is(signed_in: Tab, api: Api) -> None:
    a_good_day(api.runtime, size=80)
    signed_in.open(f"{api.url}{HOME}")
    signed_in.press("Tab")
    assert signed_in.js("document.activeElement.className") == "skip"
    assert signed_in.js("document.activeElement.getBoundingClientRect().top") >= 0
    signed_in.press("Enter")
    signed_in.until(lambda: signed_in.js("document.activeElement.id") == "content", "the content")
    outlines = []
    for _ in range(12):
        signed_in.press("Tab")
        outlines.append(signed_in.js("getComputedStyle(document.activeElement).outlineStyle"))

    assert set(outlines) == {"solid"}


def test_a_chart_has_its_figures_in_words_and_as_a_table(signed_in: Tab, api: Api) -> None:
    a_good_day(api.runtime)
    signed_in.open(f"{api.url}{HOME}?window_minutes=240")
    words = signed_in.js("document.querySelector('svg[role=img]').getAttribute('aria-label')")
    rows = signed_in.js("document.querySelectorAll('#figures-email tbody tr').length")

    assert words.startswith("Email, the last 4 hours: 1,")
    assert "Most were sent from" in words
    assert rows == 48
