"""A local stand-in for Postmark, Twilio and Stripe: takes what their SDKs send, and shows it in an inbox.

It misbehaves when told to: by recipient, or by the Faults that are set. docs/sandbox.md has it all.
"""

from notifyctl.sandbox.faults.errors import EMAIL_SEARCH, SMS_SEARCH, STRIPE
from notifyctl.sandbox.faults.faults import Fault, FaultKind, Faults, faults_from_lines
from notifyctl.sandbox.inbox_store import Address, Email, InboxMessage, InboxStore, Sms
from notifyctl.sandbox.receipts.settings import ReceiptCounts, Receipts, receipts_from_line
from notifyctl.sandbox.server import Sandbox, run
from notifyctl.sandbox.stripe.ledger import StripeLedger
from notifyctl.sandbox.stripe.scenario import StripeScenario
from notifyctl.sandbox.stripe.triggers import TRIGGERS, TriggeredEvent, trigger

__all__ = [
    "EMAIL_SEARCH",
    "SMS_SEARCH",
    "STRIPE",
    "TRIGGERS",
    "Address",
    "Email",
    "Fault",
    "FaultKind",
    "Faults",
    "InboxMessage",
    "InboxStore",
    "ReceiptCounts",
    "Receipts",
    "Sandbox",
    "Sms",
    "StripeLedger",
    "StripeScenario",
    "TriggeredEvent",
    "faults_from_lines",
    "receipts_from_line",
    "run",
    "trigger",
]
