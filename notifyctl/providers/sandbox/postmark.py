"""Postmark's sending and outbound-message API, as far as notifyctl and the SDK use it."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.clock import Clock
from notifyctl.providers.sandbox.arrivals import Arrivals, Mail
from notifyctl.providers.sandbox.json_answer import answer
from notifyctl.providers.sandbox.mail_request import read_mail
from notifyctl.providers.sandbox.mail_search import MailSearch, details, eastern
from notifyctl.providers.sandbox.outcomes import Failure, Outcomes, Refused, inactive_among

MAX_BATCH = 500
MAX_BYTES = 10_000_000
MAX_BATCH_BYTES = 50_000_000


class PostmarkApi:
    def __init__(self, arrivals: Arrivals, outcomes: Outcomes, clock: Clock, token: str | None) -> None:
        self._arrivals = arrivals
        self._outcomes = outcomes
        self._clock = clock
        self._token = token

    def routes(self) -> list[Route]:
        return [
            Route("/email", self._send, methods=["POST"]),
            Route("/email/batch", self._send_batch, methods=["POST"]),
            Route("/messages/outbound", self._search, methods=["GET"]),
            Route("/messages/outbound/{message_id}/details", self._details, methods=["GET"]),
        ]

    async def _send(self, request: Request) -> Response:
        try:
            self._admit(request)
            return answer(self._take(await _json_body(request, MAX_BYTES)))
        except Refused as refused:
            return _refusal(refused.failure)

    async def _send_batch(self, request: Request) -> Response:
        try:
            self._admit(request)
            emails = await _json_body(request, MAX_BATCH_BYTES)
        except Refused as refused:
            return _refusal(refused.failure)
        if not isinstance(emails, list):
            return _refusal(Failure(422, 403, "The request body must be a JSON array of messages."))
        if len(emails) > MAX_BATCH:
            message = f"You may only send up to {MAX_BATCH} messages in a single batched request."
            return _refusal(Failure(422, 410, message))
        return answer([self._take_from_batch(email) for email in emails])

    def _take_from_batch(self, email: Any) -> dict[str, Any]:
        """One bad message is answered for itself; the rest of its batch goes out."""
        try:
            return self._take(email)
        except Refused as refused:
            return _body(refused.failure)

    def _take(self, email: Any) -> dict[str, Any]:
        mail = read_mail(email, now=self._clock())
        failure = self._outcomes.of_email(mail.recipients)
        if failure is not None:
            raise Refused(failure)
        self._arrivals.add(mail)
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
            return answer(MailSearch.read(query).answer(self._arrivals, self._clock()))
        except Refused as refused:
            return _refusal(refused.failure)

    async def _details(self, request: Request) -> Response:
        try:
            self._admit(request)
        except Refused as refused:
            return _refusal(refused.failure)
        mail = self._arrivals.get(request.path_params["message_id"])
        if not isinstance(mail, Mail):
            return _refusal(Failure(422, 701, "This message was not found."))
        return answer(details(mail, self._clock()))

    def _admit(self, request: Request) -> None:
        self._arrivals.count_call()
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


async def _json_body(request: Request, most_bytes: int) -> Any:
    if "json" not in request.headers.get("content-type", ""):
        message = "The 'Content-Type' and 'Accept' headers of the request must be set to application/json."
        raise Refused(Failure(415, 409, message))
    body = await request.body()
    if len(body) > most_bytes:
        raise Refused(Failure(413, 300, f"The request is larger than {most_bytes // 1_000_000} MB."))
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(Failure(422, 402, "Received invalid JSON input.")) from None


def _refusal(failure: Failure) -> Response:
    return answer(_body(failure), failure.http_status, {"X-PM-ApiErrorCode": str(failure.code)})


def _body(failure: Failure) -> dict[str, Any]:
    return {"ErrorCode": failure.code, "Message": failure.message}
