"""`notifyctl stripe replay` on both databases."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import pytest
from sqlalchemy import text

from notifyctl.billing.replay import sources
from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import Origin
from tests.support.clients import a_client
from tests.support.command_line import CommandLine, Ran
from tests.support.processes import Environment, Processes
from tests.support.stripe_history import A_YEARS_MAILS, a_year, dump, happened, told, write_lines
from tests.support.stripe_world import audits, event, mails, statuses, the_client
from tests.support.templates import seed_templates

pytestmark = pytest.mark.usefixtures("exhaustive")

SUMMARY = {
    "events": 0, "processed": 0, "ignored": 0, "unmatched": 0, "failed": 0, "not_read": 0, "already_done": 0,
    "matched_besides": 0, "changed_state": 0, "mails_queued": 0, "mails_duplicate": 0, "mails_blocked": 0,
    "mails_withheld": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def acme(runtime: Runtime) -> None:
    a_client(runtime, plan=None, subscription_status="none")


@pytest.fixture
def replay(notifyctl: CommandLine) -> CommandLine:
    return lambda *arguments, **variables: notifyctl("stripe", "replay", *arguments, **variables)


def summary(ran: Ran) -> dict[str, int]:
    """What is not 0 of it."""
    return {name: count for name, count in json.loads(ran.out).items() if count}


def told_rows(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


FORMS: dict[str, Callable[[list[Any]], str]] = {
    "JSON lines": lambda events: "".join(json.dumps(one) + "\n" for one in events),
    "array": lambda events: json.dumps(events, indent=2),
    "page of a list, newest first": lambda events: json.dumps({"object": "list", "data": events[::-1]}),
    "indented events": lambda events: "\n".join(json.dumps(one, indent=2) for one in events),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_brings_about_state_and_mails(runtime: Runtime, replay: CommandLine, tmp_path: Path, form: str) -> None:
    file = tmp_path / "events"
    file.write_text(FORMS[form](a_year(runtime.clock())))

    ran = replay("--file", str(file), "--format", "json")

    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == SUMMARY | {
        "events": 7, "processed": 7, "changed_state": 4, "mails_queued": 5, "mails_duplicate": 1,
    }  # fmt: skip
    assert mails(runtime) == A_YEARS_MAILS
    assert (the_client(runtime).plan, the_client(runtime).subscription_status) == ("PRO", "canceled")


def test_an_event_from_a_file_is_on_the_word_of_whoever_gave_it(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    events = a_year(runtime.clock())[:1]
    replay("--file", write_lines(tmp_path / "events", events))

    stored = event(runtime, events[0]["id"])
    assert (stored.verified, stored.origin) == (True, "file")
    assert json.loads(stored.body) == events[0]
    written = {row.action: row.actor for row in audits(runtime, "%") if row.action != "TEMPLATE_SEEDED"}
    operator = written["OPERATOR_ACTION"]
    assert operator.startswith("cli")
    assert {written[f"STRIPE_EVENT_{what}"] for what in ("RECEIVED", "REPLAYED", "PROCESSED")} == {operator}


def test_events_are_read_from_stdin(runtime: Runtime, replay: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = "".join(json.dumps(one) + "\n" for one in a_year(runtime.clock())).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert replay("--file", "-").code == 0
    assert mails(runtime) == A_YEARS_MAILS


def test_events_are_read_from_a_pipe(runtime: Runtime, replay: CommandLine) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(json.dumps(a_year(runtime.clock())[:2]).encode())
    try:
        ran = replay("--file", f"/dev/fd/{reading}", "--format", "json")
    finally:
        os.close(reading)
    assert summary(ran)["events"] == 2


def test_a_bad_line_is_named_the_rest_is_done_and_the_code_tells(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    lines = [json.dumps(one) for one in a_year(runtime.clock())]
    file = tmp_path / "events"
    file.write_text("\n".join([lines[0], lines[1][:200], "", *lines[1:], '{"object": "price"}']))

    ran = replay("--file", str(file), "--format", "json")

    assert ran.code == 1
    assert f"{file} line 2: is not JSON" in ran.err
    assert f"{file} line 10: is no Stripe event" in ran.err
    assert "2 of 9 failed" in ran.err
    assert (summary(ran)["processed"], summary(ran)["not_read"]) == (7, 2)
    assert mails(runtime) == A_YEARS_MAILS


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("", 4, "has no such event"),
        ("[]", 4, "has no such event"),
        ("hello", 1, "line 1: is not JSON"),
        ('{"id": "evt_1"', 1, "line 1: is not JSON"),
        ("\ufeff\ud83d".encode("utf-16", "surrogatepass").decode("latin-1"), 2, "UTF-16"),
    ],
    ids=["empty", "empty array", "a word", "half an event", "UTF-16"],
)
def test_a_file_without_any_event_changes_nothing(
    runtime: Runtime, replay: CommandLine, tmp_path: Path, content: str, code: int, words: str
) -> None:
    file = tmp_path / "events"
    file.write_bytes(content.encode("latin-1"))
    before = dump(runtime)
    ran = replay("--file", str(file))
    assert (ran.code, words in ran.err) == (code, True)
    assert dump(runtime) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--file", "/nowhere/x"), "/nowhere/x cannot be read: No such file or directory"),
        (("--file", "/"), "/ cannot be read: Is a directory"),
        (("--file", "x", "--from-api"), "two sources"),
        (("--from-api", "--status", "FAILED"), "--status is that of stored events"),
        (("--status", "BROKEN"), "--status 'BROKEN' is unknown"),
        (("--since", "yesterday"), "'yesterday' is not a time"),
    ],
)
def test_what_cannot_be_meant_is_said(replay: CommandLine, arguments: tuple[str, ...], words: str) -> None:
    ran = replay(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err


def test_a_dry_run_changes_nothing_and_tells_what_a_real_one_does(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    a_client(runtime, "bolt", plan=None, subscription_status="none")
    now = runtime.clock()
    events = [*a_year(now), *a_year(now, "bolt"), *a_year(now - timedelta(days=4), "nobody")]
    replay("--file", write_lines(tmp_path / "stored", events[:2]))
    file = write_lines(tmp_path / "all", events)
    before = dump(runtime)

    rehearsed = replay("--file", file, "--dry-run", "--format", "jsonl")

    assert (rehearsed.code, dump(runtime)) == (0, before)
    assert "Nothing was changed" in rehearsed.err
    rows = told_rows(rehearsed)
    assert [row["created"] for row in rows] == sorted(row["created"] for row in rows)
    by_id = {row["id"]: row for row in rows}
    assert by_id[events[0]["id"]]["reason"] == "done already"
    assert by_id[events[2]["id"]]["mail"] == "SUBSCRIPTION_CONFIRMED is a duplicate, not sent again"
    assert by_id[events[3]["id"]]["mail"] == "PAYMENT_FAILED would be sent"
    assert "client acme: subscription_status active -> past_due" in by_id[events[3]["id"]]["changes"]
    real = summary(replay("--file", file, "--format", "json"))
    words = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in real.items())
    assert words in rehearsed.err


def test_a_dry_run_of_stored_events_changes_nothing(runtime: Runtime, replay: CommandLine, tmp_path: Path) -> None:
    for one in a_year(runtime.clock()):
        runtime.billing.record(json.dumps(one).encode(), origin=Origin.WEBHOOK, is_verified=True)
    before = dump(runtime)
    rows = told_rows(replay("--status", "RECEIVED", "--dry-run", "--format", "jsonl"))
    assert dump(runtime) == before
    assert [row["mail"].split()[1:3] for row in rows if row["mail"]].count(["would", "be"]) == 5
    assert replay("--status", "RECEIVED").code == 0
    assert mails(runtime) == A_YEARS_MAILS


def test_what_has_to_do_with_each_other_is_rehearsed_together_however_far_apart(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    now = runtime.clock()
    names = [f"client-{number}" for number in range(60)]
    for name in names:
        a_client(runtime, name, plan=None, subscription_status="none")
    early = [happened("checkout.session.completed", now - timedelta(hours=2), client_id=name) for name in names]
    late = [happened("invoice.paid", now - timedelta(hours=1), client_id=name) for name in names]
    file = write_lines(tmp_path / "all", told(*late, *early))

    rehearsed = replay("--file", file, "--dry-run", "--format", "jsonl")

    rows = told_rows(rehearsed)
    assert [row["type"] for row in rows] == ["checkout.session.completed"] * 60 + ["invoice.paid"] * 60
    assert "mails queued 60, mails duplicate 60" in rehearsed.err
    assert statuses(runtime) == {}


def test_stored_events_are_read_page_by_page(
    runtime: Runtime, replay: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PAGE", 3)
    for one in a_year(runtime.clock()):
        runtime.billing.record(json.dumps(one).encode(), origin=Origin.WEBHOOK, is_verified=True)
    assert summary(replay("--format", "json"))["events"] == 7
    assert statuses(runtime) == {"PROCESSED": 7}


def test_a_replay_of_the_whole_store_sends_nothing_and_changes_no_state(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    replay("--file", write_lines(tmp_path / "events", a_year(runtime.clock())))
    state = {"leave_out": ["audit_log", "stripe_event"], "but": "updated_at"}
    before = dump(runtime, **state)

    ran = replay("--format", "json")

    assert ran.code == 0
    assert summary(ran) == {
        "events": 7,
        "processed": 7,
        "already_done": 7,
        "mails_duplicate": summary(ran)["mails_duplicate"],
    }
    assert dump(runtime, **state) == before


def test_an_event_whose_body_is_no_longer_kept_is_left_as_it_is(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    events = a_year(runtime.clock())
    file = write_lines(tmp_path / "events", events)
    replay("--file", file)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE stripe_event SET body = :nothing WHERE type = 'invoice.paid'"), {"nothing": b""})

    for again in (replay("--format", "json"), replay("--file", file, "--format", "json")):
        assert (again.code, again.err, summary(again)["already_done"]) == (0, "", 7)
    assert statuses(runtime) == {"PROCESSED": 7}
    rows = told_rows(replay("--type", "invoice.paid", "--dry-run", "--format", "jsonl"))
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("PROCESSED", "done already, and its body is no longer kept")
    ] * 2


def test_an_old_event_changes_state_and_mails_only_when_told_to(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    events = told(happened("purchase", runtime.clock() - timedelta(hours=73)))
    file = write_lines(tmp_path / "events", events)

    first = replay("--file", file, "--format", "json")
    assert (the_client(runtime).plan, mails(runtime)) == ("PRO", [])
    assert summary(first)["mails_withheld"] == 2
    second = replay("--file", file, "--mail-old", "--format", "json")

    assert (summary(second)["mails_queued"], summary(second)["mails_duplicate"]) == (1, 1)
    assert mails(runtime) == ["SUBSCRIPTION_CONFIRMED"]
    (operator,) = [row for row in audits(runtime, "OPERATOR%") if "true" in json.dumps(row.metadata).lower()]
    assert operator.actor.startswith("cli")


def test_events_that_matched_nobody_are_replayed_once_the_client_is_known(
    runtime: Runtime, notifyctl: CommandLine, replay: CommandLine, tmp_path: Path
) -> None:
    events = a_year(runtime.clock(), "late")
    ran = replay("--file", write_lines(tmp_path / "events", events), "--format", "json")
    assert summary(ran) == {"events": 7, "unmatched": 7}

    notifyctl("clients", "set", "late", "--name", "Late", "--email", "late@client.example")
    replay("--status", "UNMATCHED")

    assert statuses(runtime) == {"PROCESSED": 7}
    assert mails(runtime, client_id="late") == A_YEARS_MAILS


def test_what_a_link_lets_match_is_told_beside_it(
    runtime: Runtime, notifyctl: CommandLine, replay: CommandLine, tmp_path: Path
) -> None:
    created, checkout, paid = told(happened("purchase", runtime.clock(), client_id="late"))
    replay("--file", write_lines(tmp_path / "events", [created, checkout, paid]))
    notifyctl("clients", "set", "late", "--name", "Late", "--email", "late@client.example")
    before = dump(runtime)

    rehearsed = replay(checkout["id"], "--dry-run", "--format", "jsonl")

    assert dump(runtime) == before
    rows = told_rows(rehearsed)
    assert (rows[0]["id"], {row["id"] for row in rows}) == (checkout["id"], {created["id"], checkout["id"], paid["id"]})
    assert {row["reason"] for row in rows[1:]} == {f"had matched nobody before {checkout['id']}"}
    assert "matched besides 2" in rehearsed.err
    real = summary(replay(checkout["id"], "--format", "json"))
    assert real == {
        "events": 1, "processed": 1, "matched_besides": 2, "changed_state": 1, "mails_queued": 1, "mails_duplicate": 1,
    }  # fmt: skip
    assert mails(runtime, client_id="late") == ["SUBSCRIPTION_CONFIRMED"]


def test_one_that_is_matched_besides_and_fails_is_told(
    runtime: Runtime, notifyctl: CommandLine, replay: CommandLine, tmp_path: Path
) -> None:
    now = runtime.clock()
    checkout = told(happened("checkout.session.completed", now, client_id="late"))[0]
    failed = told(happened("invoice.payment_failed", now, client_id="late", invoice=2))[0]
    replay("--file", write_lines(tmp_path / "events", [checkout, failed]))
    notifyctl("clients", "set", "late", "--name", "Late", "--email", "late@client.example")
    _forget_template(runtime, "PAYMENT_FAILED")

    ran = replay(checkout["id"], "--format", "json")

    assert (ran.code, summary(ran).get("failed")) == (1, 1)
    assert f"{failed['id']} (invoice.payment_failed) failed: there is no template" in ran.err
    assert "1 of 2 failed" in ran.err


def test_stored_events_are_chosen_by_id_type_and_time(runtime: Runtime, replay: CommandLine) -> None:
    events = a_year(runtime.clock())
    events[5]["id"] = events[4]["id"][:-6] + "zzzzzz"
    for one in events:
        runtime.billing.record(json.dumps(one).encode(), origin=Origin.WEBHOOK, is_verified=True)

    def chosen(*arguments: str) -> list[str]:
        return [row["id"] for row in told_rows(replay(*arguments, "--dry-run", "--format", "jsonl"))]

    ids = [one["id"] for one in events]
    assert sorted(chosen()) == sorted(ids)
    assert sorted(chosen(ids[4], ids[0])) == sorted([ids[0], ids[4]])
    assert chosen(ids[4][-6:]) == [ids[4]]
    several = replay(ids[4][:-6])
    assert several.code == 2
    assert f"'{ids[4][:-6]}' is the beginning or end of several events; give more of the id" in several.err
    assert chosen("--type", "customer.subscription.*") == [ids[0], ids[6]]
    assert chosen("--type", "customer.*", "--type", "invoice.paid", "--since", "16m") == [ids[5], ids[6]]
    assert chosen("--since", "16m", "--until", "6m") == [ids[3], ids[4]]
    assert replay("--type", "invoice.voided").code == 4


def test_an_id_that_is_not_stored_is_named(runtime: Runtime, replay: CommandLine, tmp_path: Path) -> None:
    events = a_year(runtime.clock())[:1]
    replay("--file", write_lines(tmp_path / "events", events))

    mixed = replay(events[0]["id"], "evt_unknown", "--format", "json")
    assert (mixed.code, summary(mixed)["processed"]) == (1, 1)
    assert "evt_unknown is not stored here; --from-api asks Stripe for it" in mixed.err
    assert replay("evt_unknown").code == 4


def test_an_event_that_is_stored_with_another_body_keeps_it(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    (failed,) = told(happened("invoice.payment_failed", runtime.clock(), amount=4900))
    replay("--file", write_lines(tmp_path / "first", [failed]))
    failed["data"]["object"]["amount_due"] = 1

    ran = replay("--file", write_lines(tmp_path / "second", [failed]))

    assert ran.code == 0
    assert f"{failed['id']} is stored with another body than the one given; the stored one counts." in ran.err
    assert json.loads(event(runtime, failed["id"]).body)["data"]["object"]["amount_due"] == 4900


def test_one_that_fails_does_not_stop_the_others_and_works_once_the_cause_is_mended(
    runtime: Runtime, replay: CommandLine, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "events", a_year(runtime.clock()))
    _forget_template(runtime, "PAYMENT_FAILED")

    broken = replay("--file", file, "--format", "json")
    assert (broken.code, summary(broken)["failed"], summary(broken)["processed"]) == (1, 2, 5)
    assert broken.err.count("(invoice.payment_failed) failed: there is no template 'PAYMENT_FAILED'") == 2
    seed_templates(runtime)

    assert replay("--status", "FAILED").code == 0
    assert statuses(runtime) == {"PROCESSED": 7}
    assert mails(runtime).count("SUBSCRIPTION_CONFIRMED") == 2


def _forget_template(runtime: Runtime, key: str) -> None:
    with runtime.database.transaction() as session:
        for table in ("notification_template_version", "notification_template"):
            session.execute(text(f"DELETE FROM {table} WHERE template_key = '{key}'"))


def test_a_replay_that_was_killed_is_run_again_and_nothing_is_sent_twice(
    runtime: Runtime, replay: CommandLine, processes: Processes, environment: Environment, tmp_path: Path
) -> None:
    now = runtime.clock()
    names = [f"client-{number}" for number in range(25)]
    for name in names:
        a_client(runtime, name, plan=None, subscription_status="none")
    file = write_lines(tmp_path / "all", [one for name in names for one in a_year(now, name)])
    running = processes.notifyctl("stripe", "replay", "--file", file, env=environment())
    while statuses(runtime)["PROCESSED"] < 20 and running.poll() is None:
        sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait(30)
    done_before = statuses(runtime)["PROCESSED"]
    assert 20 <= done_before < 175

    again = summary(replay("--file", file, "--format", "json"))

    assert (again["events"], again["processed"]) == (175, 175)
    assert done_before <= again["already_done"] < 175
    assert mails(runtime) == sorted(A_YEARS_MAILS * 25)
    assert {the_client(runtime, name).subscription_status for name in names} == {"canceled"}


def test_an_interrupted_replay_says_how_far_it_came(
    runtime: Runtime, processes: Processes, environment: Environment, tmp_path: Path
) -> None:
    names = [f"client-{number}" for number in range(60)]
    file = write_lines(tmp_path / "all", [one for name in names for one in a_year(runtime.clock(), name)])
    running = processes.notifyctl("stripe", "replay", "--file", file, env=environment())
    while not statuses(runtime) and running.poll() is None:
        sleep(0.02)
    running.terminate()
    assert running.wait(30) == 130
    assert "run it again: what is done stays done" in processes.said_by(running)


def test_replays_beside_deliveries_of_the_same_events_mail_once(runtime: Runtime) -> None:
    from notifyctl.billing.replay.listing_store import EventFilter
    from notifyctl.billing.replay.replay import Replay
    from notifyctl.billing.replay.sources import stored_items

    names = [f"client-{number}" for number in range(5)]
    for name in names:
        a_client(runtime, name, plan=None, subscription_status="none")
    raws = [
        json.dumps(one).encode()
        for name in names
        for one in told(happened("purchase", runtime.clock(), client_id=name))
    ]
    for raw in raws:
        runtime.billing.record(raw, origin=Origin.WEBHOOK, is_verified=True)
    failures: list[BaseException] = []

    def replay_all() -> None:
        items = stored_items(runtime.database, EventFilter())
        list(Replay(runtime.billing, runtime.database, actor="test", mail_old=False).run(items))

    def deliver_all() -> None:
        for raw in reversed(raws):
            runtime.billing.receive(raw)

    def watched(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  told by the test
            failures.append(error)

    threads = [Thread(target=watched, args=[work]) for work in (replay_all, deliver_all, replay_all, deliver_all)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert statuses(runtime) == {"PROCESSED": 15}
    assert mails(runtime) == ["SUBSCRIPTION_CONFIRMED"] * 5
    assert {the_client(runtime, name).subscription_status for name in names} == {"active"}
