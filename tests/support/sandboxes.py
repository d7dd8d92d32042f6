"""The one sandbox that serves all tests of a process."""

from datetime import timedelta

from notifyctl.clock import system_clock
from notifyctl.sandbox import Sandbox


def at_rest(sandbox: Sandbox) -> Sandbox:
    """As it is when it starts: nothing has arrived, nothing goes wrong, nothing is posted back."""
    sandbox.clear_faults()
    sandbox.clear_receipts()
    sandbox.clear()
    sandbox.search_delay = timedelta()
    sandbox.clock = system_clock
    sandbox.stripe.clear()
    sandbox.stripe.api_key = None
    return sandbox
