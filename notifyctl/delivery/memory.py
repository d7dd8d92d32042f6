"""What a worker knows by itself of what it has sent: a database that forgets is no reason to dial a message again.

A failover may lose the last commits, and a restore many. The rows of what went out since are waiting again then.
"""

import pickle
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from time import monotonic

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.delivery import outcomes, result_store
from notifyctl.delivery.outcomes import Attempt
from notifyctl.delivery.result_store import AttemptResult
from notifyctl.models.enums import Channel, MessageStatus
from notifyctl.orchestrator import payload_store
from notifyctl.providers.contract import Accepted, Answer, SendResult, Unknown
from notifyctl.providers.registry import PROVIDERS

AT_ONCE = 1_000
KEPT_SECONDS = 600.0
MOST = 20_000
PACKED_AT_ONCE = 500
"""Hardly any of it is ever asked for: packed, each takes half of the memory."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A message that went out, or may have."""

    attempt: Attempt
    result: Accepted | Unknown
    heard_at: float
    """By the monotonic clock."""


class Pack:
    """Many of them as bytes. Rebuilt by hand: what pickle does itself for such objects takes five times as long."""

    __slots__ = ("_content", "heard_at")

    def __init__(self, items: Iterable[Remembered], heard_at: float) -> None:
        """`heard_at` is that of the newest."""
        self.heard_at = heard_at
        rows = [
            (
                *item.attempt,
                item.result.provider_message_id if isinstance(item.result, Accepted) else item.result,
            )
            for item in items
        ]
        self._content = pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)

    def open(self) -> dict[str, Remembered]:
        """By the message's id."""
        opened = {}
        for *values, result in pickle.loads(self._content):  # noqa: S301  nobody else can have written it
            attempt = Attempt(*values)
            known = result if isinstance(result, Unknown) else Accepted(result)
            opened[attempt.message_id] = Remembered(attempt, known, self.heard_at)
        return opened


class SendingMemory:
    """One for all loops of a worker, as any of them may claim what another is sending."""

    def __init__(self) -> None:
        self._looking = Lock()
        self._dialling: dict[str, MutableMapping[str, Attempt]] = {}
        """The attempts of the loop that is sending it, by its id."""
        self._heard: OrderedDict[str, Remembered | Pack] = OrderedDict()
        """Oldest first. A pack stands there under each of its messages, and is gone with the last of them."""
        self._loose: list[str] = []
        """Heard since the last pack was made."""

    def dial(self, attempts: MutableMapping[str, Attempt], ids: Iterable[str]) -> None:
        """`attempts` are those of the loop that is about to send these."""
        with self._looking:
            self._dialling |= dict.fromkeys(ids, attempts)

    def hear(self, attempt: Attempt, result: SendResult) -> None:
        """It is not being sent any more. What did not go out may be sent again."""
        now = monotonic()
        with self._looking:
            self._dialling.pop(attempt.message_id, None)
            if isinstance(result, Accepted | Unknown):
                self._heard[attempt.message_id] = Remembered(attempt, result, now)
                self._heard.move_to_end(attempt.message_id)
                self._loose.append(attempt.message_id)
                if len(self._loose) >= PACKED_AT_ONCE:
                    self._pack(now)
            while self._heard and (len(self._heard) > MOST or self._oldest().heard_at < now - KEPT_SECONDS):
                self._heard.popitem(last=False)

    def not_sent(self, ids: Iterable[str]) -> None:
        with self._looking:
            for message_id in ids:
                self._dialling.pop(message_id, None)

    def is_dialling(self, attempt: Attempt) -> bool:
        """Whether one of the loops is sending it at this moment. If so, what comes of that is taken for `attempt`."""
        with self._looking:
            attempts = self._dialling.get(attempt.message_id)
            if attempts is None or attempt.message_id not in attempts:
                return False
            attempts[attempt.message_id] = attempt
            return True

    def recall(self, attempt: Attempt) -> Accepted | Unknown | None:
        """What came of the message before this claim, if the row that was claimed does not know of it.

        A message in doubt may well be claimed again, once the provider was asked: then the claim is a later one.
        """
        with self._looking:
            known = self._heard.get(attempt.message_id)
        if isinstance(known, Pack):
            known = known.open()[attempt.message_id]
        if known is None:
            return None
        if isinstance(known.result, Unknown) and attempt.lease_generation > known.attempt.lease_generation:
            return None
        return known.result

    def everything(self) -> tuple[list[Remembered], Mapping[str, Attempt]]:
        """What went out or may have, oldest first; and what is being sent."""
        with self._looking:
            dialling = {
                message_id: attempts[message_id]
                for message_id, attempts in self._dialling.items()
                if message_id in attempts
            }
            heard = list(self._heard.items())
        return list(_opened(heard)), dialling

    def write_again(self, session: Session, owner: str, *, now: datetime, lease_until: datetime) -> int:
        """Into a database that may have forgotten it. Returns of how many messages it knew less, or nothing at all."""
        heard, dialling = self.everything()
        known = [
            (item.attempt, outcomes.of_answer(item.attempt, _answer_of(item), actor=owner, now=now)) for item in heard
        ]
        count = 0
        for start in range(0, len(known), AT_ONCE):
            batch = known[start : start + AT_ONCE]
            count += result_store.count_missing(session, [attempt.message_id for attempt, _ in batch])
            for channel in Channel:
                of_channel = [(attempt, outcome) for attempt, outcome in batch if attempt.channel is channel]
                results = [outcome.result for _, outcome in of_channel]
                attempts = [attempt for attempt, _ in of_channel]
                provider = PROVIDERS[channel].name
                written = result_store.write_again(session, owner, provider, results, attempts)
                kept = [outcomes.of_forgotten(outcome) for _, outcome in of_channel if outcome.result.id in written]
                audit_log.write_many(session, [entry for outcome in kept for entry in outcome.entries])
                payload_store.erase_payloads(session, [outcome.result.id for outcome in kept if outcome.erase])
                count += len(kept)
        count += result_store.count_missing(session, list(dialling))
        for channel in Channel:
            attempts = [attempt for attempt in dialling.values() if attempt.channel is channel]
            results = [_being_sent(attempt) for attempt in attempts]
            provider = PROVIDERS[channel].name
            count += len(result_store.write_again(session, owner, provider, results, attempts, lease_until))
        return count

    def _pack(self, now: float) -> None:
        loose = {message_id: self._heard.get(message_id) for message_id in self._loose}
        items = {message_id: item for message_id, item in loose.items() if isinstance(item, Remembered)}
        self._heard.update(dict.fromkeys(items, Pack(items.values(), now)))
        self._loose.clear()

    def _oldest(self) -> Remembered | Pack:
        return next(iter(self._heard.values()))


def _opened(heard: Iterable[tuple[str, Remembered | Pack]]) -> Iterator[Remembered]:
    pack, content = None, dict[str, Remembered]()
    for message_id, known in heard:
        if isinstance(known, Pack) and known is not pack:
            pack, content = known, known.open()
        yield content[message_id] if isinstance(known, Pack) else known


def _answer_of(known: Remembered) -> Answer:
    return Answer(known.attempt.message_id, known.result, 0.0)


def _being_sent(attempt: Attempt) -> AttemptResult:
    return AttemptResult(id=attempt.message_id, lease_generation=attempt.lease_generation, status=MessageStatus.SENDING)
