"""A local stand-in for Postmark, Twilio and Stripe: takes what their SDKs send, and shows it in an inbox.

It misbehaves when told to: by recipient, or by the Faults that are set. docs/sandbox.md has it all.
"""

from notifyctl.providers.sandbox.arrivals import Address, Email, InboxMessage, InboxStore, Sms
from notifyctl.providers.sandbox.failures import STRIPE
from notifyctl.providers.sandbox.faults import Fault, FaultKind, Faults, faults_from_lines
from notifyctl.providers.sandbox.receipts import ReceiptCounts, Receipts, receipts_from_line
from notifyctl.providers.sandbox.server import Sandbox, run
from notifyctl.providers.sandbox.stripe_ledger import StripeLedger
from notifyctl.providers.sandbox.stripe_order import StripeScenario
from notifyctl.providers.sandbox.stripe_triggers import TRIGGERS, TriggeredEvent, trigger

__all__ = [
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
