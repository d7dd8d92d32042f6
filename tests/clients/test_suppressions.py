import json
import re
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import select

from notifyctl.bootstrap import Runtime
from notifyctl.clients import suppression_store
from notifyctl.clients.suppressions import lift, rekey, suppress
from notifyctl.clock import system_clock
from notifyctl.db.database import Database
from notifyctl.keyring import KeyRing
from notifyctl.models.audit import AuditLog
from notifyctl.models.enums import Channel, SuppressionReason
from tests.support.clocks import NOON
from tests.support.command_line import CommandLine
from tests.support.settings import SECRET

OLD = SecretStr("old-0f8e7d6c5b4a39281706f5e4d3c2b1a0")
NEW = SecretStr("new-1a2b3c4d5e6f708192a3b4c5d6e7f809")


def add(database: Database, keys: KeyRing, address: str = "ann@acme.example", **more: Any) -> bool:
    values = {"reason": SuppressionReason.HARD_BOUNCE, "actor": "postmark", "now": NOON} | more
    with database.transaction() as session:
        return suppress(session, keys, Channel.EMAIL, address, **values)


def audits(database: Database) -> list[tuple[str, Any]]:
    with database.read() as session:
        return [(row.action.value, row.details) for row in session.exec(select(AuditLog))]


def test_a_suppressed_address_is_found_by_its_hash_and_audited_without_it(database: Database) -> None:
    keys = KeyRing([NEW])
    assert add(database, keys, note="550 no such user")
    with database.read() as session:
        found = suppression_store.find(session, Channel.EMAIL, keys.recipient_hashes("EMAIL", "ann@acme.example"))
        other = suppression_store.find(session, Channel.SMS, keys.recipient_hashes("EMAIL", "ann@acme.example"))
    assert found is not None
    assert (found.address, found.reason, found.source, found.note) == (
        "ann@acme.example",
        "HARD_BOUNCE",
        "postmark",
        "550 no such user",
    )
    assert other is None
    assert found.key_id == keys.ids[0]
    ((action, details),) = audits(database)
    assert action == "SUPPRESSION_ADDED"
    assert details == {
        "channel": "EMAIL",
        "recipient_hash": keys.recipient_hash("EMAIL", "ann@acme.example"),
        "reason": "HARD_BOUNCE",
    }


def test_suppressing_again_for_the_same_changes_nothing_and_audits_nothing(database: Database) -> None:
    keys = KeyRing([NEW])
    add(database, keys, note="550 no such user")
    assert not add(database, keys, note="551 no such user")
    with database.read() as session:
        (row,) = suppression_store.page(session, limit=10)
    assert row.note == "550 no such user"
    assert len(audits(database)) == 1


def test_of_two_causes_the_first_is_shown_and_each_has_to_be_lifted(database: Database) -> None:
    keys = KeyRing([NEW])
    add(database, keys)
    assert add(database, keys, reason=SuppressionReason.MANUAL, actor="cli", note="asked by phone")

    def row() -> Any:
        with database.read() as session:
            (found,) = suppression_store.page(session, limit=10)
        return found.reason, found.source, found.note, found.address

    assert row() == ("HARD_BOUNCE", "postmark", "asked by phone", "ann@acme.example")
    with database.transaction() as session:
        lift(session, keys, Channel.EMAIL, "ann@acme.example", actor="postmark", now=NOON, source="postmark")
    assert row() == ("MANUAL", "cli", "asked by phone", "ann@acme.example")
    with database.transaction() as session:
        lift(session, keys, Channel.EMAIL, "ann@acme.example", actor="cli", now=NOON)
    with database.read() as session:
        assert suppression_store.page(session, limit=10) == []
    added, removed = "SUPPRESSION_ADDED", "SUPPRESSION_REMOVED"
    assert [action for action, _ in audits(database)] == [added, added, removed, removed]


def test_after_a_key_rotation_it_is_still_suppressed_once_and_can_be_lifted(database: Database) -> None:
    add(database, KeyRing([OLD]))
    rotating = KeyRing([NEW, OLD])
    assert not add(database, rotating)
    with database.transaction() as session:
        lifted = lift(session, rotating, Channel.EMAIL, "ann@acme.example", actor="cli", now=NOON)
    assert [(cause.reason, cause.source) for cause in lifted] == [("HARD_BOUNCE", "postmark")]
    assert [action for action, _ in audits(database)] == ["SUPPRESSION_ADDED", "SUPPRESSION_REMOVED"]


def move(database: Database, keys: KeyRing, *, limit: int = 10) -> int:
    with database.transaction() as session:
        return rekey(session, keys, actor="cli", now=NOON, limit=limit)


def rows(database: Database) -> list[suppression_store.SuppressionRow]:
    with database.read() as session:
        return suppression_store.page(session, limit=10)


@pytest.mark.parametrize("secrets", [[NEW], [NEW, OLD]], ids=["lost", "rotated"])
def test_an_address_is_all_it_takes_to_find_a_suppression_by_another_secret(
    database: Database, secrets: list[SecretStr]
) -> None:
    old, new = KeyRing([OLD]), KeyRing(secrets)
    add(database, old, note="550 no such user")
    add(database, old, reason=SuppressionReason.COMPLAINT)
    (before,) = rows(database)
    assert move(database, new) == 1
    (after,) = rows(database)
    assert after == before._replace(recipient_hash=new.recipient_hash("EMAIL", "ann@acme.example"), key_id=new.ids[0])
    details = {"reason": "HARD_BOUNCE", "channel": "EMAIL"}
    expected = ("SUPPRESSION_ADDED", details | {"recipient_hash": after.recipient_hash, "was": before.recipient_hash})
    assert audits(database)[-1] == expected
    assert move(database, new) == 0


def test_what_was_said_under_either_secret_is_one_suppression(database: Database) -> None:
    old, new = KeyRing([OLD]), KeyRing([NEW])
    add(database, old)
    add(database, new, reason=SuppressionReason.MANUAL, actor="cli", now=NOON + timedelta(hours=1))
    assert move(database, new) == 1
    (row,) = rows(database)
    assert [cause.reason for cause in suppression_store.causes_of(row)] == ["HARD_BOUNCE", "MANUAL"]
    assert row.key_id == new.ids[0]


def test_an_address_that_was_erased_under_one_secret_is_not_brought_back_by_the_other(database: Database) -> None:
    old, new = KeyRing([OLD]), KeyRing([NEW])
    add(database, old)
    add(database, new, keep_address=False)
    assert move(database, new) == 1
    assert [(row.key_id, row.address) for row in rows(database)] == [(new.ids[0], None)]


def test_what_was_lifted_since_under_the_new_secret_is_not_brought_back(database: Database) -> None:
    add(database, KeyRing([OLD]))
    new = KeyRing([NEW])
    with database.transaction() as session:
        lift(session, new, Channel.EMAIL, "ann@acme.example", actor="cli", now=NOON + timedelta(hours=1))
    assert move(database, new) == 1
    assert rows(database) == []


def test_the_command_moves_what_has_an_address_and_drops_what_nobody_can_find_when_told_so(
    runtime: Runtime, notifyctl: CommandLine
) -> None:
    old = KeyRing([OLD])
    for number in range(3):
        add(runtime.database, old, f"c{number}@acme.example", keep_address=number > 0)
    before = rows(runtime.database)
    refused = notifyctl("suppressions", "rekey", "--drop-lost")
    assert (refused.code, rows(runtime.database)) == (2, before)
    first = notifyctl("suppressions", "rekey")
    assert first.code == 0
    assert first.err.splitlines() == [
        "2 suppressions moved to the first secret.",
        "1 suppression of an erased address is found by nobody, for want of a secret: put it back, or say --drop-lost.",
    ]
    dropped = notifyctl("suppressions", "rekey", "--drop-lost", "--yes")
    assert dropped.err.splitlines()[-1] == "1 suppression removed."
    assert {row.address for row in rows(runtime.database)} == {"c1@acme.example", "c2@acme.example"}
    action, details = audits(runtime.database)[-1]
    assert (action, details["recipient_hash"]) == (
        "SUPPRESSION_REMOVED",
        old.recipient_hash("EMAIL", "c0@acme.example"),
    )


def test_the_command_says_which_secret_is_still_needed(runtime: Runtime, notifyctl: CommandLine) -> None:
    add(runtime.database, runtime.keys, keep_address=False)
    add(runtime.database, KeyRing([OLD]), keep_address=False)
    (needed,) = runtime.keys.ids
    both = f"{NEW.get_secret_value()},{SECRET}"
    ran = notifyctl("suppressions", "rekey", "--drop-lost", "--yes", NOTIFICATION_SECRET_KEY=both)
    assert ran.err.splitlines() == [
        "0 suppressions moved to the first secret.",
        f"1 suppression of an erased address needs the secret of key {needed}: keep it.",
        "1 suppression removed.",
    ]
    assert [row.key_id for row in rows(runtime.database)] == [needed]


def test_lifting_what_is_not_suppressed_audits_nothing(database: Database) -> None:
    with database.transaction() as session:
        assert lift(session, KeyRing([NEW]), Channel.SMS, "+491701234567", actor="cli", now=NOON) == []
    assert audits(database) == []


def test_the_command_takes_any_spelling_and_says_when_it_was_done_before(notifyctl: CommandLine) -> None:
    first = notifyctl("suppressions", "add", "sms", "+49 170 / 123 45 67")
    again = notifyctl("suppressions", "add", "SMS", "+491701234567")
    assert (first.code, first.err) == (0, "SMS +491701234567 is suppressed.\n")
    assert (again.code, again.err) == (0, "SMS +491701234567 was suppressed already.\n")


def test_the_command_says_what_holds_as_well_and_removes_all_of_it(notifyctl: CommandLine) -> None:
    notifyctl("suppressions", "add", "EMAIL", "ann@acme.example", "--reason", "HARD_BOUNCE")
    second = notifyctl("suppressions", "add", "EMAIL", "ann@acme.example", "--reason", "COMPLAINT")
    assert re.fullmatch(
        r"EMAIL ann@acme\.example was suppressed already \(HARD_BOUNCE by \S+\); COMPLAINT holds as well\.\n",
        second.err,
    )
    (listed,) = json.loads(notifyctl("suppressions", "list", "-f", "json").out)
    assert [cause.partition(" by ")[0] for cause in listed["causes"]] == ["HARD_BOUNCE", "COMPLAINT"]
    for reason, count in (("HARD_BOUNCE", 1), ("COMPLAINT", 1), ("MANUAL", 0)):
        found = json.loads(notifyctl("suppressions", "list", "-f", "json", "--reason", reason).out)
        assert len(found) == count, reason
    assert "by" in notifyctl("suppressions", "list", "-f", "csv").out
    removed = notifyctl("suppressions", "remove", "EMAIL", "ann@acme.example")
    assert re.search(r"\(HARD_BOUNCE by \S+, COMPLAINT by \S+\)", removed.err)
    assert json.loads(notifyctl("suppressions", "list", "-f", "json").out) == []


def test_removing_what_is_not_suppressed_is_exit_4_and_yet_is_remembered(
    notifyctl: CommandLine, database: Database
) -> None:
    earlier = system_clock() - timedelta(hours=1)
    assert notifyctl("suppressions", "remove", "EMAIL", "ann@acme.example").code == 4
    assert not add(database, KeyRing([SecretStr(SECRET)]), acted_at=earlier, now=system_clock())
    assert add(database, KeyRing([SecretStr(SECRET)]), now=system_clock())


def test_the_list_masks_addresses_unless_told_otherwise(notifyctl: CommandLine) -> None:
    notifyctl("suppressions", "add", "EMAIL", "ann@acme.example", "--note", "asked by phone")
    masked = json.loads(notifyctl("suppressions", "list", "-f", "json").out)
    assert masked[0]["address"] == "a***@acme.example"
    assert "ann@acme.example" not in json.dumps(masked)
    assert (masked[0]["reason"], masked[0]["note"]) == ("MANUAL", "asked by phone")
    revealed = json.loads(notifyctl("suppressions", "list", "--reveal", "-f", "json").out)
    assert revealed[0]["address"] == "ann@acme.example"


def test_the_list_filters_by_channel_and_reason(notifyctl: CommandLine) -> None:
    notifyctl("suppressions", "add", "EMAIL", "ann@acme.example", "--reason", "complaint")
    notifyctl("suppressions", "add", "EMAIL", "bob@acme.example")
    notifyctl("suppressions", "add", "SMS", "+491701234567")

    def count(*options: str) -> int:
        return len(json.loads(notifyctl("suppressions", "list", "-f", "json", *options).out))

    assert (count(), count("--channel", "email"), count("--reason", "MANUAL")) == (3, 2, 2)
    assert count("--channel", "SMS", "--reason", "COMPLAINT") == 0


def test_removing_lifts_it_and_a_second_time_is_exit_4(notifyctl: CommandLine) -> None:
    notifyctl("suppressions", "add", "EMAIL", "ann@acme.example", "--reason", "HARD_BOUNCE")
    removed = notifyctl("suppressions", "remove", "EMAIL", "ann@ACME.example")
    assert removed.code == 0
    assert removed.err.startswith("EMAIL ann@acme.example is no longer suppressed (HARD_BOUNCE by cli")
    again = notifyctl("suppressions", "remove", "EMAIL", "ann@acme.example")
    assert again.code == 4
    assert "is not suppressed" in again.err


@pytest.mark.parametrize(
    ("source", "words"), [("postmark", "Postmark itself still suppresses it"), ("twilio", "must send START")]
)
def test_lifting_what_a_provider_reported_says_that_the_provider_goes_on(
    notifyctl: CommandLine, database: Database, source: str, words: str
) -> None:
    add(database, KeyRing([SecretStr(SECRET)]), actor=source, reason=SuppressionReason.INACTIVE)
    removed = notifyctl("suppressions", "remove", "EMAIL", "ann@acme.example")
    lifted, hint = removed.err.splitlines()
    assert lifted == f"EMAIL ann@acme.example is no longer suppressed (INACTIVE by {source})."
    assert words in hint


@pytest.mark.parametrize("address", ["nobody", "ann@acme.example\n"])
def test_what_is_no_address_is_exit_2(notifyctl: CommandLine, address: str) -> None:
    assert notifyctl("suppressions", "add", "EMAIL", address).code == 2
