"""Suppressed or not: by when people and providers acted, in whatever order and however late we hear of it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import select, text

from notifyctl.bootstrap import Runtime
from notifyctl.clients import suppression_store
from notifyctl.clients.suppression_store import Cause
from notifyctl.clients.suppressions import lift, suppress
from notifyctl.db.database import Database
from notifyctl.delivery.dispatch import Dispatcher
from notifyctl.delivery.receipts import apply
from notifyctl.delivery.receipts.apply import retry_early_receipts
from notifyctl.delivery.receipts.missing import ask_missing
from notifyctl.keyring import KeyRing
from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import table
from notifyctl.models.enums import AuditAction, Channel, FailureReason, SuppressionReason
from notifyctl.providers.receipts import Receipt, ReceiptEvent, Release
from notifyctl.providers.registry import build_lookups
from notifyctl.retention.erasure import erase_client
from notifyctl.sandbox import Sandbox
from tests.support.clients import a_client
from tests.support.clocks import TurnableClock
from tests.support.delivery import MakeDispatcher, drain
from tests.support.messages import CODE, WELCOME, message, send
from tests.support.receipts import ADDRESS, PHONE, a_code, a_receipt, an_email, put, rows, stamp, suppressed

Holding = dict[tuple[str, str], datetime]
"""(reason, source) of what holds, and when it was said last."""
EMAIL, SMS = Channel.EMAIL, Channel.SMS
TARGETS = {EMAIL: ADDRESS, SMS: PHONE}


@dataclass(frozen=True)
class Kind:
    """A way to suppress an address or to free it. `is_dated`: whoever tells of it says when it was."""

    name: str
    is_dated: bool
    hear: Callable[["Event", Runtime, datetime], object]
    does: Callable[[Holding, datetime], Holding]


@dataclass(frozen=True)
class Event:
    kind: Kind
    number: int
    at: datetime

    @property
    def id(self) -> str:
        return f"{self.kind.name} {self.number}"

    def __repr__(self) -> str:
        return self.id


def told(notice: Callable[["Event"], Receipt | Release]) -> Callable[["Event", Runtime, datetime], object]:
    return lambda event, runtime, now: apply.receive(runtime.database, runtime.keys, notice(event), now=now)


def postmark(reason: SuppressionReason) -> Callable[["Event", Runtime, datetime], object]:
    return told(
        lambda happened: Receipt(
            "postmark",
            EMAIL,
            ReceiptEvent.REFUSED,
            happened.id,
            happened_at=happened.at,
            suppress=reason,
            recipient=ADDRESS,
        )
    )


def refused(event: "Event", runtime: Runtime, now: datetime) -> None:
    """Postmark's 406 to a call: as the worker records it."""
    with runtime.database.transaction() as session:
        reason = SuppressionReason.INACTIVE
        suppress(session, runtime.keys, EMAIL, ADDRESS, reason=reason, actor="postmark", now=now, acted_at=event.at)


def refused_late(event: "Event", runtime: Runtime, now: datetime) -> None:
    """Twilio's 21610, by a status callback: it has no time, but the call to which it belongs had."""
    with runtime.database.read() as session:
        message_id = str(session.execute(text("SELECT id FROM message_log")).scalar_one())
    put(runtime, message_id, "SENT", last_attempt_at=stamp(event.at))
    about = {"reason": FailureReason.RECIPIENT_OPTED_OUT, "suppress": SuppressionReason.OPTED_OUT}
    receipt = a_receipt(message_id, "BOUNCED", channel=SMS, event_id=event.id, **about)
    apply.receive(runtime.database, runtime.keys, receipt, now=now)


def added(channel: Channel, reason: SuppressionReason) -> Callable[["Event", Runtime, datetime], object]:
    def hear(_event: "Event", runtime: Runtime, now: datetime) -> None:
        with runtime.database.transaction() as session:
            suppress(session, runtime.keys, channel, TARGETS[channel], reason=reason, actor="cli:ann", now=now)

    return hear


def removed(channel: Channel) -> Callable[["Event", Runtime, datetime], object]:
    def hear(_event: "Event", runtime: Runtime, now: datetime) -> None:
        with runtime.database.transaction() as session:
            lift(session, runtime.keys, channel, TARGETS[channel], actor="cli:ann", now=now)

    return hear


def adds(reason: str, source: str) -> Callable[[Holding, datetime], Holding]:
    return lambda holding, at: holding | {(reason, source): at}


def frees(column: int, value: str) -> Callable[[Holding, datetime], Holding]:
    return lambda holding, _at: {cause: at for cause, at in holding.items() if cause[column] != value}


STOPPED = SuppressionReason.OPTED_OUT
MANUAL = SuppressionReason.MANUAL
KINDS = {
    EMAIL: [
        Kind("bounce", True, postmark(SuppressionReason.HARD_BOUNCE), adds("HARD_BOUNCE", "postmark")),
        Kind("complaint", True, postmark(SuppressionReason.COMPLAINT), adds("COMPLAINT", "postmark")),
        Kind("unsubscribed", True, postmark(STOPPED), adds("OPTED_OUT", "postmark")),
        Kind("406", True, refused, adds("INACTIVE", "postmark")),
        Kind(
            "reactivated", True, told(lambda e: Release("postmark", EMAIL, e.id, ADDRESS, happened_at=e.at)),
            frees(1, "postmark"),
        ),
        Kind("added", False, added(EMAIL, MANUAL), adds("MANUAL", "cli:ann")),
        Kind("added as opted out", False, added(EMAIL, STOPPED), adds("OPTED_OUT", "cli:ann")),
        Kind("removed", False, removed(EMAIL), lambda _holding, _at: {}),
    ],
    SMS: [
        Kind(
            "STOP", False,
            told(lambda e: Receipt("twilio", SMS, ReceiptEvent.REFUSED, e.id, suppress=STOPPED, recipient=PHONE)),
            adds("OPTED_OUT", "twilio"),
        ),
        Kind(
            "START", False, told(lambda e: Release("twilio", SMS, e.id, PHONE, reason=STOPPED)),
            frees(0, "OPTED_OUT"),
        ),
        Kind("21610", True, refused_late, adds("OPTED_OUT", "twilio")),
        Kind("added", False, added(SMS, MANUAL), adds("MANUAL", "cli:ann")),
        Kind("added as opted out", False, added(SMS, STOPPED), adds("OPTED_OUT", "cli:ann")),
        Kind("removed", False, removed(SMS), lambda _holding, _at: {}),
    ],
}  # fmt: skip


@st.composite
def histories(draw: st.DrawFn, channel: Channel) -> tuple[list[int], list[tuple[int, int]]]:
    """Kinds in the order in which they happened; and which one is heard when, some of them twice.

    What has no time of its own is heard as it happens, and everything else then or later.
    """
    # Of few kinds, so that they meet often: a release between two of the same cause, and the other way round.
    few = draw(st.lists(st.integers(0, len(KINDS[channel]) - 1), min_size=1, max_size=3, unique=True))
    kinds = draw(st.lists(st.sampled_from(few), min_size=2, max_size=7))
    heard = []
    for number, kind in enumerate(kinds):
        is_dated = KINDS[channel][kind].is_dated
        heard.append((draw(st.integers(number, len(kinds))) if is_dated else number, number))
        if is_dated and draw(st.booleans()):
            heard.append((draw(st.integers(number, len(kinds))), number))
    order = draw(st.permutations(heard))
    # What is heard in the same minute as something undated happens may come before it or after it.
    return kinds, sorted(order, key=lambda pair: pair[0])


def start_over(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        for table in ("suppression", "suppression_release", "seen_event", "early_receipt"):
            session.execute(text(f"DELETE FROM {table}"))


def held(runtime: Runtime) -> list[Cause]:
    return [cause for row in found(runtime) for cause in suppression_store.causes_of(row)]


def found(runtime: Runtime) -> Any:
    with runtime.database.read() as session:
        return suppression_store.page(session, limit=10)


@pytest.mark.usefixtures("exhaustive")
@pytest.mark.parametrize("channel", list(Channel))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_the_end_depends_on_what_happened_and_not_on_when_we_heard_of_it(
    runtime: Runtime, channel: Channel, data: st.DataObject
) -> None:
    kinds, heard = data.draw(histories(channel))
    if not rows(runtime, "message_log"):
        a_code(runtime)
    start_over(runtime)
    noon = runtime.clock().replace(microsecond=0) - timedelta(hours=1)
    events = [Event(KINDS[channel][kind], n, noon + timedelta(minutes=n)) for n, kind in enumerate(kinds)]
    expected: Holding = {}
    for event in events:
        expected = event.kind.does(expected, event.at)

    for minute, number in heard:
        event = events[number]
        now = noon + timedelta(minutes=minute, seconds=30) if event.kind.is_dated else event.at
        event.kind.hear(event, runtime, now)

    assert {cause.key: cause.acted_at for cause in held(runtime)} == expected
    first = sorted((at, *cause) for cause, at in expected.items())[:1]
    assert [(row.acted_at, row.reason, row.source) for row in found(runtime)] == first
    assert suppressed(runtime).keys() <= {TARGETS[channel]}


def bounced(at: datetime | None, reason: SuppressionReason = SuppressionReason.HARD_BOUNCE, number: int = 1) -> Receipt:
    told_as = f"bounce {number}"
    return Receipt(
        "postmark", EMAIL, ReceiptEvent.REFUSED, told_as, happened_at=at, suppress=reason, recipient=ADDRESS
    )  # fmt: skip


def reactivated(at: datetime | None) -> Release:
    return Release("postmark", EMAIL, f"reactivated {at}", ADDRESS, happened_at=at)


def hear(runtime: Runtime, *notices: Receipt | Release, after: timedelta = timedelta()) -> None:
    for notice in notices:
        apply.receive(runtime.database, runtime.keys, notice, now=runtime.clock() + after)


def remove(runtime: Runtime, channel: Channel = EMAIL) -> list[Cause]:
    with runtime.database.transaction() as session:
        return lift(session, runtime.keys, channel, TARGETS[channel], actor="cli:ann", now=runtime.clock())


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(hours=5)], ids=["right", "behind"])
@pytest.mark.parametrize("late", [False, True], ids=["in order", "the other way round"])
def test_of_two_times_of_a_provider_the_later_counts_also_where_our_clock_is_behind(
    runtime: Runtime, late: bool, behind: timedelta
) -> None:
    now = runtime.clock() + behind
    bounce, freed = bounced(now - timedelta(minutes=3)), reactivated(now - timedelta(minutes=2))

    hear(runtime, *([freed, bounce] if late else [bounce, freed]))

    assert suppressed(runtime) == {}
    hear(runtime, bounced(now - timedelta(minutes=1), number=2))
    assert suppressed(runtime) == {ADDRESS: "HARD_BOUNCE"}


@pytest.mark.parametrize("at", [None, datetime(9999, 12, 30, tzinfo=UTC)])
def test_what_has_no_time_that_can_be_believed_happened_as_we_heard_of_it(
    runtime: Runtime, at: datetime | None
) -> None:
    hear(runtime, bounced(at))
    assert suppressed(runtime) == {ADDRESS: "HARD_BOUNCE"}
    hear(runtime, reactivated(at))
    assert suppressed(runtime) == {}
    hear(runtime, bounced(runtime.clock(), number=2))
    assert suppressed(runtime) == {ADDRESS: "HARD_BOUNCE"}


def test_an_operator_frees_whatever_is_known_and_suppresses_whatever_was_freed_whichever_clock_was_wrong(
    runtime: Runtime,
) -> None:
    ahead = runtime.clock() + timedelta(hours=5)
    hear(runtime, bounced(ahead))
    assert [cause.reason for cause in remove(runtime)] == ["HARD_BOUNCE"]
    assert suppressed(runtime) == {}

    KINDS[EMAIL][5].hear(Event(KINDS[EMAIL][5], 0, ahead), runtime, runtime.clock())
    assert suppressed(runtime) == {ADDRESS: "MANUAL"}


@pytest.mark.parametrize("is_sent_since", [True, False], ids=["sent since", "sent before"])
def test_a_bounce_of_what_was_sent_after_an_operator_freed_the_address_counts_also_if_our_clock_is_ahead(
    runtime: Runtime, *, is_sent_since: bool
) -> None:
    freed_at, hour = runtime.clock(), timedelta(hours=1)
    hear(runtime, bounced(freed_at - 3 * hour))
    assert remove(runtime)
    attempted_at = freed_at + timedelta(minutes=1) if is_sent_since else freed_at - hour
    message_id = an_email(runtime, last_attempt_at=stamp(attempted_at))

    about = {"suppress": SuppressionReason.HARD_BOUNCE, "happened_at": attempted_at - hour}
    hear(runtime, a_receipt(message_id, "BOUNCED", **about))

    assert suppressed(runtime) == ({ADDRESS: "HARD_BOUNCE"} if is_sent_since else {})
    hear(runtime, reactivated(freed_at + timedelta(minutes=2)))
    assert suppressed(runtime) == {}


def test_stop_and_start_count_in_the_order_in_which_they_come_also_if_our_clock_is_set_back(runtime: Runtime) -> None:
    stop, start = (
        lambda n: Receipt("twilio", SMS, ReceiptEvent.REFUSED, f"SM{n}", suppress=STOPPED, recipient=PHONE),
        lambda n: Release("twilio", SMS, f"SM{n}", PHONE, reason=STOPPED),
    )
    hear(runtime, stop(1))
    hear(runtime, start(2), after=-timedelta(hours=1))
    assert suppressed(runtime) == {}
    hear(runtime, stop(3), after=-timedelta(hours=2))
    assert suppressed(runtime) == {PHONE: "OPTED_OUT"}


def test_who_frees_an_address_at_the_moment_of_a_bounce_knew_of_it(runtime: Runtime) -> None:
    at = runtime.clock()
    for notices in ([bounced(at), reactivated(at)], [reactivated(at), bounced(at)]):
        start_over(runtime)
        hear(runtime, *notices)
        assert suppressed(runtime) == {}


def test_each_cause_has_its_audit_row_once_and_each_end_of_one_as_well(runtime: Runtime) -> None:
    now = runtime.clock()
    hear(runtime, bounced(now), bounced(now, number=2), bounced(now, SuppressionReason.COMPLAINT, number=3))
    hear(runtime, reactivated(now), bounced(now - timedelta(hours=1), number=4))
    trail = [(row.action, row.metadata["reason"]) for row in audit_rows(runtime)]
    both = ["HARD_BOUNCE", "COMPLAINT"]
    assert trail == [(f"SUPPRESSION_{word}", reason) for word in ("ADDED", "REMOVED") for reason in both]


def audit_rows(runtime: Runtime) -> Any:
    with runtime.database.read() as session:
        columns = table(AuditLog).c
        ours = columns.action.in_([AuditAction.SUPPRESSION_ADDED, AuditAction.SUPPRESSION_REMOVED])
        return session.execute(select(columns.action, columns.metadata).where(ours).order_by(columns.id)).all()


def test_what_an_earlier_version_wrote_holds_until_it_is_freed_and_is_kept_beside_what_comes(runtime: Runtime) -> None:
    hear(runtime, bounced(runtime.clock() - timedelta(hours=1)))
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE suppression SET causes = NULL, acted_at = NULL, source = 'cli:bob'"))
    hear(runtime, bounced(runtime.clock(), SuppressionReason.COMPLAINT, number=2))
    assert [cause.key for cause in held(runtime)] == [("HARD_BOUNCE", "cli:bob"), ("COMPLAINT", "postmark")]
    hear(runtime, reactivated(runtime.clock()))
    assert [cause.key for cause in held(runtime)] == [("HARD_BOUNCE", "cli:bob")]
    remove(runtime)
    assert suppressed(runtime) == {}


def test_a_release_is_found_under_every_key_that_is_known(runtime: Runtime) -> None:
    old, new = (SecretStr(f"{word}-0f8e7d6c5b4a39281706f5e4d3c2b1a0") for word in ("old", "new"))
    at = runtime.clock()
    for notice, keys in (
        (bounced(at - timedelta(hours=3)), [old]),
        (reactivated(at - timedelta(hours=2)), [old]),
        (bounced(at - timedelta(hours=2, minutes=1), number=2), [new, old]),
    ):
        apply.receive(runtime.database, KeyRing(keys), notice, now=at)
    assert suppressed(runtime) == {}


def test_an_erased_client_stays_nameless_and_its_releases_count_on(runtime: Runtime) -> None:
    message_id = an_email(runtime)
    now = runtime.clock()
    hear(runtime, reactivated(now - timedelta(hours=1)))
    with runtime.database.transaction() as session:
        erase_client(session, runtime.keys, "acme", actor="test", now=now)

    hear(runtime, bounced(now - timedelta(hours=2)))
    assert suppressed(runtime) == {}
    bounce = a_receipt(message_id, "BOUNCED", recipient=ADDRESS, suppress=SuppressionReason.HARD_BOUNCE)
    hear(runtime, bounce)
    assert suppressed(runtime) == {None: "HARD_BOUNCE"}
    assert all(ADDRESS not in str(rows(runtime, name)) for name in ("suppression", "suppression_release"))


def test_an_earlier_release_that_is_heard_of_later_takes_nothing_from_the_later_one(runtime: Runtime) -> None:
    now = runtime.clock()
    hear(runtime, reactivated(now - timedelta(minutes=1)), reactivated(now - timedelta(minutes=3)))
    hear(runtime, bounced(now - timedelta(minutes=2)))
    assert suppressed(runtime) == {}


def test_who_speaks_while_another_word_is_written_waits_for_it(runtime: Runtime, database_url: str) -> None:
    other = Database(database_url)
    with ThreadPoolExecutor(1) as pool:
        with other.transaction() as session:
            about = {"reason": MANUAL, "actor": "cli:bob", "now": runtime.clock()}
            assert suppress(session, runtime.keys, EMAIL, ADDRESS, **about)
            removed = pool.submit(remove, runtime)
            sleep(0.3)  # it would be done by now if nothing held it up
        assert [cause.key for cause in removed.result()] == [("MANUAL", "cli:bob")]
    assert suppressed(runtime) == {}
    other.close()


def test_two_who_speak_at_once_end_as_one_after_the_other_would(runtime: Runtime, database_url: str) -> None:
    noon = runtime.clock()
    notices: list[Receipt | Release] = [
        *(bounced(noon + timedelta(minutes=n), reason, n) for n, reason in enumerate(SuppressionReason)),
        *(reactivated(noon + timedelta(minutes=n, seconds=1)) for n in (0, 3)),
    ]
    opened = [Database(database_url) for _ in notices]
    for turn in range(4):
        start_over(runtime)
        ready = Barrier(len(notices))

        def work(pair: tuple[Database, Receipt | Release], ready: Barrier = ready) -> None:
            ready.wait()
            apply.receive(pair[0], runtime.keys, pair[1], now=noon + timedelta(hours=1))

        with ThreadPoolExecutor(len(notices)) as pool:
            list(pool.map(work, zip(opened, notices[turn:] + notices[:turn], strict=True)))
        assert {(cause.reason, cause.acted_at) for cause in held(runtime)} == {
            (SuppressionReason.MANUAL, noon + timedelta(minutes=4))
        }
    for database in opened:
        database.close()


@pytest.mark.parametrize("is_later", [True, False], ids=["freed during the call", "freed before the call"])
def test_a_refusal_dates_from_the_call_that_it_answers(
    runtime: Runtime, clock: TurnableClock, dispatcher: MakeDispatcher, is_later: bool
) -> None:
    inactive, stopped = "inactive@dead.example", "+15005550004"
    a_client(runtime, email=inactive)
    mail = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    sms = send(runtime, "OTP_CODE_SMS", CODE, recipient=stopped).message_id
    working = [dispatcher(EMAIL), dispatcher(SMS)]
    for each in working:
        while each.is_idle:
            each.turn(claiming=True, timeout=0)
    freed_at = runtime.clock() - timedelta(minutes=0 if is_later else 1)
    hear(runtime, Release("postmark", EMAIL, "r", inactive, happened_at=freed_at))
    if is_later:
        hear(runtime, Release("twilio", SMS, "SM1", stopped, reason=STOPPED))

    until_final(runtime, clock, working, mail, sms)

    # A worker that the machine holds up gives back what it claimed, and calls later.
    calls = {inactive: (mail, "INACTIVE"), stopped: (sms, "OPTED_OUT")}
    expected = {
        address: reason
        for address, (message_id, reason) in calls.items()
        if message(runtime, message_id).last_attempt_at > freed_at
    }
    assert suppressed(runtime) == expected
    assert is_later or len(expected) == 2


def until_final(runtime: Runtime, clock: TurnableClock, working: list[Dispatcher], *message_ids: str) -> None:
    """Sent or refused, and written down ten seconds later."""
    while any(message(runtime, found).status not in ("SENT", "FAILED") for found in message_ids):
        clock.ahead += timedelta(seconds=10)
        for each in working:
            drain(each)


def test_what_a_provider_says_when_it_is_asked_has_its_own_time(
    runtime: Runtime, sandbox: Sandbox, clock: TurnableClock, dispatcher: MakeDispatcher
) -> None:
    """The bounce was never told to us; the address was freed since."""
    address = "bounce@client.example"
    a_client(runtime, email=address)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    until_final(runtime, clock, [dispatcher()], message_id)
    clock.ahead += timedelta(hours=2)
    sandbox._state.clock = clock
    hear(runtime, Release("postmark", EMAIL, "r", address, happened_at=runtime.clock() - timedelta(hours=1)))

    lookups = build_lookups(runtime.settings, [EMAIL])
    ask_missing(runtime.database, runtime.clock, runtime.keys, lookups)

    row = message(runtime, message_id)
    assert (row.status, row.error_code) == ("BOUNCED", "HardBounce")
    assert suppressed(runtime) == {}
    for lookup in lookups.values():
        lookup.close()


def test_a_receipt_that_waits_for_its_message_dates_from_when_it_came(runtime: Runtime, clock: TurnableClock) -> None:
    waiting = a_receipt(None, "REFUSED", suppress=SuppressionReason.COMPLAINT, provider_message_id="pm-1")
    hear(runtime, waiting)
    clock.ahead += timedelta(minutes=1)
    hear(runtime, reactivated(runtime.clock()))
    clock.ahead += timedelta(minutes=1)
    an_email(runtime, provider_message_id="pm-1")

    assert retry_early_receipts(runtime.database, runtime.keys, runtime.clock()) == 1
    assert suppressed(runtime) == {}
