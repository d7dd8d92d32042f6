"""One channel of one worker: claim, send, record.

Two transactions in plain sight around each call, none open during it. The claim is the journal of intent: it is
committed before the call, so a message that is still SENDING when its lease has run out may have gone out.
What one turn records and what it claims next share a commit.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from threading import Thread
from time import monotonic

from sqlmodel import Session

from notifyctl import errors
from notifyctl.audit import log as audit_log
from notifyctl.clients.suppressions import lock, suppress
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.delivery import outbox, outcomes, quarantine_store, result_store
from notifyctl.delivery.claims import LEASE, Claim, ClaimBatch, Claimer, QueueSnapshot
from notifyctl.delivery.memory import SendingMemory
from notifyctl.delivery.outcomes import Attempt, DeliveryOutcome
from notifyctl.delivery.wording import Wording
from notifyctl.errors import DatabaseError
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import MessageStatus
from notifyctl.operations.witness import Witness
from notifyctl.orchestrator import payload_store
from notifyctl.providers.contract import Answer, OutboundMessage, Rejected, Sender, SendResult, Unknown

AT_ONCE = 500
"""Claimed by a turn at most, and less where so many cannot be rendered before their tokens are too old."""
BESIDE_SECONDS = 0.002
"""How long at most to listen to the calls before asking whether the database is done."""
_EXPECTED = (MessageStatus.SENT, MessageStatus.RETRY_SCHEDULED, MessageStatus.BLOCKED)

log = logging.getLogger("notifyctl.delivery")


class Dispatcher:
    """Used by one thread. It holds what is on the way; the memory, which all loops share, has what went out lately."""

    def __init__(  # noqa: PLR0913  the parts of a sending loop
        self,
        *,
        claimer: Claimer,
        sender: Sender,
        database: Database,
        clock: Clock,
        keys: KeyRing,
        owner: str,
        memory: SendingMemory,
        witness: Witness,
    ) -> None:
        self.channel = claimer.channel
        self._claimer = claimer
        self._sender = sender
        self._database = database
        self._clock = clock
        self._keys = keys
        self._owner = owner
        self._memory = memory
        self._witness = witness
        self._wording = Wording(keys)
        self._attempts: dict[str, Attempt] = {}
        self._answers: list[Answer] = []
        self._came: list[Answer] = []
        """For the next turn."""
        self._lost: Exception | None = None
        """What the sender stumbled over."""
        self._unsent: list[str] = []
        """Claimed and then not sent; to be given back."""
        self._at_once = AT_ONCE
        self.totals: Counter[str] = Counter()

    @property
    def is_idle(self) -> bool:
        """Nothing is on the way and every answer is recorded."""
        return not self._attempts and not self._unsent

    @property
    def has_room(self) -> bool:
        return self._sender.free > 0

    @property
    def has_looked_everywhere(self) -> bool:
        """The last look was at the whole queues: what was not found is not there."""
        return self._claimer.lookout.was_whole

    def look_everywhere(self) -> None:
        """The next look is."""
        self._claimer.lookout.forget()

    def held_ids(self) -> list[str]:
        """The messages that are on their way. May be called from another thread."""
        return list(self._attempts)

    def turn(self, *, claiming: bool, timeout: float) -> int:
        """Waits up to `timeout` seconds for answers, records them, claims what may go and sends it.

        Returns how many messages it claimed, refused, deferred, put off or gave back: after 0, no more can be done.
        Raises DatabaseError when the store is gone; answers not yet recorded are kept for the next turn. Whatever else
        goes wrong ends the message that it goes wrong with, and is raised only if there is no such message.
        """
        self._listen(0.0 if self._came else timeout)
        self._give_up_lost()
        self._answers += [answer for answer in self._came if answer.message_id in self._attempts]
        self._came = []
        free = min(self._sender.free, self._at_once) if claiming else 0
        if not self._answers and not self._unsent and not free:
            return 0
        started = monotonic()
        try:
            batch = self._beside_calls(partial(self._record_and_claim, free))
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  it is about one of the messages, and must not take the others along
            return self._one_by_one(free, error)
        for answer in self._answers:
            self._forget(answer.message_id, answer.result)
        given_back = len(self._unsent)  # still ours when this turn looked: the next finds them
        self._answers, self._unsent = [], []
        self._send(self._without_known(batch), started)
        return given_back + len(batch.claimed) + len(batch.refused) + batch.deferred + batch.put_off

    def _beside_calls(self, work: Callable[[], ClaimBatch]) -> ClaimBatch:
        """What the database is asked for, while the calls that are out go on. Their answers are left to the next turn.

        Until `work` is done only its thread touches what this object holds.
        """
        if not self._sender.in_flight:
            return work()
        done: Future[ClaimBatch] = Future()
        thread = Thread(target=_do, args=(work, done), name=f"notifyctl-store-{self.channel.lower()}", daemon=True)
        thread.start()
        while not done.done() and self._sender.in_flight and self._lost is None:
            self._listen(BESIDE_SECONDS)
        thread.join()
        self._give_up_lost()
        return done.result()

    def _listen(self, timeout: float) -> None:
        try:
            self._came += self._sender.collect(timeout)
        except Exception as error:  # noqa: BLE001  their calls may have gone out
            self._lost = error

    def _give_up_lost(self) -> None:
        if self._lost is not None:
            heard = {answer.message_id for answer in (*self._answers, *self._came)}
            self._lose([message_id for message_id in self._attempts if message_id not in heard], self._lost)
            self._lost = None

    def _lose(self, ids: Sequence[str], error: Exception) -> None:
        """Their calls may have gone out: their leases run out, and the provider is asked."""
        errors.report(log, "calls lost, their messages become in doubt", error, count=len(ids))
        for message_id in ids:
            self._forget(message_id, Unknown("", "its call was lost"))

    def _forget(self, message_id: str, result: SendResult) -> None:
        attempt = self._attempts.pop(message_id, None)
        if attempt is not None:
            self._memory.hear(attempt, result)

    def _record_and_claim(self, free: int) -> ClaimBatch:
        """In one transaction; without one where there is nothing to write."""
        snapshot: QueueSnapshot | None = None
        if not self._answers:
            snapshot = self._look(free)
            if snapshot is None and not self._unsent:
                return ClaimBatch()
        try:
            with self._database.transaction() as session:
                now = self._clock()
                self._record(session, now, self._answers)
                if self._answers and free and not self._unsent:
                    snapshot = self._claimer.snapshot(session, now, free)
                outbox.give_back(session, self._owner, now, self._unsent)
                batch = ClaimBatch() if snapshot is None else self._claim(session, now, snapshot)
                seen = self._witness.newest(session, at_once=False) if self._answers else None
        except BaseException:
            self._claimer.allowance.drop()
            raise
        self._witness.keep(seen)
        return batch

    def _look(self, free: int) -> QueueSnapshot | None:
        """Without a lock, so that an idle worker never stands in a writer's way."""
        if not free:
            return None
        with self._database.read() as session:
            return self._claimer.snapshot(session, self._clock(), free)

    def _claim(self, session: Session, now: datetime, snapshot: QueueSnapshot) -> ClaimBatch:
        # In the same transaction, and so of the same server: what another says may be over by now.
        if not self._witness.permits(session):
            return ClaimBatch()
        batch = self._claimer.claim(session, now, snapshot)
        self._settle(session, batch.refused, now)
        self._wording.load(session, batch.claimed)
        return batch

    def _one_by_one(self, free: int, error: Exception) -> int:
        """After a turn that came to nothing: each answer is recorded by itself, and who cannot be claimed is failed."""
        stubborn = sum(self._record_apart(answer) for answer in list(self._answers))
        with self._database.transaction() as session:
            outbox.give_back(session, self._owner, self._clock(), self._unsent)
        self._unsent = []
        aside, snapshot = 0, self._look(free)
        if snapshot is not None:
            load = self._wording.load
            aside = quarantine_store.set_aside(
                self._database, self._clock, self._claimer, snapshot, self._owner, load=load
            )
        if not stubborn and not aside:
            raise error
        return stubborn + aside

    def _record_apart(self, answer: Answer) -> bool:
        """Whether there was trouble with it. What cannot be recorded at all is left to its lease, and asked about."""
        plain = outcomes.without_extras(self._attempts[answer.message_id], answer)
        troubles = 0
        for attempt, kept_answer in ((self._attempts[answer.message_id], answer), plain):
            self._attempts[answer.message_id] = attempt
            try:
                with self._database.transaction() as session:
                    self._record(session, self._clock(), [kept_answer])
                break
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001  it is about this answer alone
                troubles += 1
                errors.report(log, "answer cannot be recorded", error, message_id=answer.message_id)
        self._answers.remove(answer)
        self._forget(answer.message_id, answer.result)
        return troubles > 0

    def _record(self, session: Session, now: datetime, answers: Sequence[Answer]) -> None:
        to_record = [
            outcomes.of_answer(self._attempts[answer.message_id], answer, actor=self._owner, now=now)
            for answer in answers
        ]
        if not to_record:
            return
        written = result_store.record(session, self._owner, [outcome.result for outcome in to_record])
        kept = [outcome for outcome in to_record if outcome.result.id in written]
        if late := [outcome for outcome in to_record if outcome.result.id not in written]:
            kept += self._record_late(session, late)
        self._settle(session, kept, now)
        self._claimer.breaker.hear(session, answers, now)

    def _record_late(self, session: Session, late: Sequence[DeliveryOutcome]) -> list[DeliveryOutcome]:
        """Answers of claims that the row does not show. That a message was accepted is true whoever holds it now."""
        accepted = [outcome for outcome in late if outcome.result.status is MessageStatus.SENT]
        attempts = [self._attempts[outcome.result.id] for outcome in accepted]
        results = [outcome.result for outcome in accepted]
        written = result_store.write_again(session, self._owner, self._sender.provider, results, attempts)
        if lost := len(late) - len(written):
            log.warning("answers came after the lease was lost", extra={"channel": self.channel, "count": lost})
        return [outcomes.of_forgotten(outcome) for outcome in accepted if outcome.result.id in written]

    def _settle(self, session: Session, kept: Sequence[DeliveryOutcome], now: datetime) -> None:
        audit_log.write_many(session, [entry for outcome in kept for entry in outcome.entries])
        payload_store.erase_payloads(session, [outcome.result.id for outcome in kept if outcome.erase])
        for outcome in kept:
            self._report(outcome)
        self._suppress(session, [outcome for outcome in kept if outcome.suppress], now)

    def _suppress(self, session: Session, refused: Sequence[DeliveryOutcome], now: datetime) -> None:
        attempts = {outcome.result.id: self._attempts[outcome.result.id] for outcome in refused}
        lock(session, self._keys, self.channel, {attempt.recipient for attempt in attempts.values()})
        for outcome in refused:
            if outcome.suppress is not None:
                attempt = attempts[outcome.result.id]
                suppress(
                    session,
                    self._keys,
                    self.channel,
                    attempt.recipient,
                    reason=outcome.suppress,
                    actor=self._sender.provider,
                    now=now,
                    # The provider knew it when we called: what was said since is later.
                    acted_at=attempt.attempted_at,
                )

    def _report(self, outcome: DeliveryOutcome) -> None:
        status = outcome.result.status
        self.totals[status] += 1
        level = logging.INFO if status in _EXPECTED else logging.WARNING
        if log.isEnabledFor(level):
            log.log(level, "message %s", status.lower(), extra=outcome.log_fields)

    def _without_known(self, batch: ClaimBatch) -> list[Claim]:
        """Those to be sent. What this process is sending or has sent already, the database must have forgotten."""
        unknown: list[Claim] = []
        known = 0
        for item, attempt in zip(batch.claimed, batch.attempts, strict=True):
            if self._memory.is_dialling(attempt):
                known += 1
                continue
            self._attempts[attempt.message_id] = attempt
            result = self._memory.recall(attempt)
            if result is None:
                unknown.append(item)
            else:
                known += 1
                self._answers.append(Answer(attempt.message_id, result, 0.0))
        if known:
            log.warning(
                "the database had forgotten messages that went out", extra={"channel": self.channel, "count": known}
            )
        return unknown

    def _send(self, claimed: Sequence[Claim], started: float) -> None:
        outbound: list[OutboundMessage] = []
        for item in claimed:
            attempt = self._attempts[item.message.id]
            message = self._wording.render(item)
            if isinstance(message, Rejected):
                self._answers.append(Answer(attempt.message_id, message, 0.0))
                continue
            if message.subject is not None and not item.template.sensitive:
                self._attempts[attempt.message_id] = attempt._replace(subject=message.subject)
            outbound.append(message)
        has_lease = monotonic() - started < LEASE.total_seconds() / 3
        if has_lease and (not outbound or self._claimer.allowance.is_fresh()):
            # Checked again as the bytes are written: this process may be frozen between here and there.
            self._submit(outbound, started + LEASE.total_seconds() * 2 / 3)
            self._at_once = min(AT_ONCE, self._at_once + 1 + self._at_once // 8)
        else:
            # We were held up between the claim and now: the tokens are too old, and others may hold the messages.
            # It may have been the number of them that held us up, and would again.
            self._at_once = max(1, len(outbound) // 2)
            self._claimer.allowance.return_unused(len(outbound))
            self._abandon([message.message_id for message in outbound])

    def _submit(self, outbound: Sequence[OutboundMessage], send_by: float) -> None:
        self._memory.dial(self._attempts, [message.message_id for message in outbound])
        try:
            self._sender.submit(outbound, send_by=send_by)
        except Exception as error:  # noqa: BLE001  their calls may have gone out
            self._lose([message.message_id for message in outbound], error)

    def _abandon(self, ids: Sequence[str]) -> None:
        log.warning("held up before sending, messages given back", extra={"channel": self.channel, "count": len(ids)})
        for message_id in ids:
            del self._attempts[message_id]
        self._unsent = list(ids)


def _do(work: Callable[[], ClaimBatch], done: "Future[ClaimBatch]") -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  the turn raises it
        done.set_exception(error)
