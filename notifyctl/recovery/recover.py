"""Recovery: what a store has forgotten is asked of the providers in bulk, before anything is sent from it again.

Every step may be done again: who is killed in the middle is followed by the next, who begins anew.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.clients.suppressions import lift, suppress
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.delivery.claims import LEASE
from notifyctl.delivery.pace.throttle import WINDOW, Budget
from notifyctl.errors import ProviderError
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import AuditAction, Channel, SuppressionReason
from notifyctl.operations import limits, store_state
from notifyctl.operations.store_state import Forgotten
from notifyctl.operations.witness import Witness
from notifyctl.orchestrator.cancel import withdraw
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.otp.codes import PepperRing
from notifyctl.providers.contract import History, OptOutWord, SentRecord
from notifyctl.providers.registry import PROVIDERS, build_histories
from notifyctl.recovery import store
from notifyctl.recovery.records import Records, RecoverySummary
from notifyctl.settings import Settings
from notifyctl.text.addresses import AddressError, normal_address
from notifyctl.text.durations import plural

AT_ONCE = 500
BY_HAND = "an operator says so"
CLOCKS_DIFFER_BY = timedelta(minutes=5)
"""A provider's and ours, and what it takes to commit."""
HELD_FOR = timedelta(minutes=1)
"""Recovery is left to one process so long after its last step."""
SEEN = timedelta(minutes=1)
"""Workers that were seen so long before are asked for what they know."""

log = logging.getLogger("notifyctl.recovery")


@dataclass(frozen=True, slots=True)
class NotYet:
    """Recovery is needed and goes on later."""

    why: str
    has_no_answer: bool = False
    """A provider cannot be asked, or does not answer."""


_Record = TypeVar("_Record")


class Watch(Protocol):
    """Hands records on and shows how many have come."""

    def __call__(self, records: Iterable[_Record], label: str, /) -> Iterable[_Record]: ...


ReplayStripe = Callable[[datetime, str], Iterable[object]]
"""Works on Stripe's events since a moment once more, as an actor. Raises ProviderError."""
NOT_RECOVERED = (
    "idempotency keys of the SMS that were accepted since: who repeats a call makes a second message",
    "changes of clients, their consent and provisioning, compliance items, limits, pauses, keys and templates",
    "what was accepted since and had not gone out",
    "the reference by which a rate is counted (rate_limit_by), and the words of what was sent",
)
"""What nobody else knows."""


def _unwatched(records: Iterable[_Record], _label: str, /) -> Iterable[_Record]:
    return records


class _Rehearsed(Exception):
    """Ends a transaction of a dry run, so that nothing of it is written."""


class Recovery:
    """Used by one thread."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        keys: KeyRing,
        owner: str,
        *,
        replay_stripe: ReplayStripe,
    ) -> None:
        self._replay_stripe = replay_stripe
        self._settings = settings
        self._database = database
        self._clock = clock
        self._keys = keys
        self._owner = owner
        self._is_dry = False
        self._watch: Watch = _unwatched

    def run(
        self, *, dry_run: bool = False, since: datetime | None = None, watch: Watch | None = None
    ) -> RecoverySummary | NotYet | None:
        """None where nothing is to be recovered. `since`: for a dry run of what nobody has found. Raises DatabaseError.

        Without proof of a loss everybody who was sending when another server took over is waited for: each writes again
        what it knows, and says so. Nobody of them missing anything, and nobody being missing, nothing was lost that was
        sent. Otherwise the providers are asked, once they can be believed to have all that went out.
        """
        self._is_dry, self._watch = dry_run, watch or self._watch
        with self._database.transaction() as session:
            now = self._clock()
            view = store_state.look(session, None, asks_server=False)
            found = view.forgotten
            if dry_run and since is not None:
                found = Forgotten(min(since, found.since) if found else since, now, BY_HAND, is_proven=True)
            if found is None:
                return None
            if not dry_run and not store_state.take(session, self._owner, now=now, until=now + HELD_FOR):
                return NotYet("another process recovers it")
            silent = store_state.unconfirmed(session, view.generation, found.found_at - SEEN)
            lost = [worker for worker, seen_at in silent if now - seen_at > LEASE]
            if silent and not lost and not dry_run:
                return NotYet(
                    f"{plural(len(silent), 'worker has', 'workers have')} not written again yet what they know"
                )
            if lost and not found.is_proven and not dry_run:
                cause = f"{found.cause}, and a worker that was sending is gone"
                since, moment = found.since, found.found_at
                store_state.need_recovery(session, since=since, cause=cause, is_proven=True, now=moment)
                found = store_state.forgotten(session) or found
        summary = RecoverySummary(found.since, found.cause, found.is_proven)
        if found.is_proven:
            waits = self._ask_providers(found, summary)
            if waits is not None:
                return waits
            self._ask_stripe(found, summary)
        return summary if self._is_dry else self._finish(found, summary)

    def _finish(self, found: Forgotten, summary: RecoverySummary) -> RecoverySummary | NotYet:
        with self._database.transaction() as session:
            now = self._clock()
            if not store_state.recovered(session, self._owner, found=found, now=now):
                return NotYet("more was found to be forgotten")
            if found.is_proven:
                self._use_budgets(session, summary, now)
            details = {"command": "db recover"} | summary.details
            audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=self._owner, now=now, details=details)
        log.warning("the database is recovered, sending goes on", extra=summary.details)
        return summary

    def _use_budgets(self, session: Session, summary: RecoverySummary, now: datetime) -> None:
        """What of the minute was used is forgotten as well: as much as the providers have got of late."""
        for channel, count in summary.lately.items():
            limit = limits.per_minute(session, channel) or self._settings.per_minute_limit(channel)
            limits.lock_budget(session, channel)
            limits.save_budget(session, channel, dict(Budget.used_now(limit, count, now).dump()))

    def _ask_providers(self, found: Forgotten, summary: RecoverySummary) -> NotYet | None:
        try:
            histories = build_histories(self._settings, self._settings.channels)
        except ProviderError as error:
            return NotYet(str(error), has_no_answer=True)
        try:
            for channel, history in histories.items():
                believed_at = found.found_at + history.search_delay
                if self._clock() < believed_at and not self._is_dry:
                    return NotYet(f"{channel}: its provider shows only after a while all that it has")
            with self._database.read() as session:
                summary.waiting = store.count_open(session, found.found_at)
            for channel, history in histories.items():
                self._ask(channel, history, found, summary)
                summary.calls += history.calls
            with self._step() as session:
                lifetime = timedelta(seconds=self._settings.otp_ttl_seconds)
                self._lock(session, (), found.since - lifetime, summary)
        except ProviderError as error:
            return NotYet(f"no answer from a provider: {error}", has_no_answer=True)
        finally:
            for history in histories.values():
                history.close()
        return None

    def _ask_stripe(self, found: Forgotten, summary: RecoverySummary) -> None:
        """After the mails that went out are known again, so that none of them is written twice. Nobody's mail waits
        for Stripe to answer: what was not fetched is said.
        """
        if self._is_dry or not self._settings.stripe_api_key:
            return
        try:
            for _ in self._watch(self._replay_stripe(found.since, self._owner), "events at Stripe"):
                summary.stripe_events += 1
                if summary.stripe_events % AT_ONCE == 0:
                    with self._step():
                        pass
        except ProviderError as error:
            log.warning("Stripe's events are not all fetched", extra={"error": str(error)})
        else:
            summary.has_stripe = True

    def _ask(self, channel: Channel, history: History, found: Forgotten, summary: RecoverySummary) -> None:
        since = found.since - CLOCKS_DIFFER_BY
        records = history.sent(since, self._clock() + CLOCKS_DIFFER_BY)
        taker = Records(self._clock, self._keys, self._owner)
        for batch in _batches(channel, self._watch(records, f"{channel} at the provider")):
            oldest = self._clock() - WINDOW
            summary.lately[channel] += sum(record.accepted_at >= oldest for record in batch)
            with self._step() as session:
                phones = taker.take(session, channel, batch, summary)
                self._lock(session, phones, None, summary)
        suppressed, words = list(history.suppressions(since)), list(history.opt_outs(since))
        with self._step() as session:
            for address in suppressed:
                self._suppress(session, channel, address.recipient, address.reason, address.since, summary)
            for word in words:
                if word.is_stop:
                    reason = SuppressionReason.OPTED_OUT
                    self._suppress(session, channel, word.sender, reason, word.received_at, summary)
                else:
                    self._release(session, channel, word, summary)

    @contextmanager
    def _step(self) -> Iterator[Session]:
        """A transaction, with a renewal of what keeps others away."""
        try:
            with self._database.transaction() as session:
                now = self._clock()
                if not self._is_dry:
                    store_state.take(session, self._owner, now=now, until=now + HELD_FOR)
                yield session
                if self._is_dry:
                    raise _Rehearsed
        except _Rehearsed:
            pass

    def _suppress(
        self,
        session: Session,
        channel: Channel,
        recipient: str,
        reason: SuppressionReason,
        acted_at: datetime | None,
        summary: RecoverySummary,
    ) -> None:
        address, actor, now = _normal(channel, recipient), PROVIDERS[channel].name, self._clock()
        if address is not None:
            summary.suppressed += suppress(
                session, self._keys, channel, address, reason=reason, actor=actor, now=now, acted_at=acted_at
            )

    def _release(self, session: Session, channel: Channel, word: OptOutWord, summary: RecoverySummary) -> None:
        address, actor, reason = _normal(channel, word.sender), PROVIDERS[channel].name, SuppressionReason.OPTED_OUT
        if address is not None:
            now, acted_at = self._clock(), word.received_at
            summary.released += bool(
                lift(session, self._keys, channel, address, actor=actor, now=now, acted_at=acted_at, reason=reason)
            )

    def _lock(
        self, session: Session, phones: Collection[str], live_since: datetime | None, summary: RecoverySummary
    ) -> None:
        """Nobody knows how often the codes of these were tried, nor those that have lived since then."""
        now = self._clock()
        peppers = PepperRing(self._settings.otp_pepper)
        hashes = {each: key_id for phone in phones for each, key_id in peppers.phone_hashes(phone).items()}
        until = now + timedelta(seconds=self._settings.otp_lockout_seconds)
        locked, ended = store.lock_codes(session, phone_hashes=hashes, live_since=live_since, until=until, now=now)
        summary.phones_locked += locked
        if ended:
            why = "how often its code was tried is not known any more"
            withdraw(session, MessageFilter(ids=ended), why, actor=self._owner, now=now)


class StoreKeeper:
    """What a worker does about a store that has gone back in time. Used by one thread."""

    def __init__(self, recovery: Recovery, database: Database, clock: Clock, witness: Witness, owner: str) -> None:
        self._recovery = recovery
        self._database = database
        self._clock = clock
        self._witness = witness
        self._owner = owner
        self._confirmed: int | None = None
        self._waits_for = ""
        self.is_whole = False
        """Whether the store was whole at the last look."""

    def attend(self, write_again: Callable[[Session, datetime], int]) -> bool:
        """Looks at the store, writes again what it has forgotten of this worker's doing, and recovers the rest.

        Returns whether it was recovered just now. `write_again` also says that this worker is there, and of how many
        messages the store knew less. Raises DatabaseError.
        """
        view = self._witness.examine()
        if view.generation != self._confirmed:
            with self._database.transaction() as session:
                now, known = self._clock(), view.forgotten
                if write_again(session, now) and known is not None and not known.is_proven:
                    cause = "it lacks what a worker had committed in it"
                    store_state.need_recovery(session, since=known.since, cause=cause, is_proven=True, now=now)
                store_state.confirm(session, self._owner, view.generation)
                seen = store_state.newest(session, view.generation)
            self._confirmed = self._witness.generation = view.generation
            self._witness.keep(seen)
        self.is_whole = view.forgotten is None
        if self.is_whole:
            self._witness.catch_up()
            return False
        result = self._recovery.run()
        if isinstance(result, NotYet) and result.why != self._waits_for:
            log.warning("recovery waits", extra={"why": result.why})
        self._waits_for = result.why if isinstance(result, NotYet) else ""
        self.is_whole = not self._waits_for
        return self.is_whole


def _batches(channel: Channel, records: Iterable[SentRecord]) -> Iterator[list[SentRecord]]:
    """Where the provider keeps no id of ours, all to one number are in one of them."""
    keeps_our_id = PROVIDERS[channel].keeps_our_id
    if not keeps_our_id:
        records = sorted(records, key=lambda record: (record.recipient, record.accepted_at))
    batch: list[SentRecord] = []
    for record in records:
        if len(batch) >= AT_ONCE and (keeps_our_id or record.recipient != batch[-1].recipient):
            yield batch
            batch = []
        batch.append(record)
    if batch:
        yield batch


def _normal(channel: Channel, address: str) -> str | None:
    """None for what we could not have written to."""
    try:
        return normal_address(channel, address)
    except AddressError:
        return None
