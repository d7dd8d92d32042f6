"""The health views over HTTP, beside the command line and beside plain figures."""

import json
import re
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from notifyctl.cli.admin.deploy import Deployment, files_of
from notifyctl.models.enums import Channel
from notifyctl.operations import pauses
from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import CODE, WELCOME, a_worker, send
from tests.support.settings import REAL_PROVIDERS

HEALTH = "/api/admin/notification-health"


@pytest.fixture
def traffic(api: Api) -> Api:
    """Two mails sent, one of them delivered; one failed, one blocked; an SMS throttled and waiting; one pause."""
    for number in range(4):
        a_client(api.runtime, f"c{number}")
        send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number}")
    send(api.runtime, "WELCOME_EMAIL", WELCOME, client_id="c0")
    send(api.runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    now = api.runtime.clock()
    earlier = now - timedelta(seconds=30)
    statements = {
        "UPDATE message_log SET status = 'SENT', sent_at = :now, created_at = :earlier WHERE client_id = 'c0' AND"
        " status = 'QUEUED'",
        "UPDATE message_log SET status = 'DELIVERED', sent_at = :now, delivered_at = :now, finished_at = :now,"
        " created_at = :earlier WHERE client_id = 'c1'",
        "UPDATE message_log SET status = 'FAILED', reason = 'RECIPIENT_INVALID', finished_at = :now"
        " WHERE client_id = 'c2'",
        "UPDATE message_log SET status = 'DEFERRED_THROTTLED', throttled_at = :now WHERE channel = 'SMS'",
    }
    stamp = "%Y-%m-%d %H:%M:%S.%f" if api.runtime.database.is_sqlite else "%Y-%m-%d %H:%M:%S.%f+00"
    with api.runtime.database.transaction() as session:
        for statement in statements:
            session.execute(text(statement), {"now": now.strftime(stamp), "earlier": earlier.strftime(stamp)})
        pauses.add(session, pauses.PauseScope("EMAIL", None, None), reason="audit", actor="cli:anna", now=now)
    return api


def test_the_summary_has_the_right_aggregates(traffic: Api, reader: str) -> None:
    """Health endpoints return the right aggregates."""
    found = traffic.get(f"{HEALTH}/summary?window_minutes=60", reader).json()

    assert found["channels"]["EMAIL"] == {
        "sent": 2, "failed": 1, "delivered": 1, "bounced": 0, "blocked": 1, "failure_rate": 1 / 3,
        "latency_seconds": {"p50": 30.0, "p95": 30.0}, "pending": 1, "retrying": 0, "in_doubt": 0,
    }  # fmt: skip
    assert found["channels"]["SMS"] == {
        "sent": 0, "failed": 0, "delivered": 0, "bounced": 0, "blocked": 0, "failure_rate": 0.0,
        "latency_seconds": {"p50": None, "p95": None}, "pending": 1, "retrying": 0, "in_doubt": 0,
    }  # fmt: skip
    assert found["top_failed_templates"] == [{"template_key": "WELCOME_EMAIL", "failed": 1}]
    assert found["top_failure_reasons"] == [{"reason": "RECIPIENT_INVALID", "failed": 1}]
    assert (found["throttled_count"], found["drain_seconds"], found["unconfirmed"]) == (1, 2, 0)
    assert [(pause["channel"], pause["reason"], pause["held"]) for pause in found["paused"]] == [("EMAIL", "audit", 1)]
    assert found["otp"] == {"sent": 0, "verified": 0}
    assert (found["window_minutes"], found["spikes"]) == (60, [])
    assert datetime.fromisoformat(found["to"]) - datetime.fromisoformat(found["from"]) == timedelta(minutes=60)
    assert found["to"].endswith("Z")


def test_the_timeseries_has_every_bucket(traffic: Api, reader: str) -> None:
    found = traffic.get(f"{HEALTH}/timeseries?window_minutes=240&bucket_minutes=15", reader).json()
    names = ("sent", "failed", "throttled")
    sums = {
        channel: {name: sum(bucket[channel][name] for bucket in found["buckets"]) for name in names}
        for channel in ("EMAIL", "SMS")
    }

    assert len(found["buckets"]) == 16
    assert sums == {
        "EMAIL": {"sent": 2, "failed": 1, "throttled": 0},
        "SMS": {"sent": 0, "failed": 0, "throttled": 1},
    }
    starts = [datetime.fromisoformat(bucket["start"]) for bucket in found["buckets"]]
    assert all(after - before == timedelta(minutes=15) for before, after in pairwise(starts))


def test_recent_masks_recipients_for_all_but_an_admin(traffic: Api, reader: str, admin: str) -> None:
    masked = traffic.get(f"{HEALTH}/recent?limit=3", reader).json()["items"]
    shown = traffic.get(f"{HEALTH}/recent?limit=3", admin).json()["items"]

    assert [item["id"] for item in masked] == [item["id"] for item in shown]
    assert masked[0]["recipient"] == "+49*********78"
    assert shown[0]["recipient"] == "+4915112345678"
    assert list(masked[0]) == [
        "id", "status", "reason", "channel", "template_key", "recipient", "error_code", "error", "attempts",
        "created_at", "sent_at", "finished_at",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        "summary?window_minutes=0", "summary?window_minutes=-5", "summary?window_minutes=999999999",
        "summary?window_minutes=abc", "summary?window_minutes=1.5", "summary?window_minutes=",
        "timeseries?bucket_minutes=0", "timeseries?window_minutes=10080&bucket_minutes=1", "recent?limit=0",
        "recent?limit=1001", "recent?limit=١", "summary?window=5", "timeseries?limit=1", "recent?window_minutes=5",
        "summary?window_minutes=5&window_minutes=60",
    ],
)  # fmt: skip
def test_nonsense_is_422_in_our_shape(api: Api, reader: str, query: str) -> None:
    answer = api.get(f"{HEALTH}/{query}", reader)

    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "message"}


def test_nobody_reads_without_a_key_of_that_scope(api: Api, sender: str) -> None:
    for path in (f"{HEALTH}/summary", f"{HEALTH}/timeseries", f"{HEALTH}/recent", "/metrics"):
        assert api.get(path).status_code == 401
        assert api.get(path, sender).status_code == 403


def test_the_command_line_says_the_same_bytes(traffic: Api, admin: str, notifyctl: CommandLine) -> None:
    pages = {
        "timeseries": ("timeseries", "timeseries"),
        "recent": ("recent --reveal", "recent"),
        "summary": ("summary", "summary"),
    }
    for words, path in pages.values():
        typed = notifyctl("health", *words.split(), "--format", "json", **REAL_PROVIDERS).out
        asked = traffic.get(f"{HEALTH}/{path}", admin).text
        assert _without_clock(typed) == _without_clock(asked)


def _without_clock(body: str) -> list[str]:
    """Every line of the text but those that say when it was asked."""
    clock = ('  "from": ', '  "to": ', '  "oldest_pending_seconds": ')
    return [line for line in body.splitlines(keepends=True) if not line.startswith(clock)]


def test_the_terminal_says_what_is_wrong_first(traffic: Api, notifyctl: CommandLine) -> None:
    said = notifyctl("health")

    assert said.code == 0
    lines = [line for line in said.out.splitlines() if line.strip()]
    assert lines[1].startswith(" WARNING  no worker is running; 2 messages wait; start `notifyctl worker`")
    assert any("channel EMAIL is paused" in line for line in lines)


def test_nothing_wrong_is_said_as_well(api: Api, notifyctl: CommandLine) -> None:
    a_worker(api.runtime)
    assert "nothing is wrong" in notifyctl("health", **REAL_PROVIDERS).out


def test_prometheus_reads_the_same_figures(traffic: Api, reader: str) -> None:
    answer = traffic.get("/metrics", reader)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    counted = {
        (sample.labels["channel"], sample.labels["status"]): sample.value
        for sample in families["notifyctl_messages_last_hour"].samples
    }

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert counted == {
        ("EMAIL", "SENT"): 2, ("EMAIL", "DELIVERED"): 1, ("EMAIL", "FAILED"): 1, ("EMAIL", "BLOCKED"): 1,
    }  # fmt: skip
    depth = {sample.labels["status"]: sample.value for sample in families["notifyctl_queue_messages"].samples}
    assert depth == {"QUEUED": 1, "DEFERRED_THROTTLED": 1}
    [limit] = [
        sample.value
        for sample in families["notifyctl_limit_per_minute"].samples
        if sample.labels["channel"] == Channel.EMAIL
    ]
    assert limit == traffic.runtime.settings.notification_email_per_minute_limit


NO_BASE_UNITS = {"ms", "milliseconds", "minutes", "hours", "days", "percent", "ratio", "kilobytes", "megabytes"}
RESERVED = {"le", "quantile"}


def test_dashboard_and_alerts_ask_for_what_is_exported(traffic: Api, reader: str) -> None:
    exported = set(re.findall(r"^# TYPE (\S+)", traffic.get("/metrics", reader).text, re.MULTILINE))
    files = {**files_of(Deployment.GRAFANA), **files_of(Deployment.PROMETHEUS)}
    asked = {name for text in files.values() for name in re.findall(r"\bnotifyctl_\w+", text)}
    assert len(asked) > 12
    assert {name.removesuffix("_bucket") for name in asked} - exported == set()


def test_the_dashboard_names_labels_that_there_are_and_counts_nothing_once_a_server(traffic: Api, reader: str) -> None:
    a_worker(traffic.runtime)
    of_the_server = {"instance", "job", "exported_job"}
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(traffic.get("/metrics", reader).text):
        for sample in family.samples:
            labels.setdefault(sample.name, set(of_the_server)).update(sample.labels)
    [board] = files_of(Deployment.GRAFANA).values()
    targets = [target for panel in json.loads(board)["panels"] for target in panel.get("targets", [])]
    assert len(targets) > 12
    for target in targets:
        asked = re.findall(r"(max(?: by \([\w, ]+\))? ?\()?(notifyctl_\w+)", target["expr"])
        known = set.union(*(labels.get(name, of_the_server) for _, name in asked))
        by = [name for names in re.findall(r"by \(([\w, ]+)\)", target["expr"]) for name in names.split(", ")]
        given = re.findall(r"[{,](\w+)=", target["expr"])
        shown = re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))
        assert {*by, *given, *shown} <= known, target
        assert all(of_one_server for of_one_server, _ in asked), target


def test_metrics_are_named_and_explained_as_prometheus_wants_them(traffic: Api, reader: str) -> None:
    """What `promtool check metrics` looks at."""
    families = list(text_string_to_metric_families(traffic.get("/metrics", reader).text))

    assert len(families) > 10
    for family in families:
        assert re.fullmatch("notifyctl(_[a-z]+)+", family.name)
        assert family.documentation
        assert family.type in ("gauge", "histogram")
        assert not {"total", "bucket", "count", "sum", family.type, *NO_BASE_UNITS} & set(family.name.split("_"))
        labels = {label for sample in family.samples for label in sample.labels}
        assert labels & RESERVED == ({"le"} if family.type == "histogram" else set())
