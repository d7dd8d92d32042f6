"""Twilio's Messages API, as far as notifyctl and the SDK use it."""

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from urllib.parse import parse_qsl
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.models.template import Channel
from notifyctl.providers.sandbox.arrivals import Sms
from notifyctl.providers.sandbox.failures import Failure, Refused
from notifyctl.providers.sandbox.json_answer import answer
from notifyctl.providers.sandbox.misbehaviour import befall
from notifyctl.providers.sandbox.sms_pages import API_VERSION, SmsSearch, in_twilios_words
from notifyctl.providers.sandbox.state import State

MAX_BODY = 1600
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_AUTHENTICATE = Failure(401, 20003, "Authenticate")
_NO_TO = Failure(400, 21604, "A 'To' phone number is required.")
_NO_SENDER = Failure(400, 21603, "A 'From' phone number is required.")
_NO_BODY = Failure(400, 21602, "Message body is required.")
_LONG_BODY = Failure(400, 21617, f"The concatenated message body exceeds the {MAX_BODY} character limit.")


class TwilioApi:
    def __init__(self, state: State, token: str | None) -> None:
        self._state = state
        self._token = token

    def routes(self) -> list[Route]:
        account = f"/{API_VERSION}/Accounts/{{account_sid}}"
        return [
            Route(f"{account}/Messages.json", self._create, methods=["POST"]),
            Route(f"{account}/Messages.json", self._list, methods=["GET"]),
            Route(f"{account}/Messages/{{sid}}.json", self._fetch, methods=["GET"]),
        ]

    async def _create(self, request: Request) -> Response:
        body = await request.body()
        self._state.meter.present(Channel.SMS, 1, monotonic())
        try:
            auth_token = self._admit(request)
            sms = self._read(request.path_params["account_sid"], _form(body))
        except Refused as refused:
            return _refusal(refused.failure)
        strike = self._state.outcomes.of_call(Channel.SMS, (sms.to,))
        if strike is None:
            return self._take(sms, auth_token)

        def take() -> Response:
            return self._take(replace(sms, received_at=self._state.clock()), auth_token)

        return await befall(strike, Channel.SMS, request, take, _refusal)

    def _take(self, sms: Sms, auth_token: str) -> Response:
        failure = self._state.outcomes.of_sms(sms.to)
        if failure is not None:
            return _refusal(failure)
        self._state.accept(sms, auth_token)
        return answer(in_twilios_words(sms, sms.received_at), 201)

    def _read(self, account_sid: str, form: Mapping[str, str]) -> Sms:
        to, text = form.get("To", ""), form.get("Body", "")
        sender, service = form.get("From") or None, form.get("MessagingServiceSid") or None
        if not to:
            raise Refused(_NO_TO)
        if not (sender or service):
            raise Refused(_NO_SENDER)
        if not _E164.fullmatch(to):
            raise Refused(Failure(400, 21211, f"The 'To' number {to} is not a valid phone number."))
        if not text:
            raise Refused(_NO_BODY)
        if len(text) > MAX_BODY:
            raise Refused(_LONG_BODY)
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
        try:
            self._admit(request)
            search = SmsSearch.read(request.query_params)
        except Refused as refused:
            return _refusal(refused.failure)
        return answer(search.answer(self._state.arrivals, request.path_params["account_sid"], self._state.clock()))

    async def _fetch(self, request: Request) -> Response:
        try:
            self._admit(request)
        except Refused as refused:
            return _refusal(refused.failure)
        sms = self._state.arrivals.get(request.path_params["sid"])
        if not isinstance(sms, Sms) or sms.account_sid != request.path_params["account_sid"]:
            return _refusal(Failure(404, 20404, f"The requested resource {request.url.path} was not found"))
        return answer(in_twilios_words(sms, self._state.clock()))

    def _admit(self, request: Request) -> str:
        """The account's auth token. Raises Refused."""
        self._state.arrivals.count_call()
        username, password = _credentials(request.headers.get("authorization", ""))
        if not (username and password) or (self._token is not None and password != self._token):
            raise Refused(_AUTHENTICATE)
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


def _refusal(failure: Failure) -> Response:
    body = {
        "code": failure.code,
        "message": failure.message,
        "more_info": f"https://www.twilio.com/docs/errors/{failure.code}",
        "status": failure.http_status,
    }
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if failure.http_status == 401 else {}
    if failure.retry_after is not None:
        headers["Retry-After"] = str(failure.retry_after)
    return answer(body, failure.http_status, headers)
