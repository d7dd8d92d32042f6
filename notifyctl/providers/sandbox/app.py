"""The sandbox as an application: both providers' APIs and the inbox, on one address."""

from starlette.applications import Starlette

from notifyctl.clock import Clock
from notifyctl.providers.sandbox.arrivals import Arrivals
from notifyctl.providers.sandbox.inbox import Inbox
from notifyctl.providers.sandbox.outcomes import Outcomes
from notifyctl.providers.sandbox.postmark import PostmarkApi
from notifyctl.providers.sandbox.twilio import TwilioApi


def application(
    arrivals: Arrivals,
    outcomes: Outcomes,
    clock: Clock,
    *,
    postmark_token: str | None = None,
    twilio_token: str | None = None,
) -> Starlette:
    """A token that is None lets any non-empty one in."""
    return Starlette(
        routes=[
            # Routes are tried in order, so what is called most stands first.
            *TwilioApi(arrivals, outcomes, clock, twilio_token).routes(),
            *PostmarkApi(arrivals, outcomes, clock, postmark_token).routes(),
            *Inbox(arrivals, outcomes, clock).routes(),
        ]
    )
