"""Any span of time by its address, in the viewer's time zone, and a bar that leads to its quarter of an hour."""

import html
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from notifyctl.http.pages.sessions import HOME
from notifyctl.http.pages.span import ZONE_COOKIE, read_span
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import WELCOME, send
from tests.support.page_browser import Browser

ON_SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("since", "until", "bucket", "buckets"),
    [
        ("2026-03-02T11:00Z", "2026-03-02T11:15Z", timedelta(seconds=15), 60),
        ("2026-03-02T12:00", "2026-03-02T12:45", timedelta(minutes=1), 45),  # in Berlin
        ("2026-03-02T10:07:30Z", "2026-03-02T12:00Z", timedelta(minutes=2), 57),
        ("2026-03-01T00:00Z", "2026-03-02T23:00Z", timedelta(hours=1), 47),
        ("2026-03-02T11:59:59Z", "2026-03-02T12:15Z", timedelta(seconds=30), 31),  # has just begun
        ("2026-02-01T00:00Z", "2026-03-02T00:00Z", timedelta(days=1), 29),
    ],
)
def test_a_span_has_buckets_on_round_edges_and_no_more_than_fit(
    since: str, until: str, bucket: timedelta, buckets: int
) -> None:
    span = read_span({"from": since, "to": until}, NOON, BERLIN)
    assert (span.minutes, span.bucket, span.buckets, span.fault) == (None, bucket, buckets, "")
    assert read_span(span.query, NOON, BERLIN) == span
    assert read_span(span.earlier, NOON, BERLIN).until == span.since


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("", "2026-03-02T11:00Z"),
        ("2026-03-02T11:00Z", ""),
        ("2026-03-02T11:00Z", "2026-03-02T11:00Z"),
        ("2026-03-02T13:00Z", "2026-03-02T14:00Z"),
        ("2025-01-01T00:00Z", "2026-03-02T00:00Z"),
        ("0001-01-01T00:00", "9999-12-31T23:59"),
        ("x", "\u0664"),
    ],
)
def test_what_is_no_span_says_so_and_shows_the_last_hour(since: str, until: str) -> None:
    span = read_span({"from": since, "to": until}, NOON, BERLIN)
    assert (span.minutes, span.fault != "") == (60, True)


def test_a_bar_leads_to_its_quarter_of_an_hour_and_from_there_no_further() -> None:
    span = read_span({"window_minutes": "240"}, NOON, BERLIN)
    zoom = span.zoom(NOON - timedelta(minutes=22))
    assert (zoom["from"], zoom["to"]) == ("2026-03-02T11:30:00.000Z", "2026-03-02T11:45:00.000Z")
    assert (zoom["since"], zoom["until"]) == (zoom["from"], zoom["to"])
    assert read_span(zoom, NOON, BERLIN).zoom(NOON - timedelta(minutes=22)) == {}
    day = read_span({"window_minutes": "1440"}, NOON, BERLIN).zoom(NOON - timedelta(minutes=30))
    assert (day["from"], day["to"]) == ("2026-03-02T11:30:00.000Z", "2026-03-02T12:00:00.000Z")


@ON_SQLITE
def test_figures_and_list_are_of_the_span_and_what_is_wrong_is_of_now(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime)
    message_id = send(api.runtime, "WELCOME_EMAIL", WELCOME).message_id
    now = api.runtime.clock()
    with api.runtime.database.transaction() as session:
        session.execute(text("UPDATE message_log SET status = 'FAILED', reason = 'UNKNOWN', finished_at = created_at"))
    page = signed_in.get(f"{HOME}?from={now - timedelta(hours=2):%Y-%m-%dT%H:%MZ}&to={now:%Y-%m-%dT%H:%M:%SZ}").text
    assert "No worker running" in page
    zoomed = html.unescape(re.findall(rf'href="({HOME}\?[^"]*since[^"]*)"', page)[-1])
    there = signed_in.get(zoomed).text
    assert message_id in there
    assert "this span: 0 sent, 1 failed" in there
    assert re.search(r'name="since"[^>]*value="20', there)
    later = signed_in.get(f"{HOME}?from=2026-03-02T12:00Z&to=2026-03-02T13:00Z").text
    assert "No traffic in this span" in later
    assert signed_in.get(f"{HOME}?from=x&to=y").status_code == 422


@ON_SQLITE
def test_all_times_are_in_the_viewers_zone(signed_in: Browser, api: Api) -> None:
    a_client(api.runtime)
    message_id = send(api.runtime, "WELCOME_EMAIL", WELCOME).message_id
    with api.runtime.database.transaction() as session:
        values = "next_attempt_at = '2099-03-02 23:30:00.000000', created_at = '2026-03-02 11:37:00.000000'"
        session.execute(text(f"UPDATE message_log SET {values}"))
    page = f"{HOME}/messages/{message_id}"
    assert "It will be sent at 2099-03-02 23:30:00Z" in signed_in.get(page).text
    signed_in.add_cookie(ZONE_COOKIE, "Europe/Berlin")
    shown = signed_in.get(page).text
    assert "It will be sent at 2099-03-03 00:30:00" in shown
    assert ">2026-03-02 12:37:00</time>" in shown
    assert "Times are Europe/Berlin" in shown
    assert not re.search(r"\d\d:\d\d:\d\dZ", re.sub('"[^"]*"', "", shown))
    listed = signed_in.get(f"{HOME}?since=2026-03-02T12:36").text
    assert "Accepted since (Europe/Berlin)" in listed
    assert message_id in listed
    assert message_id not in signed_in.get(f"{HOME}?since=2026-03-02T12:38").text
    signed_in.add_cookie(ZONE_COOKIE, "Nowhere/<b>")
    assert "2026-03-02 11:37:00Z" in signed_in.get(page).text


def test_a_template_that_there_is_not_is_what_the_form_shows_that_looks_for_it(signed_in: Browser) -> None:
    page = signed_in.get(f"{HOME}?template_key=NO_SUCH_MAIL").text

    assert '<option value="NO_SUCH_MAIL" selected>NO_SUCH_MAIL</option>' in page
    assert "No message matches" in page
