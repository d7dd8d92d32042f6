"""The sandbox as an application: the providers' APIs, the inbox and the controls, on one address."""

from starlette.applications import Starlette

from notifyctl.providers.sandbox.controls import Controls
from notifyctl.providers.sandbox.inbox import Inbox
from notifyctl.providers.sandbox.postmark import PostmarkApi
from notifyctl.providers.sandbox.replies import Replies
from notifyctl.providers.sandbox.state import State
from notifyctl.providers.sandbox.stripe import StripeApi
from notifyctl.providers.sandbox.twilio import TwilioApi


def application(
    state: State,
    *,
    postmark_token: str | None = None,
    twilio_token: str | None = None,
) -> Starlette:
    """A token that is None lets any non-empty one in."""
    return Starlette(
        routes=[
            # Routes are tried in order, so what is called most stands first.
            *TwilioApi(state, twilio_token).routes(),
            *PostmarkApi(state, postmark_token).routes(),
            *StripeApi(state).routes(),
            *Inbox(state).routes(),
            *Controls(state).routes(),
            *Replies(state).routes(),
        ]
    )
