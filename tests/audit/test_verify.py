"""Whatever somebody does to the log who has the database, and not the key."""

import random
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import col, update

from notifyctl.audit import row_store, seal_store
from notifyctl.audit.chain import BEGINNING, ChainHead, SealKeys, digest_of, parse_head, seal_of, tip_after
from notifyctl.audit.seal import current_head
from notifyctl.audit.seal_store import StoredSeal
from notifyctl.audit.verify import ChainProblem, ProblemKind
from notifyctl.bootstrap import Runtime
from notifyctl.db.bulk import as_moment
from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.models.audit import AuditLog, AuditSeal
from tests.support.audit_log import (
    ask,
    insert_row,
    keys_of,
    row_ids,
    seal,
    sealed_log,
    sql,
    swap,
    undone,
    unguarded,
    verify,
    write_rows,
)

pytestmark = pytest.mark.usefixtures("exhaustive")

STRANGER = SealKeys([SecretStr("9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f2468")])


def first_problem(runtime: Runtime, expected: ChainHead | None = None) -> ChainProblem:
    report = verify(runtime, expected)
    assert not report.is_good
    return report.problems[0]


def named(problem: ChainProblem) -> tuple[ProblemKind, int | None, int | None]:
    return problem.kind, problem.seal, problem.row


def test_an_untouched_log_verifies(runtime: Runtime) -> None:
    sealed_log(runtime)
    report = verify(runtime)
    assert report.is_good
    assert report.seals == 4
    assert report.rows == len(row_ids(runtime))
    assert report.head == current_head(runtime.database)
    assert report.unsealed.rows == 0


def test_rows_that_are_not_sealed_are_counted_with_their_age(runtime: Runtime) -> None:
    sealed_log(runtime)
    write_rows(runtime, 2, now=runtime.clock() - timedelta(hours=3))
    write_rows(runtime, 1)
    report = verify(runtime)
    assert report.is_good
    assert report.unsealed.rows == 3
    assert report.unsealed.oldest_at is not None
    assert timedelta(hours=3) <= runtime.clock() - report.unsealed.oldest_at < timedelta(hours=4)


def test_a_log_without_any_seal_or_row_is_no_problem(runtime: Runtime) -> None:
    assert verify(runtime).is_good
    assert verify(runtime).unsealed.rows == len(row_ids(runtime)) > 0
    sql(runtime, "DELETE FROM audit_log")
    assert verify(runtime).is_good


EDITS = {
    "action": "action = 'OTP_SENT'",
    "actor": "actor = 'mallory'",
    "actor, by a blank at its end": "actor = actor || ' '",
    "client": "client_id = 'other'",
    "client, removed": "client_id = NULL",
    "message": "message_id = '0198c7b2-0000-7000-8000-000000000000'",
    "metadata, removed": "metadata = NULL",
    "metadata, a value": """metadata = '{"attempt": 2, "seconds": 0.002, "detail": "größer", "parts": [null, true, {"a": 1, "b": 2}]}'""",  # noqa: E501  as it is kept
    "metadata, the order of a list": """metadata = '{"attempt": 1, "seconds": 0.002, "detail": "größer", "parts": [true, null, {"a": 1, "b": 2}]}'""",  # noqa: E501  as it is kept
    "metadata, null that is JSON": "metadata = 'null'",
    "time": "created_at = '2020-01-01 00:00:00.000000'",
}  # fmt: skip


def test_a_row_that_was_edited_is_named(runtime: Runtime) -> None:
    sealed_log(runtime)
    row_id = row_ids(runtime)[-8]
    for what, change in EDITS.items():
        with undone(runtime):
            sql(runtime, f"UPDATE audit_log SET {change} WHERE id = :id", id=row_id)
            report = verify(runtime)
            assert [named(problem) for problem in report.problems] == [(ProblemKind.ROW_CHANGED, 3, row_id)], what
            assert report.problems[0].text == f"row {row_id}, in seal 3, was changed"


def test_a_time_that_moved_by_a_microsecond_is_an_edit(runtime: Runtime) -> None:
    sealed_log(runtime)
    row_id = row_ids(runtime)[-8]
    moved = as_moment(audit_row(runtime, row_id).created_at) + timedelta(microseconds=1)
    with runtime.database.transaction() as session, unguarded(session):
        session.execute(update(AuditLog).where(col(AuditLog.id) == row_id).values(created_at=moved))
    assert named(first_problem(runtime)) == (ProblemKind.ROW_CHANGED, 3, row_id)


def audit_row(runtime: Runtime, row_id: int) -> Any:
    with runtime.database.read() as session:
        return next(row for row in row_store.every(session) if row.id == row_id)


SQLITE_ONLY = {
    "an action that does not exist": "action = 'NONE'",
    "bytes that are no UTF-8": "actor = CAST(X'C328' AS TEXT)",
    "bytes in the place of the same text": "actor = CAST('worker' AS BLOB)",
    "a number in the place of a text": "client_id = 1",
    "no JSON": "metadata = '{'",
    "JSON with the member that SQLite reads before the one that others read": """metadata = '{"attempt": 9, ' || substr(metadata, 2)""",  # noqa: E501  as it is kept
    "JSON that is too deep to be read": "metadata = replace(hex(zeroblob(50000)), '00', '[')",
    "no time": "created_at = 'yesterday'",
    "a time that is spelled in another way": "created_at = replace(created_at, ' ', 'T')",
}  # fmt: skip


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_only_sqlite_stores_is_named_and_stops_nothing(runtime: Runtime) -> None:
    sealed_log(runtime)
    row_id = row_ids(runtime)[-8]
    for what, change in SQLITE_ONLY.items():
        with undone(runtime):
            update_row = f"UPDATE audit_log SET {change} WHERE id = :id"
            sql(runtime, "PRAGMA ignore_check_constraints = ON", update_row, id=row_id)
            assert [named(problem) for problem in verify(runtime).problems] == [(ProblemKind.ROW_CHANGED, 3, row_id)], (
                what
            )


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_time_beyond_the_calendar_is_named(runtime: Runtime) -> None:
    sealed_log(runtime)
    row_id = row_ids(runtime)[-8]
    for moment in ("infinity", "-infinity", "2026-03-02 12:00:00+00 BC", "12026-03-02 12:00:00+00"):
        with undone(runtime):
            sql(runtime, f"UPDATE audit_log SET created_at = '{moment}' WHERE id = :id", id=row_id)
            assert named(first_problem(runtime)) == (ProblemKind.ROW_CHANGED, 3, row_id), moment


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_date_before_christ_is_not_taken_for_the_same_one_after(runtime: Runtime) -> None:
    write_rows(runtime, 1)
    seal(runtime)
    row_id = row_ids(runtime)[-1]
    sql(runtime, "UPDATE audit_log SET created_at = CAST(CAST(created_at AS text) || ' BC' AS timestamptz)")
    assert ProblemKind.ROW_CHANGED in {problem.kind for problem in verify(runtime).problems if problem.row == row_id}


def test_json_that_is_only_spelled_in_another_way_is_the_same(runtime: Runtime) -> None:
    sealed_log(runtime)
    spelled = '{ "parts":[null,true,{"a":1,"b":2}],"detail":"gr\\u00f6\\u00dfer" , "seconds":2e-3,"attempt":1 }'
    kind = "TEXT" if runtime.database.is_sqlite else "JSONB"
    change = f"UPDATE audit_log SET metadata = CAST(:text AS {kind}) WHERE id = :id"
    sql(runtime, change, text=spelled, id=row_ids(runtime)[-8])
    assert verify(runtime).is_good


def test_a_row_deleted_from_the_middle_is_named(runtime: Runtime) -> None:
    sealed_log(runtime)
    row_id = row_ids(runtime)[-8]
    sql(runtime, "DELETE FROM audit_log WHERE id = :id", id=row_id)
    assert named(first_problem(runtime)) == (ProblemKind.ROW_DELETED, 3, row_id)


def test_the_first_of_the_rows_is_named_where_the_tail_was_deleted(runtime: Runtime) -> None:
    sealed_log(runtime)
    last_three = row_ids(runtime)[-3:]
    sql(runtime, "DELETE FROM audit_log WHERE id >= :id", id=last_three[0])
    report = verify(runtime)
    assert [problem.row for problem in report.problems] == last_three
    assert {problem.kind for problem in report.problems} == {ProblemKind.ROW_DELETED}


def test_all_rows_of_several_seals_can_be_missed(runtime: Runtime) -> None:
    sealed_log(runtime)
    sql(runtime, "DELETE FROM audit_log")
    assert named(first_problem(runtime))[:2] == (ProblemKind.ROW_DELETED, 1)
    assert verify(runtime).problem_count == sum(row.row_count for row in ask(runtime, "SELECT * FROM audit_seal"))


@pytest.mark.parametrize("apart", [1, 7], ids=["neighbours", "in different seals"])
def test_of_two_rows_that_were_swapped_the_first_is_named(runtime: Runtime, apart: int) -> None:
    sealed_log(runtime)
    first, second = row_ids(runtime)[-8 - apart], row_ids(runtime)[-8]
    swap(runtime, "audit_log", first, second)
    report = verify(runtime)
    assert [problem.row for problem in report.problems] == [first, second]
    assert named(first_problem(runtime))[0] is ProblemKind.ROW_CHANGED


def log_with_a_gap(runtime: Runtime) -> int:
    """A sealed id that no row ever had, as a transaction that was rolled back leaves it."""
    sealed_log(runtime, seals=2)
    gap = row_ids(runtime)[-1] + 1
    insert_row(runtime, gap + 1)
    seal(runtime)
    assert verify(runtime).is_good
    return gap


def test_a_row_inserted_where_there_was_none_is_named(runtime: Runtime) -> None:
    gap = log_with_a_gap(runtime)
    insert_row(runtime, gap)
    assert named(first_problem(runtime)) == (ProblemKind.ROW_INSERTED, 3, gap)


def test_an_inserted_row_is_never_sealed_afterwards(runtime: Runtime) -> None:
    gap = log_with_a_gap(runtime)
    insert_row(runtime, gap)
    if not runtime.database.is_sqlite:
        sql(runtime, "SELECT setval('audit_log_id_seq', :last)", last=gap + 1)
    write_rows(runtime)
    assert seal(runtime).rows == 5
    assert named(first_problem(runtime)) == (ProblemKind.ROW_INSERTED, 3, gap)


def test_a_row_inserted_before_the_first_is_named(runtime: Runtime) -> None:
    sealed_log(runtime)
    for row_id in (0, -7):
        insert_row(runtime, row_id)
        assert named(first_problem(runtime)) == (ProblemKind.ROW_INSERTED, None, row_id)


def test_a_row_with_a_time_from_long_before_the_seal_before_it_is_pointed_out(runtime: Runtime) -> None:
    sealed_log(runtime)
    write_rows(runtime, 1, now=runtime.clock() - timedelta(minutes=50))
    write_rows(runtime, 1, now=runtime.clock() - timedelta(days=3))
    seal(runtime)
    report = verify(runtime)
    assert report.is_good
    assert report.dated_back == row_ids(runtime)[-1:]


SEAL_EDITS = {
    "first row": "first_audit_id = first_audit_id - 1",
    "last row": "last_audit_id = last_audit_id + 1",
    "last row, far away": "last_audit_id = 900000",
    "row count": "row_count = row_count - 1",
    "no hashes": "row_hashes = ''",
    "previous digest": "previous_digest = '" + "2" * 64 + "'",
    "key": "key_id = '00000000'",
    "time": "sealed_at = '2020-01-01 00:00:00.000000'",
    "digest": "digest = '" + "1" * 64 + "'",
}  # fmt: skip


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_seal_that_was_edited_is_named(runtime: Runtime, number: int) -> None:
    sealed_log(runtime)
    for what, change in SEAL_EDITS.items():
        with undone(runtime):
            sql(runtime, f"UPDATE audit_seal SET {change} WHERE id = :id", id=number)
            assert named(first_problem(runtime)) == (ProblemKind.SEAL_ALTERED, number, None), what


def test_a_seal_without_the_word_of_the_key_is_forged(runtime: Runtime) -> None:
    sealed_log(runtime)
    for mac in ("", "0" * 64, "größer"):
        with undone(runtime):
            sql(runtime, "UPDATE audit_seal SET mac = :mac WHERE id = 3", mac=mac)
            assert named(first_problem(runtime)) == (ProblemKind.SEAL_FORGED, 3, None), mac


SEAL_NONSENSE = (
    "last_audit_id = 'x'",
    "sealed_at = 'x'",
    "digest = CAST(X'C328' AS TEXT)",
    "row_hashes = 7",
    "mac = 1.5",
)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_seal_of_which_sqlite_stores_nonsense_is_named(runtime: Runtime) -> None:
    sealed_log(runtime)
    for change in SEAL_NONSENSE:
        with undone(runtime):
            sql(runtime, f"UPDATE audit_seal SET {change} WHERE id = 3")
            assert first_problem(runtime).seal == 3, change


def test_a_seal_that_was_deleted_is_named_and_so_are_several(runtime: Runtime) -> None:
    sealed_log(runtime, seals=6)
    sql(runtime, "DELETE FROM audit_seal WHERE id = 3")
    assert first_problem(runtime).text == "seal 3 is missing"
    assert verify(runtime).problem_count == 1
    sql(runtime, "DELETE FROM audit_seal WHERE id = 4")
    assert first_problem(runtime).text == "seals 3 to 4 are missing"
    sql(runtime, "DELETE FROM audit_seal WHERE id < 3")
    assert first_problem(runtime).text == "seals 1 to 4 are missing"


def test_seals_that_were_swapped_are_named(runtime: Runtime) -> None:
    sealed_log(runtime)
    swap(runtime, "audit_seal", 2, 3)
    assert named(first_problem(runtime)) == (ProblemKind.SEAL_ALTERED, 2, None)


def test_seals_that_were_numbered_anew_to_hide_one_are_named(runtime: Runtime) -> None:
    sealed_log(runtime)
    sql(
        runtime,
        "DELETE FROM audit_seal WHERE id = 2",
        "UPDATE audit_seal SET id = 2 WHERE id = 3",
        "UPDATE audit_seal SET id = 3 WHERE id = 4",
    )
    assert named(first_problem(runtime)) == (ProblemKind.SEAL_ALTERED, 2, None)


def forge(runtime: Runtime, number: int, keys: SealKeys, key_id: str | None = None) -> None:
    """Makes this seal and all after it anew over the rows as they are now, with everything right but the key."""
    with runtime.database.read() as session:
        seals = list(seal_store.every(session))
        rows = list(row_store.every(session))
    tip = tip_after(seals[number - 2]) if number > 1 else BEGINNING
    for old in seals[number - 1 :]:
        span = [row for row in rows if tip.last_id < row.id <= old.last_audit_id]
        made = seal_of(span, tip, keys, runtime.clock())
        if key_id is not None:
            made = made._replace(key_id=key_id.encode())
            made = made._replace(digest=digest_of(made).encode())
        rewrite(runtime, made)
        tip = tip_after(made)


def rewrite(runtime: Runtime, made: StoredSeal) -> None:
    texts = {name: getattr(made, name).decode() for name in ("previous_digest", "key_id", "digest", "mac")}
    values = {"row_count": made.row_count, "row_hashes": made.row_hashes, "sealed_at": as_moment(made.sealed_at)}
    with runtime.database.transaction() as session, unguarded(session):
        session.execute(update(AuditSeal).where(col(AuditSeal.id) == made.id).values(**texts, **values))


@pytest.mark.parametrize("number", [1, 3])
def test_a_chain_made_anew_without_the_key_is_named_where_it_begins(runtime: Runtime, number: int) -> None:
    sealed_log(runtime)
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id = :id", id=row_ids(runtime)[-8])
    forge(runtime, number, STRANGER, key_id=keys_of(runtime).present_id)
    assert named(first_problem(runtime)) == (ProblemKind.SEAL_FORGED, number, None)


def test_a_key_that_nobody_has_does_not_hide_a_chain_made_anew(runtime: Runtime) -> None:
    sealed_log(runtime)
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id = :id", id=row_ids(runtime)[-8])
    forge(runtime, 3, STRANGER)
    assert named(first_problem(runtime)) == (ProblemKind.KEY_MISSING, 3, None)


def test_no_seal_of_ours_vouches_for_such_a_chain(runtime: Runtime) -> None:
    sealed_log(runtime)
    forge(runtime, 3, STRANGER)
    write_rows(runtime)
    with pytest.raises(NotifyctlError, match=f"secret that NOTIFICATION_SECRET_KEY lacks .id '{STRANGER.present_id}'"):
        seal(runtime)
    assert named(first_problem(runtime)) == (ProblemKind.KEY_MISSING, 3, None)


def test_a_seal_in_the_middle_made_anew_does_not_fit_the_next(runtime: Runtime) -> None:
    sealed_log(runtime)
    with runtime.database.read() as session:
        last = seal_store.newest(session)
    forge(runtime, 3, keys_of(runtime))
    assert last is not None
    rewrite(runtime, last)
    assert named(first_problem(runtime)) == (ProblemKind.SEAL_MISPLACED, 4, None)


@pytest.mark.parametrize("what", ["first row", "last row, far away", "no hashes", "digest"])
def test_sealing_goes_on_behind_a_newest_seal_that_was_altered(runtime: Runtime, what: str) -> None:
    sealed_log(runtime)
    sql(runtime, f"UPDATE audit_seal SET {SEAL_EDITS[what]} WHERE id = 4")
    write_rows(runtime, 3)
    assert seal(runtime).rows == 8, "those of the altered seal as well"
    write_rows(runtime, 3)
    seal(runtime)
    report = verify(runtime)
    assert [named(problem) for problem in report.problems] == [(ProblemKind.SEAL_ALTERED, 4, None)]
    assert report.unsealed.rows == 0
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id = :id", id=row_ids(runtime)[-5])
    assert named(verify(runtime).problems[1]) == (ProblemKind.ROW_CHANGED, 5, row_ids(runtime)[-5])


def test_a_cut_tail_shows_against_a_head_that_was_kept(runtime: Runtime) -> None:
    sealed_log(runtime)
    head = current_head(runtime.database)
    first_gone = ask(runtime, "SELECT first_audit_id FROM audit_seal WHERE id = 3")[0][0]
    sql(runtime, "DELETE FROM audit_seal WHERE id >= 3", "DELETE FROM audit_log WHERE id >= :id", id=first_gone)
    assert verify(runtime).is_good
    problem = first_problem(runtime, head)
    assert named(problem) == (ProblemKind.TAIL_CUT, 4, None)
    assert "the chain ends with seal 2" in problem.text


def test_a_cut_tail_that_was_sealed_anew_shows_against_the_head(runtime: Runtime) -> None:
    sealed_log(runtime)
    head = current_head(runtime.database)
    sql(runtime, "DELETE FROM audit_seal WHERE id >= 3", "UPDATE audit_log SET actor = 'mallory' WHERE id = :id",
        id=row_ids(runtime)[-1])  # fmt: skip
    for _ in range(3):
        write_rows(runtime)
        seal(runtime)
    assert verify(runtime).is_good
    assert named(first_problem(runtime, head)) == (ProblemKind.HEAD_DIFFERS, 4, None)


def test_a_chain_that_goes_on_beyond_the_expected_head_is_fine(runtime: Runtime) -> None:
    heads = [BEGINNING.head]
    for _ in range(4):
        write_rows(runtime)
        heads.append(seal(runtime).head)
    assert [verify(runtime, head).is_good for head in heads] == [True] * 5
    assert not verify(runtime, ChainHead(2, heads[3].digest)).is_good
    assert not verify(runtime, ChainHead(5, heads[3].digest)).is_good


@pytest.mark.parametrize("text", ["", "7", "7:", "x:" + "0" * 64, "7:" + "0" * 63, "-1:" + "0" * 64, "7:" + "g" * 64])
def test_a_head_that_is_none_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no head: it is NUMBER:DIGEST"):
        parse_head(text)


def test_a_head_is_read_as_it_is_printed() -> None:
    head = ChainHead(7, "0f" * 32)
    assert parse_head(f" {head}\n".upper()) == head


ALWAYS_EDITS = [
    "action = 'OTP_SENT'",
    "actor = actor || 'x'",
    "client_id = coalesce(client_id, '') || 'x'",
    "message_id = '0198c7b2-0000-7000-8000-000000000000'",
    "metadata = NULL",
    "created_at = '2020-01-01 00:00:00.000000'",
]
"""Whatever the row has had."""


def _edit(runtime: Runtime, rng: random.Random) -> tuple[ProblemKind, int]:
    row_id = rng.choice(row_ids(runtime))
    sql(runtime, f"UPDATE audit_log SET {rng.choice(ALWAYS_EDITS)} WHERE id = :id", id=row_id)
    return ProblemKind.ROW_CHANGED, row_id


def _delete(runtime: Runtime, rng: random.Random) -> tuple[ProblemKind, int]:
    row_id = rng.choice(row_ids(runtime))
    sql(runtime, "DELETE FROM audit_log WHERE id = :id", id=row_id)
    return ProblemKind.ROW_DELETED, row_id


def _cut(runtime: Runtime, rng: random.Random) -> tuple[ProblemKind, int]:
    row_id = rng.choice(row_ids(runtime))
    sql(runtime, "DELETE FROM audit_log WHERE id >= :id", id=row_id)
    return ProblemKind.ROW_DELETED, row_id


def _swap(runtime: Runtime, rng: random.Random) -> tuple[ProblemKind, int]:
    first, second = sorted(rng.sample(row_ids(runtime), 2))
    swap(runtime, "audit_log", first, second)
    return ProblemKind.ROW_CHANGED, first


def _insert(runtime: Runtime, rng: random.Random) -> tuple[ProblemKind, int]:
    there = set(row_ids(runtime))
    row_id = rng.choice([number for number in range(1, max(there)) if number not in there])
    insert_row(runtime, row_id, timedelta(seconds=rng.randrange(100)))
    return ProblemKind.ROW_INSERTED, row_id


def _edit_seal(runtime: Runtime, rng: random.Random) -> tuple[ProblemKind, int]:
    number = rng.randint(1, 6)
    sql(runtime, f"UPDATE audit_seal SET {rng.choice(list(SEAL_EDITS.values()))} WHERE id = :id", id=number)
    return ProblemKind.SEAL_ALTERED, number


def _delete_seal(runtime: Runtime, rng: random.Random) -> tuple[ProblemKind, int]:
    number = rng.randint(1, 5)
    sql(runtime, "DELETE FROM audit_seal WHERE id = :id", id=number)
    return ProblemKind.SEAL_MISSING, number


def _swap_seals(runtime: Runtime, rng: random.Random) -> tuple[ProblemKind, int]:
    first, second = sorted(rng.sample(range(1, 7), 2))
    swap(runtime, "audit_seal", first, second)
    return ProblemKind.SEAL_ALTERED, first


BLOWS = [_edit, _delete, _cut, _swap, _insert, _edit_seal, _delete_seal, _swap_seals]


@pytest.mark.parametrize("number", range(3))
def test_any_blow_at_random_is_found_and_named(runtime: Runtime, seed: int, number: int) -> None:
    rng = random.Random(f"{seed} {number}")
    log_with_gaps(runtime, rng)
    for blow in BLOWS * 3:
        with undone(runtime):
            kind, where = blow(runtime, rng)
            problem = first_problem(runtime)
            place = problem.seal if kind.startswith("seal") else problem.row
            assert (problem.kind, place) == (kind, where), (blow.__name__, problem)


def log_with_gaps(runtime: Runtime, rng: random.Random) -> None:
    """Six seals of some rows each, with ids left out."""
    last = row_ids(runtime)[-1]
    for _ in range(6):
        for _ in range(rng.randint(2, 6)):
            last += rng.choice([1, 1, 2, 5])
            insert_row(runtime, last)
        seal(runtime)
