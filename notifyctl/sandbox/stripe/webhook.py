"""Delivers an event as Stripe does: signed, to a webhook; and puts it on the books of a running sandbox."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime

from notifyctl.providers.curl import Outcome, TransferFailure
from notifyctl.sandbox.receipts.payloads import WebhookPost
from notifyctl.sandbox.stripe.ledger import StripeObject
from notifyctl.sandbox.stripe.triggers import TriggeredEvent

TIMEOUT_SECONDS = 30.0
MAX_SHOWN = 300


@dataclass(frozen=True, slots=True)
class WebhookReply:
    """`status` is 0 when no answer came; `text` then says why."""

    status: int
    text: str

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def deliver(url: str, event: StripeObject, *, secret: str, now: datetime) -> WebhookReply:
    """Posts the event once. `now` stands in the signature."""
    body = json.dumps(event, indent=2, ensure_ascii=False).encode()
    headers = (
        "Content-Type: application/json; charset=utf-8",
        "User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        f"Stripe-Signature: {signature(body, secret, now)}",
    )
    return _reply(WebhookPost(url, headers, body).send(TIMEOUT_SECONDS))


def signature(body: bytes, secret: str, now: datetime) -> str:
    """What stands in the header Stripe-Signature. https://docs.stripe.com/webhooks/signature"""
    moment = int(now.timestamp())
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def record_in_sandbox(sandbox_url: str, triggered: TriggeredEvent) -> bool:
    """False when no sandbox runs there."""
    body = json.dumps({"event": triggered.event, "objects": triggered.objects}).encode()
    post = WebhookPost(f"{sandbox_url}/stripe/events", ("Content-Type: application/json",), body)
    return _reply(post.send(TIMEOUT_SECONDS)).status == 204


def _reply(outcome: Outcome) -> WebhookReply:
    if isinstance(outcome, TransferFailure):
        return WebhookReply(0, outcome.code)
    return WebhookReply(outcome.status, " ".join(outcome.body.decode(errors="replace").split())[:MAX_SHOWN])
