"""Postmark's sending and outbound-message API, as far as notifyctl and the SDK use it."""

import json
from dataclasses import replace
from time import monotonic
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.models.template import Channel
from notifyctl.providers.sandbox.arrivals import DELIVERED_AFTER, Mail, Stage, bounce_id, stage
from notifyctl.providers.sandbox.failures import Failure, Refused
from notifyctl.providers.sandbox.json_answer import answer
from notifyctl.providers.sandbox.mail_request import read_mail
from notifyctl.providers.sandbox.mail_search import MailSearch, details, eastern
from notifyctl.providers.sandbox.misbehaviour import befall
from notifyctl.providers.sandbox.outcomes import inactive_among
from notifyctl.providers.sandbox.receipt_words import bounce_words
from notifyctl.providers.sandbox.state import State

MAX_BATCH = 500
MAX_BYTES = 10_000_000
MAX_BATCH_BYTES = 50_000_000

_NOT_JSON = Failure(422, 402, "Received invalid JSON input.")


class PostmarkApi:
    def __init__(self, state: State, token: str | None) -> None:
        self._state = state
        self._token = token

    def routes(self) -> list[Route]:
        return [
            Route("/email", self._send, methods=["POST"]),
            Route("/email/batch", self._send_batch, methods=["POST"]),
            Route("/messages/outbound", self._search, methods=["GET"]),
            Route("/messages/outbound/{message_id}/details", self._details, methods=["GET"]),
            Route("/bounces/{bounce_id:int}", self._bounce, methods=["GET"]),
        ]

    async def _send(self, request: Request) -> Response:
        try:
            email = await self._read(request, MAX_BYTES)
            mail = read_mail(email, now=self._state.clock())
        except Refused as refused:
            return _refusal(refused.failure)
        strike = self._state.outcomes.of_call(Channel.EMAIL, mail.recipients)
        if strike is None:
            return self._answer_one(email, mail)
        return await befall(
            strike, Channel.EMAIL, request, lambda: self._answer_one(email, self._stamped(mail)), _refusal
        )

    def _answer_one(self, email: Any, mail: Mail) -> Response:
        try:
            return answer(self._take(email, mail))
        except Refused as refused:
            return _refusal(refused.failure)

    async def _send_batch(self, request: Request) -> Response:
        try:
            emails = await self._read(request, MAX_BATCH_BYTES)
        except Refused as refused:
            return _refusal(refused.failure)
        if not isinstance(emails, list):
            return _refusal(Failure(422, 403, "The request body must be a JSON array of messages."))
        if len(emails) > MAX_BATCH:
            message = f"You may only send up to {MAX_BATCH} messages in a single batched request."
            return _refusal(Failure(422, 410, message))
        mails = [self._mail_or_failure(email) for email in emails]
        recipients = [recipient for mail in mails if isinstance(mail, Mail) for recipient in mail.recipients]
        strike = self._state.outcomes.of_call(Channel.EMAIL, recipients)
        if strike is None:
            return answer(list(map(self._take_from_batch, emails, mails)))
        return await befall(
            strike,
            Channel.EMAIL,
            request,
            lambda: answer(list(map(self._take_from_batch, emails, map(self._stamped, mails)))),
            _refusal,
        )

    def _mail_or_failure(self, email: Any) -> Mail | Failure:
        try:
            return read_mail(email, now=self._state.clock())
        except Refused as refused:
            return refused.failure

    def _stamped(self, mail: Mail | Failure) -> Any:
        """Received now: a fault may have delayed it since it was read."""
        return replace(mail, received_at=self._state.clock()) if isinstance(mail, Mail) else mail

    def _take_from_batch(self, email: Any, mail: Mail | Failure) -> dict[str, Any]:
        """One bad message is answered for itself; the rest of its batch goes out."""
        if isinstance(mail, Failure):
            return _body(mail)
        try:
            return self._take(email, mail)
        except Refused as refused:
            return _body(refused.failure)

    def _take(self, email: Any, mail: Mail) -> dict[str, Any]:
        failure = self._state.outcomes.of_email(mail.recipients)
        if failure is not None:
            raise Refused(failure)
        self._state.accept(mail)
        inactive = inactive_among(mail.recipients)
        return {
            "To": email["To"],
            "SubmittedAt": eastern(mail.received_at),
            "MessageID": mail.id,
            "ErrorCode": 0,
            "Message": f"Message OK, but will not deliver to these inactive addresses: {', '.join(inactive)}."
            if inactive
            else "OK",
        }

    async def _search(self, request: Request) -> Response:
        query = {name.lower(): value for name, value in request.query_params.items()}
        try:
            self._admit(request)
            return answer(MailSearch.read(query).answer(self._state.arrivals, self._state.clock()))
        except Refused as refused:
            return _refusal(refused.failure)

    async def _details(self, request: Request) -> Response:
        try:
            self._admit(request)
        except Refused as refused:
            return _refusal(refused.failure)
        mail = self._state.arrivals.get(request.path_params["message_id"])
        if not isinstance(mail, Mail):
            return _refusal(Failure(422, 701, "This message was not found."))
        return answer(details(mail, self._state.clock()))

    async def _bounce(self, request: Request) -> Response:
        try:
            self._admit(request)
        except Refused as refused:
            return _refusal(refused.failure)
        number, now = request.path_params["bounce_id"], self._state.clock()
        mail = self._state.arrivals.bounced(number)
        if mail is None or stage(mail, now) is not Stage.DELIVERED:
            return _refusal(Failure(422, 407, "The bounce was not found."))
        recipient = next(found for found in mail.recipients if bounce_id(mail, found) == number)
        return answer(bounce_words(mail, recipient, mail.received_at + DELIVERED_AFTER))

    async def _read(self, request: Request, most_bytes: int) -> Any:
        """The call's JSON. Meters what it presents, whatever becomes of it. Raises Refused."""
        body = await request.body()
        read_at = monotonic()
        sent = _parsed(body, most_bytes)
        self._state.meter.present(Channel.EMAIL, len(sent) if isinstance(sent, list) else 1, read_at)
        self._admit(request)
        if "json" not in request.headers.get("content-type", ""):
            message = "The 'Content-Type' and 'Accept' headers of the request must be set to application/json."
            raise Refused(Failure(415, 409, message))
        if isinstance(sent, Failure):
            raise Refused(sent)
        return sent

    def _admit(self, request: Request) -> None:
        self._state.arrivals.count_call()
        token = request.headers.get("x-postmark-server-token", "")
        if not token:
            raise Refused(
                Failure(
                    401,
                    10,
                    "No Account or Server API tokens were supplied in the HTTP headers. Please add a header "
                    "for either X-Postmark-Server-Token or X-Postmark-Account-Token.",
                )
            )
        if self._token is not None and token != self._token:
            raise Refused(Failure(401, 10, "Request does not contain a valid Server token."))


def _parsed(body: bytes, most_bytes: int) -> Any:
    """A Failure stands for what is no JSON, or too much of it."""
    if len(body) > most_bytes:
        return Failure(413, 300, f"The request is larger than {most_bytes // 1_000_000} MB.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _refusal(failure: Failure) -> Response:
    headers = {"X-PM-ApiErrorCode": str(failure.code)}
    if failure.retry_after is not None:
        headers["Retry-After"] = str(failure.retry_after)
    return answer(_body(failure), failure.http_status, headers)


def _body(failure: Failure) -> dict[str, Any]:
    return {"ErrorCode": failure.code, "Message": failure.message}
