"""A local stand-in for Postmark and Twilio: takes what their SDKs send, and shows it in an inbox.

Which recipients fail on purpose is in outcomes.MAGIC_RECIPIENTS, and on the inbox page.
"""

from notifyctl.providers.sandbox.arrivals import Address, Arrival, Mail, Sms
from notifyctl.providers.sandbox.server import Sandbox, run

__all__ = ["Address", "Arrival", "Mail", "Sandbox", "Sms", "run"]
