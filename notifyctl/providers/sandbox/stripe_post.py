"""Delivers an event as Stripe does: signed, to a webhook; and puts it on the books of a running sandbox."""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from notifyctl.providers.curl import Outcome, Transfer, TransferFailure
from notifyctl.providers.sandbox.stripe_objects import Object
from notifyctl.providers.sandbox.stripe_triggers import Happening

TIMEOUT_SECONDS = 30.0
MAX_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """`status` is 0 when no answer came; `text` then says why."""

    status: int
    text: str

    @property
    def is_taken(self) -> bool:
        return 200 <= self.status < 300


def deliver(url: str, event: Object, *, secret: str, now: datetime) -> Reply:
    """Posts the event once. `now` stands in the signature."""
    body = json.dumps(event, indent=2, ensure_ascii=False).encode()
    headers = [
        "Content-Type: application/json; charset=utf-8",
        "User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        f"Stripe-Signature: {signature(body, secret, now)}",
    ]
    return _reply(_post(url, headers, body))


def signature(body: bytes, secret: str, now: datetime) -> str:
    """What stands in the header Stripe-Signature. https://docs.stripe.com/webhooks/signature"""
    moment = int(now.timestamp())
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def put_on_books(sandbox_url: str, happening: Happening, *, is_delivered: bool) -> bool:
    """False when no sandbox runs there."""
    told = {"event": happening.event, "objects": happening.objects, "delivered": is_delivered}
    headers = ["Content-Type: application/json"]
    return _reply(_post(f"{sandbox_url}/stripe/events", headers, json.dumps(told).encode())).status == 204


def _post(url: str, headers: Sequence[str], body: bytes) -> Outcome:
    transfer = Transfer(TIMEOUT_SECONDS)
    try:
        transfer.prepare(url, headers, body)
        return transfer.perform(TIMEOUT_SECONDS)
    finally:
        transfer.close()


def _reply(outcome: Outcome) -> Reply:
    if isinstance(outcome, TransferFailure):
        return Reply(0, outcome.code)
    return Reply(outcome.status, " ".join(outcome.body.decode(errors="replace").split())[:MAX_SHOWN])
