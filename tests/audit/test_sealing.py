"""Sealing beside those who write: nobody waits for it, nothing is missed, and nothing is blamed that was in order."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from time import sleep

import pytest
from sqlalchemy import text
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit import row_store, seal_store
from notifyctl.audit import seal as audit_seal
from notifyctl.audit.chain import SealKeys
from notifyctl.audit.seal import SealResult
from notifyctl.audit.verify import ProblemKind
from notifyctl.bootstrap import Runtime
from notifyctl.db.database import Database
from tests.support.audit_log import an_entry, ask, keys_of, row_ids, seal, sealed_log, sql, verify, write_rows
from tests.support.settings import SECRET, make_settings

NEW_KEY = "9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f9e7c5b3a1f2468"
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


def keys(secrets: str) -> SealKeys:
    return SealKeys(make_settings(notification_secret_key=secrets).notification_secret_key)


def test_what_was_written_is_sealed_once_and_only_what_is_new(runtime: Runtime) -> None:
    write_rows(runtime, 3)
    first = seal(runtime)
    assert (first.rows, first.seals, first.head.number) == (len(row_ids(runtime)), 1, 1)
    assert seal(runtime) == SealResult(0, 0, first.head, None)
    write_rows(runtime, 2)
    assert (seal(runtime).rows, len(ask(runtime, "SELECT id FROM audit_seal"))) == (2, 2)


def test_an_empty_log_makes_no_seal(runtime: Runtime) -> None:
    sql(runtime, "DELETE FROM audit_log")
    assert str(seal(runtime)) == f"0 audit rows sealed; head 0:{'0' * 64}"


def test_a_backlog_is_sealed_in_one_run_and_in_pieces(runtime: Runtime) -> None:
    for _ in range(5):
        write_rows(runtime, 1_000)
    made = seal(runtime)
    assert made.rows == len(row_ids(runtime))
    assert made.seals == 6
    assert all(row.row_count <= row_store.PAGE_ROWS for row in ask(runtime, "SELECT row_count FROM audit_seal"))
    assert verify(runtime).is_good


@on_postgresql
def test_a_lower_id_that_is_committed_late_is_waited_for(runtime: Runtime) -> None:
    seal(runtime)
    with runtime.database.transaction() as slow:
        audit_log.write_many(slow, [an_entry(runtime, actor="slow")])
        write_rows(runtime, 2)
        waiting = seal(runtime, patience_seconds=0.1)
        assert (waiting.rows, waiting.waits_for is None) == (0, False)
        assert "nothing sealed: database process" in str(waiting)
        assert verify(runtime).unsealed.rows == 2
    assert seal(runtime).rows == 3
    report = verify(runtime)
    assert report.is_good
    assert report.unsealed.rows == 0
    actors = [row.actor for row in ask(runtime, "SELECT actor FROM audit_log ORDER BY id")]
    assert actors[-3:] == ["slow", "worker", "worker"], "the test is about a lower id"


@on_postgresql
def test_a_sealer_that_goes_by_the_highest_id_blames_who_commits_late(runtime: Runtime) -> None:
    """Why it is not done: this is what the test above would find."""
    seal(runtime)
    with runtime.database.transaction() as slow:
        audit_log.write_many(slow, [an_entry(runtime, actor="slow")])
        write_rows(runtime, 2)
        with runtime.database.read() as session:
            highest = row_store.highest_id(session)
        audit_seal.seal_up_to(highest, runtime.database, keys_of(runtime), runtime.clock, lambda: False)
    problem = verify(runtime).problems[0]
    assert (problem.kind, problem.row) == (ProblemKind.ROW_INSERTED, row_ids(runtime)[-3])


@on_postgresql
def test_a_writer_who_has_his_id_and_no_transaction_number_yet_is_waited_for(runtime: Runtime) -> None:
    """Why it does not go by the number of the oldest transaction: this one has none while it has an id."""
    seal(runtime)
    slow_insert = (
        "WITH taken AS MATERIALIZED (SELECT nextval('audit_log_id_seq') AS id)"
        " INSERT INTO audit_log (id, action, actor, created_at) SELECT id, 'OPERATOR_ACTION', 'slow', now()"
        " FROM taken, LATERAL (SELECT pg_sleep(1 + 0 * id)) AS slept"
    )
    while ask(runtime, "SELECT log_cnt FROM audit_log_id_seq")[0].log_cnt < 5:
        write_rows(runtime, 1)  # for every 32 ids the sequence writes to its log, and takes a number for that
    seal(runtime)
    slow = threading.Thread(target=sql, args=(runtime, slow_insert))
    slow.start()
    has_it = "SELECT backend_xid FROM pg_stat_activity WHERE query LIKE 'WITH taken AS%'"
    wait_until(lambda: len(ask(runtime, has_it)) == 1)
    sleep(0.2)
    assert ask(runtime, has_it) == [(None,)]
    write_rows(runtime, 1)
    assert seal(runtime, patience_seconds=0).waits_for is not None
    assert seal(runtime).rows == 2
    slow.join()
    assert verify(runtime).is_good
    assert [row.actor for row in ask(runtime, "SELECT actor FROM audit_log ORDER BY id")][-2:] == ["slow", "worker"]


class _GivenUp(Exception):
    pass


@contextmanager
def given_up(database: Database) -> Iterator[Session]:
    """A transaction that is rolled back at its end."""
    with suppress(_GivenUp), database.transaction() as session:
        yield session
        raise _GivenUp


@on_postgresql
def test_a_rolled_back_writer_is_waited_for_and_leaves_a_gap(runtime: Runtime) -> None:
    with given_up(runtime.database) as slow:
        audit_log.write_many(slow, [an_entry(runtime)])
        write_rows(runtime, 1)
        assert seal(runtime, patience_seconds=0).waits_for is not None
    seal(runtime)
    ids = row_ids(runtime)
    assert ids[-1] - ids[-2] == 2
    assert verify(runtime).is_good


@on_postgresql
def test_those_who_only_read_or_write_elsewhere_are_not_waited_for(runtime: Runtime) -> None:
    with runtime.database.transaction() as reader, runtime.database.transaction() as other:
        reader.execute(text("SELECT count(*) FROM audit_log"))
        other.execute(text("DELETE FROM audit_checkpoint"))
        with runtime.database.read() as session:
            assert seal_store.writers(session) == {}
        assert seal(runtime, patience_seconds=0).rows > 0


@on_postgresql
def test_no_writer_waits_for_a_sealer_that_waits(runtime: Runtime) -> None:
    with runtime.database.transaction() as slow:
        audit_log.write_many(slow, [an_entry(runtime)])
        done: list[SealResult] = []
        sealer = threading.Thread(target=lambda: done.append(seal(runtime)))
        sealer.start()
        sleep(0.1)
        sql(runtime, "SET LOCAL lock_timeout = '200ms'", "UPDATE audit_log SET actor = actor WHERE id = 0")
        write_rows(runtime, 1)
    sealer.join()
    assert done[0].rows > 0
    assert verify(runtime).is_good


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        sleep(0.01)
    raise AssertionError("it did not come to that")


def keep_writing(runtime: Runtime, seed: int, number: int, has_enough_seals: Callable[[], bool]) -> None:
    """25 transactions, and more until enough seals were made beside them. On PostgreSQL a fifth is rolled back."""
    database, rng = runtime.database, random.Random(f"{seed} {number}")
    for count in range(1_000):
        if count >= 25 and has_enough_seals():
            return
        is_rolled_back = rng.random() < 0.2 and not database.is_sqlite
        with given_up(database) if is_rolled_back else database.transaction() as session:
            for _ in range(rng.randint(1, 3)):
                audit_log.write_many(session, [an_entry(runtime, actor=f"w{number}")] * rng.randint(1, 4))
                sleep(rng.random() / 200)


def test_all_rows_are_sealed_once_while_many_write_and_two_seal(runtime: Runtime, seed: int) -> None:
    seals: list[int] = []

    def has_enough_seals() -> bool:
        return sum(seals) > 5

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(keep_writing, runtime, seed, number, has_enough_seals) for number in range(6)]

        def keep_sealing() -> None:
            while not all(writer.done() for writer in writers):
                seals.append(seal(runtime).seals)

        for work in [*writers, pool.submit(keep_sealing), pool.submit(keep_sealing)]:
            work.result()
    seal(runtime)
    report = verify(runtime)
    assert report.problems == []
    assert report.unsealed.rows == 0
    assert report.rows == len(row_ids(runtime))
    assert report.seals > 5


def test_two_sealers_at_once_make_one_chain(runtime: Runtime) -> None:
    for _ in range(8):
        write_rows(runtime, 3)
        barrier = threading.Barrier(3)
        made: list[SealResult] = []

        def at_once(barrier: threading.Barrier = barrier, made: list[SealResult] = made) -> None:
            barrier.wait()
            made.append(seal(runtime))

        threads = [threading.Thread(target=at_once) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(one.seals for one in made) == 1
    report = verify(runtime)
    assert (report.is_good, report.seals) == (True, 8)


def test_old_seals_verify_under_their_key_after_a_rotation(runtime: Runtime) -> None:
    sealed_log(runtime, seals=2)
    assert verify(runtime, keys=keys(f"{NEW_KEY},{SECRET}")).is_good
    write_rows(runtime)
    audit_seal.seal(runtime.database, keys(f"{NEW_KEY},{SECRET}"), runtime.clock)
    used = [row.key_id for row in ask(runtime, "SELECT key_id FROM audit_seal ORDER BY id")]
    assert used == [keys(SECRET).present_id] * 2 + [keys(NEW_KEY).present_id]
    assert verify(runtime, keys=keys(f"{NEW_KEY},{SECRET}")).is_good
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id = :id", id=row_ids(runtime)[-8])
    assert verify(runtime, keys=keys(f"{NEW_KEY},{SECRET}")).problems[0].row == row_ids(runtime)[-8]


def test_a_seal_of_the_new_key_vouches_for_those_whose_key_is_gone(runtime: Runtime) -> None:
    sealed_log(runtime, seals=3)
    problem = verify(runtime, keys=keys(NEW_KEY)).problems[0]
    assert (problem.kind, problem.seal) == (ProblemKind.KEY_MISSING, 1)
    assert keys(SECRET).present_id in problem.text
    write_rows(runtime)
    audit_seal.seal(runtime.database, keys(f"{NEW_KEY},{SECRET}"), runtime.clock)
    assert verify(runtime, keys=keys(NEW_KEY)).is_good
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id = :id", id=row_ids(runtime)[-8])
    assert verify(runtime, keys=keys(NEW_KEY)).problems[0].row == row_ids(runtime)[-8]


def test_a_message_and_its_delivery_do_not_wait_for_seals(runtime: Runtime) -> None:
    """Rows are never written to when they are sealed: nobody needs more than the right to insert and to read."""
    write_rows(runtime)
    before = ask(runtime, "SELECT * FROM audit_log ORDER BY id")
    seal(runtime)
    assert ask(runtime, "SELECT * FROM audit_log ORDER BY id") == before
