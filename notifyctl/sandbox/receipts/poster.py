"""Posts receipts back, from a thread of its own so that the API never waits for whoever receives them."""

import heapq
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from random import Random
from time import monotonic

from notifyctl.models.enums import Channel
from notifyctl.providers.curl import HttpAnswer, Outcome, Transfer, Transfers
from notifyctl.sandbox.inbox_store import Email, InboxMessage
from notifyctl.sandbox.receipts.payloads import (
    COMPLAINT,
    DELIVERY,
    EmailReceipt,
    Receipt,
    SmsReceipt,
    WebhookPost,
    receipt_post,
)
from notifyctl.sandbox.receipts.settings import ReceiptCounts, Receipts

MAX_WAITING = 100_000
CONCURRENCY = 32
TIMEOUT_SECONDS = 15.0
_SENT_AT = 0.1
_GLANCE_SECONDS = 0.05


class ReceiptPoster:
    """Everything is called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._receipts: Receipts | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._in_flight = 0
        self.clear()

    @property
    def receipts(self) -> Receipts | None:
        return self._receipts

    def set(self, receipts: Receipts | None) -> None:
        """None stops them; those that wait are dropped, uncounted."""
        with self._changed:
            self._receipts = receipts
            self._forget()
            if receipts is None or self._thread is not None:
                return
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="sandbox-receipts", daemon=True)
            self._thread.start()

    def clear(self) -> None:
        """Drops those that wait, and starts counts and dice over."""
        with self._changed:
            self._counts = ReceiptCounts()
            self._forget()

    def _forget(self) -> None:
        seed = self._receipts.seed if self._receipts else None
        self._bounce_dice, self._dice = Random(seed), Random(seed)  # noqa: S311  dice, no secret
        self._incoming: deque[tuple[float, InboxMessage, str]] = deque()
        self._waiting: list[tuple[float, int, Receipt]] = []
        self._order = count()
        self._changed.notify_all()

    def draw_bounce(self, channel: Channel) -> str:
        """The bounce that the next message is to end with; empty: none."""
        receipts = self._receipts
        return receipts.draw_bounce(channel, self._bounce_dice) if receipts else ""

    def schedule(self, message: InboxMessage, auth_token: str) -> None:
        if self._receipts is None:
            return
        with self._changed:
            if len(self._incoming) + len(self._waiting) >= MAX_WAITING:
                self._counts = replace(self._counts, dropped=self._counts.dropped + 1)
                return
            self._incoming.append((monotonic(), message, auth_token))
            self._changed.notify_all()

    @property
    def counts(self) -> ReceiptCounts:
        with self._changed:
            return replace(self._counts, waiting=len(self._incoming) + len(self._waiting) + self._in_flight)

    def settled(self, timeout: float) -> bool:
        """Waits until none is waiting or under way."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._incoming or self._waiting or self._in_flight), timeout=timeout
            )

    def stop(self) -> None:
        with self._changed:
            thread, self._thread = self._thread, None
            self._stopping = True
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        transfers = Transfers(CONCURRENCY, TIMEOUT_SECONDS)
        under_way: dict[Transfer, str] = {}
        try:
            while (due := self._next_due(len(under_way))) is not None:
                for channel, post in due:
                    self._start(transfers, channel, post, under_way)
                transfers.push()
                if under_way:
                    self._finish(transfers, under_way)
        finally:
            transfers.close()

    def _next_due(self, under_way: int) -> list[tuple[str, WebhookPost]] | None:
        """What is to be posted now; sleeps while nothing is under way or due. None: stop."""
        with self._changed:
            self._take_in()
            if not under_way and not self._stopping and not self._is_due():
                self._changed.wait(self._waiting[0][0] - monotonic() if self._waiting else None)
                self._take_in()
            if self._stopping:
                return None
            receipts = self._receipts
            posts: list[tuple[str, WebhookPost]] = []
            while receipts and self._is_due() and len(posts) < CONCURRENCY - under_way:
                receipt = heapq.heappop(self._waiting)[2]
                post = receipt_post(receipt, receipts)
                if post is not None:
                    posts.append((Channel.EMAIL if isinstance(receipt, EmailReceipt) else Channel.SMS, post))
            self._in_flight = under_way + len(posts)
            self._changed.notify_all()
            return posts

    def _is_due(self) -> bool:
        return bool(self._waiting) and self._waiting[0][0] <= monotonic()

    def _take_in(self) -> None:
        while self._incoming and self._receipts:
            accepted_at, message, auth_token = self._incoming.popleft()
            for seconds, receipt in self._all_of(message, auth_token, self._receipts):
                copies = 2 if self._dice.random() < self._receipts.doubled else 1
                for _ in range(copies):
                    heapq.heappush(self._waiting, (accepted_at + seconds, next(self._order), receipt))

    def _all_of(self, message: InboxMessage, auth_token: str, receipts: Receipts) -> Iterator[tuple[float, Receipt]]:
        seconds = self._dice.uniform(*receipts.delay)
        is_reordered = self._dice.random() < receipts.reordered
        if isinstance(message, Email):
            yield from _of_email(message, seconds * 2 if is_reordered else seconds, receipts)
        elif message.status_callback:
            last = "undelivered" if message.bounce else "delivered"
            statuses = (last, "sent") if is_reordered else ("sent", last)
            for share, status in zip((_SENT_AT, 1.0), statuses, strict=True):
                yield seconds * share, SmsReceipt(message, status, auth_token)

    def _start(self, transfers: Transfers, channel: str, post: WebhookPost, under_way: dict[Transfer, str]) -> None:
        transfer = transfers.borrow()
        try:
            transfer.prepare(post.url, post.headers, post.body)
        except Exception as error:  # noqa: BLE001  a StatusCallback can be any text, and must not end this thread
            transfers.give_back(transfer)
            self._failed(f"{channel}: {type(error).__name__}")
            return
        under_way[transfer] = channel
        transfers.start(transfer)

    def _finish(self, transfers: Transfers, under_way: dict[Transfer, str]) -> None:
        finished = transfers.wait(_GLANCE_SECONDS)
        with self._changed:
            for transfer, outcome in finished:
                self._count(under_way.pop(transfer), outcome)
            self._in_flight = len(under_way)
            self._changed.notify_all()
        for transfer, _ in finished:
            transfers.give_back(transfer)

    def _count(self, channel: str, outcome: Outcome) -> None:
        if not isinstance(outcome, HttpAnswer):
            self._failed(f"{channel}: {outcome.code}")
        elif outcome.is_success:
            self._counts = replace(self._counts, posted=self._counts.posted + 1)
        else:
            self._failed(f"{channel}: HTTP {outcome.status}")

    def _failed(self, why: str) -> None:
        with self._changed:
            self._counts = replace(self._counts, failed=self._counts.failed + 1, last_failure=why)


def _of_email(email: Email, seconds: float, receipts: Receipts) -> Iterator[tuple[float, Receipt]]:
    if receipts.url is None:
        return
    happened_at = email.received_at + timedelta(seconds=seconds)
    for recipient in email.recipients:
        event = email.bounce if email.bounce and email.bounce != COMPLAINT else DELIVERY
        yield seconds, EmailReceipt(email, recipient, event, happened_at)
        if email.bounce == COMPLAINT:
            yield seconds, EmailReceipt(email, recipient, COMPLAINT, happened_at)
