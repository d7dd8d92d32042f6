"""A local stand-in for Postmark and Twilio: takes what their SDKs send, and shows it in an inbox.

It misbehaves when told to: by recipient, or by the Faults that are set. docs/sandbox.md has it all.
"""

from notifyctl.providers.sandbox.arrivals import Address, Arrival, Mail, Sms
from notifyctl.providers.sandbox.faults import Fault, Faults, Kind, faults_from_lines
from notifyctl.providers.sandbox.receipts import ReceiptCounts, Receipts, receipts_from
from notifyctl.providers.sandbox.server import Sandbox, run

__all__ = [
    "Address",
    "Arrival",
    "Fault",
    "Faults",
    "Kind",
    "Mail",
    "ReceiptCounts",
    "Receipts",
    "Sandbox",
    "Sms",
    "faults_from_lines",
    "receipts_from",
    "run",
]
