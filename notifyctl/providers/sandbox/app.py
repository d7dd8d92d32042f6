"""The sandbox as an application: the providers' APIs, the inbox and the controls, on one address."""

from email.utils import format_datetime

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifyctl.clock import Clock
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
) -> ASGIApp:
    """A token that is None lets any non-empty one in."""
    app = Starlette(
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
    return _dated(app, lambda: state.clock())


def _dated(app: ASGIApp, clock: Clock) -> ASGIApp:
    """Every answer says when it was given, by the same clock as the times in it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", format_datetime(clock(), usegmt=True).encode())]
            await send(message)

        await app(scope, receive, send_dated)

    return answer
