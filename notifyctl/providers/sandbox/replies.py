"""People who answer an SMS: what Twilio posts for an inbound message.

https://www.twilio.com/docs/messaging/guides/webhook-request
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.errors import InvalidInput
from notifyctl.providers.sandbox.arrivals import Sms
from notifyctl.providers.sandbox.controls import json_object, refusal
from notifyctl.providers.sandbox.json_answer import answer
from notifyctl.providers.sandbox.receipt_words import twilio_signature
from notifyctl.providers.sandbox.sms_pages import API_VERSION, SERVICE_NUMBER
from notifyctl.providers.sandbox.state import State
from notifyctl.providers.senders import TWILIO_INBOUND_PATH, TWILIO_STATUS_PATH

TIMEOUT_SECONDS = 15.0
_FIELDS = frozenset({"from", "text", "url", "opt_out_type", "sid"})


class Replies:
    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        return [Route("/replies", self._post, methods=["POST"])]

    async def _post(self, request: Request) -> Response:
        try:
            wanted = await json_object(request)
            if strange := sorted(wanted.keys() - _FIELDS):
                raise InvalidInput(f"{', '.join(strange)}: unknown; the fields are {', '.join(sorted(_FIELDS))}")
            if not all(isinstance(value, str) for value in wanted.values()):
                raise InvalidInput("every field must be a string")
            sender = wanted.pop("from", "")
            text = wanted.pop("text", "")
            status = await run_in_threadpool(reply, self._state, sender, text, **wanted)
        except InvalidInput as error:
            return refusal(error)
        return answer({"answered": status})


def reply(
    state: State,
    sender: str,
    text: str,
    *,
    url: str | None = None,
    opt_out_type: str | None = None,
    sid: str | None = None,
) -> int:
    """Posts the answer of the person at `sender` and returns the HTTP status that came back, 0 for none.

    Signed like the receipts of the SMS it answers, and posted beside them unless `url` says where. Raises
    InvalidInput when either is not known.
    """
    answered = next((found for found in state.arrivals.newest_first(to=sender) if isinstance(found, Sms)), None)
    target = url or _beside(answered.status_callback if answered else None)
    if target is None:
        raise InvalidInput(f"no SMS with a StatusCallback went to {sender!r}: give url, where the answer is to go")
    account = answered.account_sid if answered else next(reversed(state.twilio_tokens), "")
    token = state.twilio_tokens.get(account)
    if token is None:
        raise InvalidInput("nobody has sent an SMS yet, and an answer is signed with the auth token of whoever did")
    form = _form(sender, text, answered, account, sid or f"SM{uuid4().hex}")
    if opt_out_type:
        form["OptOutType"] = opt_out_type
    return _post(target, form, token)


def _beside(callback: str | None) -> str | None:
    if callback is None or not urlsplit(callback).path.endswith(TWILIO_STATUS_PATH):
        return None
    return callback.partition("?")[0].removesuffix(TWILIO_STATUS_PATH) + TWILIO_INBOUND_PATH


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


def _post(url: str, form: Mapping[str, str], token: str) -> int:
    from notifyctl.providers.curl import Transfer

    headers = (
        "Content-Type: application/x-www-form-urlencoded; charset=utf-8",
        "User-Agent: TwilioProxy/1.1",
        f"X-Twilio-Signature: {twilio_signature(token, url, form)}",
    )
    transfer = Transfer(TIMEOUT_SECONDS)
    try:
        transfer.prepare(url, headers, urlencode(form).encode())
        outcome: Any = transfer.perform(TIMEOUT_SECONDS)
    except UnicodeEncodeError:
        raise InvalidInput("url: must be an http or https URL in ASCII") from None
    finally:
        transfer.close()
    return int(getattr(outcome, "status", 0))
