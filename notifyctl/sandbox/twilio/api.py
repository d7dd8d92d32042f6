"""Twilio's Messages API, as far as notifyctl and the SDK use it."""

import re
from base64 import b64decode
from collections.abc import Mapping
from time import monotonic
from urllib.parse import parse_qsl
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.models.enums import Channel
from notifyctl.sandbox.control_api import json_answer
from notifyctl.sandbox.faults.errors import SMS_SEARCH, ApiRefusal, with_refusals
from notifyctl.sandbox.inbox_store import Sms
from notifyctl.sandbox.state import SandboxState
from notifyctl.sandbox.twilio.pages import API_VERSION, SmsSearch, sms_json

MAX_BODY = 1600
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


class FakeTwilio:
    def __init__(self, state: SandboxState, token: str | None) -> None:
        self._state = state
        self._token = token

    def routes(self) -> list[Route]:
        account = f"/{API_VERSION}/Accounts/{{account_sid}}"
        return [
            Route(f"{account}/Messages.json", with_refusals(self._create, _refusal), methods=["POST"]),
            Route(f"{account}/Messages.json", with_refusals(self._list, _refusal), methods=["GET"]),
            Route(f"{account}/Messages/{{sid}}.json", with_refusals(self._fetch, _refusal), methods=["GET"]),
        ]

    async def _create(self, request: Request) -> Response:
        body = await request.body()
        self._state.meter.present(Channel.SMS, 1, monotonic())
        auth_token = self._admit(request)
        sms = self._read(request.path_params["account_sid"], _form(body))
        return await self._state.faults.answer(
            Channel.SMS, sms.recipients, request, lambda: self._accept(sms, auth_token), _refusal
        )

    def _accept(self, sms: Sms, auth_token: str) -> Response:
        if refusal := self._state.faults.refusal(Channel.SMS, sms.recipients):
            raise refusal
        accepted = self._state.accept(sms, auth_token)
        return json_answer(sms_json(accepted, accepted.received_at), 201)

    def _read(self, account_sid: str, form: Mapping[str, str]) -> Sms:
        to, text = form.get("To", ""), form.get("Body", "")
        sender, service = form.get("From") or None, form.get("MessagingServiceSid") or None
        if not to:
            raise ApiRefusal(400, 21604, "A 'To' phone number is required.")
        if not (sender or service):
            raise ApiRefusal(400, 21603, "A 'From' phone number is required.")
        if not _E164.fullmatch(to):
            raise ApiRefusal(400, 21211, f"The 'To' number {to} is not a valid phone number.")
        if not text:
            raise ApiRefusal(400, 21602, "Message body is required.")
        if len(text) > MAX_BODY:
            raise ApiRefusal(400, 21617, f"The concatenated message body exceeds the {MAX_BODY} character limit.")
        return Sms(
            id="SM" + uuid4().hex,
            received_at=self._state.clock(),
            account_sid=account_sid,
            to=to,
            sender=sender,
            messaging_service_sid=service,
            text=text,
            status_callback=form.get("StatusCallback") or None,
        )

    async def _list(self, request: Request) -> Response:
        self._admit(request)
        search, account_sid = SmsSearch.read(request.query_params), request.path_params["account_sid"]
        return await self._state.faults.answer(
            SMS_SEARCH, (), request, lambda: self._found(search, account_sid), _refusal
        )

    def _found(self, search: SmsSearch, account_sid: str) -> Response:
        if refusal := self._state.faults.refusal(SMS_SEARCH):
            raise refusal
        return json_answer(search.answer(self._state.inbox, account_sid, self._state.clock()))

    async def _fetch(self, request: Request) -> Response:
        self._admit(request)
        sms = self._state.inbox.get(request.path_params["sid"])
        if not isinstance(sms, Sms) or sms.account_sid != request.path_params["account_sid"]:
            raise ApiRefusal(404, 20404, f"The requested resource {request.url.path} was not found")
        return json_answer(sms_json(sms, self._state.clock()))

    def _admit(self, request: Request) -> str:
        """The account's auth token. Raises ApiRefusal."""
        self._state.inbox.count_call()
        username, password = _credentials(request.headers.get("authorization", ""))
        if not (username and password) or (self._token is not None and password != self._token):
            raise ApiRefusal(401, 20003, "Authenticate")
        self._state.twilio_tokens[username] = password
        return password


def _credentials(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        username, _, password = b64decode(encoded).decode().partition(":")
    except ValueError:
        return "", ""
    return username, password


def _form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True))


def _refusal(refusal: ApiRefusal) -> Response:
    body = {
        "code": refusal.code,
        "message": refusal.message,
        "more_info": f"https://www.twilio.com/docs/errors/{refusal.code}",
        "status": refusal.http_status,
    }
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if refusal.http_status == 401 else {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    return json_answer(body, refusal.http_status, headers)
