"""People who answer an SMS: what Twilio posts for an inbound message.

https://www.twilio.com/docs/messaging/guides/webhook-request
"""

from urllib.parse import urlsplit
from uuid import uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.errors import InvalidInput
from notifyctl.providers.curl import HttpAnswer
from notifyctl.sandbox.control_api import invalid, json_answer, json_object
from notifyctl.sandbox.inbox_store import InboundSms, Sms
from notifyctl.sandbox.receipts.payloads import twilio_post
from notifyctl.sandbox.state import SandboxState
from notifyctl.sandbox.twilio.pages import API_VERSION, SERVICE_NUMBER

TIMEOUT_SECONDS = 15.0
_STATUS_PATH = "/twilio/status"
_INBOUND_PATH = "/twilio/inbound"


class Replies:
    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [Route("/replies", self._post, methods=["POST"])]

    async def _post(self, request: Request) -> Response:
        try:
            body = await json_object(request, ("from", "text", "url", "opt_out_type", "sid"))
            fields = {name: value for name, value in body.items() if isinstance(value, str)}
            if len(fields) < len(body):
                raise InvalidInput("every field must be a string")
            sender, text = fields.pop("from", ""), fields.pop("text", "")
            status = await run_in_threadpool(reply, self._state, sender, text, **fields)
        except InvalidInput as error:
            return invalid(error)
        return json_answer({"answered": status})


def reply(
    state: SandboxState,
    sender: str,
    text: str,
    *,
    url: str | None = None,
    opt_out_type: str | None = None,
    sid: str | None = None,
) -> int:
    """Posts the answer of the person at `sender` and returns the HTTP status that came back, 0 for none.

    Signed like the receipts of the SMS it answers, and posted beside them unless `url` says where. Stands in Twilio's
    list from now on, whoever takes it. Raises InvalidInput when either is not known.
    """
    answered = next((sms for sms in state.inbox.newest_first(to=sender) if isinstance(sms, Sms)), None)
    target = url or _beside(answered.status_callback if answered else None)
    if target is None:
        raise InvalidInput(f"no SMS with a StatusCallback went to {sender!r}: give url, where the answer is to go")
    account = answered.account_sid if answered else next(reversed(state.twilio_tokens), "")
    token = state.twilio_tokens.get(account)
    if token is None:
        raise InvalidInput("nobody has sent an SMS yet, and an answer is signed with the auth token of whoever did")
    form = _form(sender, text, answered, account, sid or f"SM{uuid4().hex}")
    state.inbox.add_inbound(
        InboundSms(
            id=form["MessageSid"],
            received_at=state.clock(),
            account_sid=account,
            to=form["To"],
            sender=sender,
            messaging_service_sid=form.get("MessagingServiceSid"),
            text=text,
        )
    )
    if opt_out_type:
        form["OptOutType"] = opt_out_type
    try:
        outcome = twilio_post(target, form, token).send(TIMEOUT_SECONDS)
    except UnicodeEncodeError:
        raise InvalidInput("url: must be an http or https URL in ASCII") from None
    return outcome.status if isinstance(outcome, HttpAnswer) else 0


def _beside(callback: str | None) -> str | None:
    if callback is None or not urlsplit(callback).path.endswith(_STATUS_PATH):
        return None
    return callback.partition("?")[0].removesuffix(_STATUS_PATH) + _INBOUND_PATH


def _form(sender: str, text: str, answered: Sms | None, account: str, sid: str) -> dict[str, str]:
    form = {
        "ToCountry": "US",
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "SmsSid": sid,
        "SmsStatus": "received",
        "Body": text,
        "To": (answered.sender if answered else None) or SERVICE_NUMBER,
        "NumSegments": "1",
        "MessageSid": sid,
        "AccountSid": account,
        "From": sender,
        "ApiVersion": API_VERSION,
    }
    if answered and answered.messaging_service_sid:
        form["MessagingServiceSid"] = answered.messaging_service_sid
    return form
