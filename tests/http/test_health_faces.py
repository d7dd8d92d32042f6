"""What each face shows, against figures computed plainly: HTTP, the page, Prometheus, and the terminal's two layouts.

All faces look at the same random histories, at one moment.
"""

import dataclasses
import io
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from notifyctl.bootstrap import Runtime
from notifyctl.cli.health.view import bars, overview
from notifyctl.health import store
from notifyctl.health import summary as health
from notifyctl.health.reports import BucketView, Counts
from notifyctl.http.api.metrics import BOUNDS
from notifyctl.http.api.metrics import gauges as gauges_of
from notifyctl.http.pages.page import count, share, span
from notifyctl.http.pages.sessions import HOME, SIGN_IN
from notifyctl.http.pages.sign_in import FailedSignIns
from notifyctl.models.enums import Channel
from notifyctl.text.durations import duration, iso
from tests.support.api import Api
from tests.support.plain_health import NOW, S, history, plain_series, plain_summary, within, write

HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
HEALTH = "/api/admin/notification-health"
Rows = list[dict[str, Any]]
Figures = dict[str, dict[str, Any]]

pytestmark = pytest.mark.parametrize("size", [0, 30, 400])


@pytest.fixture
def rows(api: Api, app: FastAPI, seed: int, size: int) -> Iterator[Rows]:
    """What is in the database, and the clock stands at NOW."""
    found = history(1_000 * seed + size, size)
    write(api.runtime, found)
    app.state.runtime = dataclasses.replace(api.runtime, clock=lambda: NOW)
    app.state.failed_sign_ins = FailedSignIns()
    yield found
    app.state.runtime = api.runtime


def of_channel(rows: Rows, channel: Channel) -> Rows:
    return [row for row in rows if row["channel"] is channel]


def test_http(api: Api, rows: Rows, reader: str) -> None:
    summary = api.get(f"{HEALTH}/summary?window_minutes=60", reader)
    series = api.get(f"{HEALTH}/timeseries?window_minutes=240&bucket_minutes=15", reader)
    recent = api.get(f"{HEALTH}/recent?limit=7", reader)
    newest = sorted((row["id"] for row in rows), reverse=True)[:7]

    said = {name: summary.json()[name] for name in ("failing", "workers", "installation", "problems")}
    assert summary.text == health.to_json(plain_summary(rows, HOUR) | said)
    assert series.json()["buckets"] == [
        {**bucket, "start": iso(bucket["start"])} for bucket in plain_series(rows, 240, 15)
    ]
    assert [item["id"] for item in recent.json()["items"]] == newest


def test_the_schema_names_what_the_answers_have_in_their_order(api: Api, app: FastAPI, rows: Rows, reader: str) -> None:
    shapes = app.openapi()["components"]["schemas"]
    answers = {
        "Summary": api.get(f"{HEALTH}/summary", reader).json(),
        "Timeseries": api.get(f"{HEALTH}/timeseries", reader).json(),
    }
    answers |= {
        "ChannelHealth": answers["Summary"]["channels"]["SMS"],
        "BucketView": answers["Timeseries"]["buckets"][0],
    }
    if rows:
        answers["RecentMessage"] = api.get(f"{HEALTH}/recent", reader).json()["items"][0]
    for name, answer in answers.items():
        assert list(shapes[name]["properties"]) == list(answer) == shapes[name]["required"]


def test_each_gauge_of_the_summary_is_read_by_prometheus(api: Api, rows: Rows, reader: str) -> None:
    told = health.summary(look(api.runtime), [])
    metrics = api.get("/metrics", reader).text
    gauges = list(gauges_of(told))
    assert ("notifyctl_unconfirmed_messages", "Sent 1 to 24 h ago, without a receipt.", told.unconfirmed) in gauges
    for name, words, value in gauges:
        assert f"# HELP {name} {words}\n# TYPE {name} gauge\n{name} {float(value)}\n" in metrics


def test_the_page(api: Api, rows: Rows, admin: str) -> None:
    with requests.Session() as browser:
        browser.headers.update({"Accept": "text/html", "Origin": api.url})
        browser.post(f"{api.url}{SIGN_IN}", {"key": admin}, allow_redirects=False, timeout=30)
        page = re.sub(r">\s+<", "><", browser.get(f"{api.url}{HOME}?window_minutes=60", timeout=30).text)
    wanted = plain_summary(rows, HOUR)
    buckets = plain_series(rows, 60, 2)

    for channel in Channel:
        [card] = re.findall(
            rf'<section class="card" aria-labelledby="{channel.lower()}-title">.*?</section>', page, re.S
        )
        assert dict(re.findall(r"<dt>(.*?)</dt><dd>(?:<a [^>]*>)?(.*?)(?:</a>)?</dd>", card)) == on_the_page(
            rows, channel, wanted["channels"][channel]
        )
        cells = re.findall(
            r'<time datetime="(.*?)">.*?</time>(?:</a>)?</th><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>', card
        )
        drawn = [(iso(one["start"]), *(count(number) for number in one[channel].values())) for one in buckets]
        assert cells == (drawn if any(any(one[channel].values()) for one in buckets) else [])
    assert listed(page, "top-templates") == [
        (one["template_key"], one["failed"]) for one in wanted["top_failed_templates"]
    ]
    assert listed(page, "top-reasons") == [(one["reason"], one["failed"]) for one in wanted["top_failure_reasons"]]
    assert listed(page, "top-refusals") == [(one["reason"], one["blocked"]) for one in wanted["top_block_reasons"]]
    sent = wanted["otp"]["sent"]
    assert (f"0 verified, {count(sent)} sent in the last hour" in page) is bool(sent)
    waiting = sum(found["pending"] + found["retrying"] for found in wanted["channels"].values())
    assert (f"{count(waiting)} waiting" in page) is bool(waiting)
    oldest = wanted["oldest_pending_seconds"]
    assert (f"oldest due for {span(oldest)}" in page) is bool(oldest)
    assert (f"{count(wanted['unconfirmed'])} without a receipt" in page) is bool(wanted["unconfirmed"])


def on_the_page(rows: Rows, channel: Channel, wanted: dict[str, Any]) -> dict[str, str]:
    throttled = len(within(of_channel(rows, channel), "throttled_at", NOW - HOUR, NOW))
    names = ("sent", "delivered", "failed", "bounced", "blocked", "pending", "retrying", "in_doubt")
    return {name.replace("_", " ").capitalize(): count(wanted[name]) for name in names} | {
        "Failure rate": share(wanted["failure_rate"]) if wanted["sent"] or wanted["failed"] else "–",
        "Throttled": count(throttled),
        "Latency p50": span(wanted["latency_seconds"]["p50"]),
        "Latency p95": span(wanted["latency_seconds"]["p95"]),
    }


def listed(page: str, title: str) -> list[tuple[str, int]]:
    [card] = re.findall(rf'<section class="card" aria-labelledby="{title}">.*?</section>', page, re.S)
    return [(name, int(failed)) for name, failed in re.findall(r'title="(.*?)">.*?<td>(\d+)</td>', card, re.S)]


def test_prometheus(api: Api, rows: Rows, reader: str) -> None:
    families = text_string_to_metric_families(api.get("/metrics", reader).text)
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}
    wanted = Counter[tuple[str, ...]]()
    for row in rows:
        for status, moment in _happened(row):
            if NOW - HOUR <= moment < NOW:
                reason = (row["reason"] or "") if status in (S.FAILED, S.BOUNCED, S.BLOCKED) else ""
                labels = sorted([row["channel"], status, row["template_key"], reason])
                wanted["notifyctl_messages_last_hour", *labels] += 1
        if row["status"] in (S.QUEUED, S.DEFERRED_THROTTLED, S.RETRY_SCHEDULED, S.SENDING, S.IN_DOUBT):
            wanted["notifyctl_queue_messages", *sorted([row["channel"], row["lane"], row["status"]])] += 1

    assert {key: value for key, value in found.items() if key[0] in {key[0] for key in wanted}} == wanted
    for channel in Channel:
        ours = of_channel(rows, channel)
        waits = [
            (row["sent_at"] - row["created_at"]).total_seconds() for row in within(ours, "sent_at", NOW - HOUR, NOW)
        ]
        name = "notifyctl_send_latency_last_hour_seconds"
        for bound in BOUNDS:
            assert found[f"{name}_bucket", *sorted([channel, str(float(bound))])] == sum(
                wait <= bound for wait in waits
            )
        assert found[f"{name}_gcount", channel] == len(waits)
        assert found[f"{name}_gsum", channel] == pytest.approx(sum(waits))
        assert found["notifyctl_throttled_messages_last_hour", channel] == len(
            within(ours, "throttled_at", NOW - HOUR, NOW)
        )
        waiting = [row for row in ours if row["status"] in (S.QUEUED, S.DEFERRED_THROTTLED, S.RETRY_SCHEDULED)]
        due = [(NOW - row["next_attempt_at"]).total_seconds() for row in waiting if row["next_attempt_at"] <= NOW]
        assert found["notifyctl_queue_oldest_due_seconds", channel] == max(due, default=0)
    assert found["notifyctl_unconfirmed_messages",] == plain_summary(rows, HOUR)["unconfirmed"]


def _happened(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if row["sent_at"]:
        yield S.SENT, row["sent_at"]
    if row["delivered_at"]:
        yield S.DELIVERED, row["delivered_at"]
    if row["status"] in (S.FAILED, S.BOUNCED, S.BLOCKED):
        yield row["status"], row["finished_at"]


def test_the_terminal(api: Api, rows: Rows) -> None:
    found = look(api.runtime)
    wanted = plain_summary(rows, HOUR)
    failing = health.summary(found, []).failing
    figures = {
        channel: on_the_terminal(rows, channel, wanted["channels"][channel] | {"failing": failing[channel]})
        for channel in Channel
    }

    narrow = shown(overview(found), 60)
    lines = [" ".join([full, *cells]) for full, *cells in zip(FULL, *figures.values(), strict=True)]
    assert [line for line in narrow if line in lines] == lines
    for columns in (80, 120):
        screen = shown(overview(found), columns)
        assert {" ".join([channel, *cells[:9]]) for channel, cells in figures.items()} <= set(screen)
        assert {" ".join([channel, *cells[9:]]) for channel, cells in figures.items()} <= set(screen)
    screen = shown(overview(found), 200)
    assert {" ".join([channel, *cells]) for channel, cells in figures.items()} <= set(screen)
    lists = " ".join(screen)
    for one in wanted["top_failed_templates"]:
        assert f"{one['failed']} {one['template_key']}" in lists
    for one in wanted["top_failure_reasons"]:
        assert f"{one['failed']} {one['reason']}" in lists
    refusals = " · ".join(f"{one['blocked']} {one['reason']}" for one in wanted["top_block_reasons"])
    assert (f"Blocked {refusals}" in lists) is bool(refusals)
    assert f"{wanted['unconfirmed']} without a receipt" in lists
    sent = wanted["otp"]["sent"]
    assert (f"codes: {sent} sent, 0 verified" in lists) is bool(sent)


FULL = (
    "sent", "delivered", "failed", "failure rate", "bounced", "blocked", "throttled", "latency p50", "latency p95",
    "pending", "retrying", "in doubt", "failing", "limit a minute",
)  # fmt: skip


def on_the_terminal(rows: Rows, channel: Channel, wanted: dict[str, Any]) -> list[str]:
    numbers = {name: f"{value:,}" if value else "·" for name, value in wanted.items() if isinstance(value, int)}
    waited = {name: "·" if value is None else duration(value) for name, value in wanted["latency_seconds"].items()}
    throttled = len(within(of_channel(rows, channel), "throttled_at", NOW - HOUR, NOW))
    cells = (
        numbers
        | waited
        | {
            "rate": f"{wanted['failure_rate']:.1%}" if wanted["failed"] else "·",
            "throttled": f"{throttled:,}" if throttled else "·",
            "limit": {Channel.EMAIL: "60", Channel.SMS: "30"}[channel],
        }
    )
    names = ("sent", "delivered", "failed", "rate", "bounced", "blocked", "throttled", "p50", "p95")
    return [cells[name] for name in (*names, "pending", "retrying", "in_doubt", "failing", "limit")]


def test_the_bars_of_the_terminal(api: Api, rows: Rows) -> None:
    with api.runtime.database.read() as session:
        buckets = health.timeseries(session, NOW, window_minutes=240, bucket_minutes=15).buckets
        retried = store.retried(session, buckets[0].start, QUARTER)
    waiting = Counter(
        (
            row["last_attempt_at"].replace(minute=row["last_attempt_at"].minute // 15 * 15, second=0, microsecond=0),
            row["channel"],
        )
        for row in within(rows, "last_attempt_at", buckets[0].start, buckets[-1].start + QUARTER)
    )
    assert retried == waiting
    screen = [[word for word in line.split() if word[0] not in "█▓"] for line in shown(bars(buckets), 100)]
    plain = plain_series(rows, 240, 15)
    busy = [channel for channel in Channel if any(any(bucket[channel].values()) for bucket in plain)]

    assert [line for line in screen if line and re.fullmatch(r"\d\d:\d\dZ", line[0])] == [
        [
            f"{bucket['start']:%H:%MZ}",
            *(f"{number:,}" if number else "·" for channel in busy or Channel for number in bucket[channel].values()),
        ]
        for bucket in plain
    ]


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_bar_has_what_is_to_be_tried_again_in_a_third_shade(size: int, columns: int) -> None:
    start = NOW.replace(minute=0, second=0, microsecond=0)
    buckets = [BucketView(start, EMAIL=Counts(5, 2, 0), SMS=Counts(0, 0, 0))]
    screen = shown(bars(buckets, {(start, Channel.EMAIL): 3, (start - QUARTER, Channel.SMS): 9}), columns)
    assert screen[0].endswith("█ sent ▓ failed ▒ to be retried")
    assert screen[1].split() == ["EMAIL", "sent", "failed", "retry", "thrott."]
    _, bar, *counts = screen[2].split()
    assert counts == ["5", "2", "3", "·"]
    assert re.fullmatch("█+▓+▒+", bar)
    assert bar.count("▓") < bar.count("▒") < bar.count("█")


def look(runtime: Runtime) -> health.Health:
    with runtime.database.read() as session:
        return health.read_health(session, runtime.settings, NOW, HOUR)


def shown(what: Any, columns: int) -> list[str]:
    """The lines, with one blank where there are several."""
    console = Console(width=columns, file=io.StringIO())
    console.print(what)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
