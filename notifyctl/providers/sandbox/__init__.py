"""A local stand-in for Postmark, Twilio and Stripe: takes what their SDKs send, and shows it in an inbox.

It misbehaves when told to: by recipient, or by the Faults that are set. docs/sandbox.md has it all.
"""

from notifyctl.providers.sandbox.arrivals import Address, Arrival, Mail, Sms
from notifyctl.providers.sandbox.faults import Fault, Faults, Kind, faults_from_lines
from notifyctl.providers.sandbox.receipts import ReceiptCounts, Receipts, receipts_from
from notifyctl.providers.sandbox.server import Sandbox, run
from notifyctl.providers.sandbox.stripe_ledger import StripeFault, StripeLedger
from notifyctl.providers.sandbox.stripe_order import Order
from notifyctl.providers.sandbox.stripe_triggers import TRIGGERS, Happening, happen

__all__ = [
    "TRIGGERS",
    "Address",
    "Arrival",
    "Fault",
    "Faults",
    "Happening",
    "Kind",
    "Mail",
    "Order",
    "ReceiptCounts",
    "Receipts",
    "Sandbox",
    "Sms",
    "StripeFault",
    "StripeLedger",
    "faults_from_lines",
    "happen",
    "receipts_from",
    "run",
]
