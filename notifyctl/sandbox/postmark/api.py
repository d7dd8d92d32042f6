"""Postmark's sending API: what the JSON of one email has to satisfy, and the Email it becomes.

Limits and codes: https://postmarkapp.com/developer/api/email-api and its overview of error codes.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import getaddresses
from time import monotonic
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.models.enums import Channel
from notifyctl.sandbox.control_api import json_answer
from notifyctl.sandbox.faults.errors import EMAIL_SEARCH, ApiRefusal, with_refusals
from notifyctl.sandbox.faults.schedule import inactive_among
from notifyctl.sandbox.inbox_store import DELIVERED_AFTER, Address, Email, Stage, bounce_id, stage
from notifyctl.sandbox.postmark.search import MailSearch, bounces_json, details_json, eastern, suppressions_json
from notifyctl.sandbox.receipts.payloads import bounce_json
from notifyctl.sandbox.state import SandboxState
from notifyctl.text.durations import plural

MAX_RECIPIENTS = 50
MAX_METADATA_FIELDS = 10
MAX_METADATA_NAME = 20
MAX_METADATA_VALUE = 80
MAX_LENGTHS = {"From": 255, "Subject": 2000, "Tag": 1000}

_TYPES: Mapping[str, type] = {
    **dict.fromkeys(
        ("From", "To", "Cc", "Bcc", "ReplyTo", "Subject", "Tag", "HtmlBody", "TextBody", "MessageStream"), str
    ),
    **dict.fromkeys(("Headers", "Attachments"), list),
    "Metadata": dict,
}
_MAILBOX = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", re.ASCII)

Fields = Mapping[str, object]
MAX_BATCH = 500
MAX_SUPPRESSIONS = 50
MAX_BYTES = 10_000_000
MAX_BATCH_BYTES = 50_000_000
_NOT_AUTHENTICATED = (
    "No Account or Server API tokens were supplied in the HTTP headers. Please add a header for either"
    " X-Postmark-Server-Token or X-Postmark-Account-Token."
)


def read_email(fields: object, *, now: datetime) -> Email:
    """Raises ApiRefusal with the first thing that Postmark would refuse."""
    if not isinstance(fields, dict):
        raise ApiRefusal(422, 403, "The request body must be a JSON object.")
    wrong = [name for name, kind in _TYPES.items() if fields.get(name) and not isinstance(fields[name], kind)]
    if wrong:
        raise ApiRefusal(422, 403, f"Invalid request field(s): '{', '.join(wrong)}'.")
    sender = _addresses(fields, "From")
    if len(sender) != 1:
        raise _invalid(f"Invalid 'From' address: '{_text(fields, 'From')}'.")
    email = Email(
        id=str(uuid4()),
        received_at=now,
        sender=sender[0],
        to=_addresses(fields, "To"),
        to_header=_text(fields, "To"),
        cc=_addresses(fields, "Cc"),
        bcc=_addresses(fields, "Bcc"),
        reply_to=", ".join(str(address) for address in _addresses(fields, "ReplyTo")),
        subject=_text(fields, "Subject"),
        text=_text(fields, "TextBody"),
        html=_text(fields, "HtmlBody"),
        tag=_text(fields, "Tag"),
        stream=_text(fields, "MessageStream") or "outbound",
        metadata=_metadata(fields.get("Metadata")),
        headers=tuple(_named(fields, "Headers", "Value")),
        attachments=tuple(name for name, _ in _named(fields, "Attachments", "Content")),
    )
    _check_whole(email, fields)
    return email


def _text(fields: Fields, name: str) -> str:
    return str(fields.get(name) or "")


def _check_whole(email: Email, fields: Fields) -> None:
    if not email.to:
        raise _invalid("Zero recipients specified")
    if len(email.recipients) > MAX_RECIPIENTS:
        raise _invalid(f"You may send to at most {MAX_RECIPIENTS} recipients in one message.")
    if not email.text and not email.html:
        raise _invalid("Provide either email TextBody or HtmlBody or both.")
    for name, longest in MAX_LENGTHS.items():
        if len(_text(fields, name)) > longest:
            raise _invalid(f"The '{name}' field may have at most {plural(longest, 'character')}.")


def _addresses(fields: Fields, name: str) -> tuple[Address, ...]:
    value = _text(fields, name)
    if not value:
        return ()
    if _is_address(value):
        return (Address(value),)
    parsed = getaddresses([value])
    if not all(_is_address(email) for _, email in parsed):
        raise _invalid(f"Invalid '{name}' address: '{value}'.")
    return tuple(Address(email, display_name) for display_name, email in parsed)


def _is_address(email: str) -> bool:
    if not _MAILBOX.fullmatch(email):
        return False
    local = email.partition("@")[0]
    return not (local.startswith(".") or local.endswith(".") or ".." in local)


def _metadata(fields: object) -> dict[str, str]:
    metadata = {name: str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}
    if len(metadata) > MAX_METADATA_FIELDS:
        raise _invalid(f"Metadata may have at most {MAX_METADATA_FIELDS} fields.")
    for name, value in metadata.items():
        if len(name) > MAX_METADATA_NAME:
            raise _invalid(f"Metadata field '{name}': a name has at most {MAX_METADATA_NAME} characters.")
        if len(value) > MAX_METADATA_VALUE:
            raise _invalid(f"Metadata field '{name}': a value has at most {MAX_METADATA_VALUE} characters.")
    return metadata


def _named(fields: Fields, field: str, value: str) -> Iterator[tuple[str, str]]:
    items = fields.get(field)
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict) or not item.get("Name"):
            raise ApiRefusal(422, 403, f"Invalid request field(s): '{field}'.")
        yield str(item["Name"]), str(item.get(value) or "")


def _invalid(message: str) -> ApiRefusal:
    return ApiRefusal(422, 300, message)


class FakePostmark:
    def __init__(self, state: SandboxState, token: str | None) -> None:
        self._state = state
        self._token = token

    def routes(self) -> list[Route]:
        return [
            Route("/email", with_refusals(self._send, _refusal), methods=["POST"]),
            Route("/email/batch", with_refusals(self._send_batch, _refusal), methods=["POST"]),
            Route("/messages/outbound", with_refusals(self._search, _refusal), methods=["GET"]),
            Route("/messages/outbound/{message_id}/details", with_refusals(self._details, _refusal), methods=["GET"]),
            Route("/bounces", with_refusals(self._bounces, _refusal), methods=["GET"]),
            Route("/message-streams/{stream}/suppressions/dump", with_refusals(self._dump, _refusal), methods=["GET"]),
            Route("/message-streams/{stream}/suppressions", with_refusals(self._suppress, _refusal), methods=["POST"]),
            Route("/bounces/{bounce_id:int}", with_refusals(self._bounce, _refusal), methods=["GET"]),
        ]

    async def _send(self, request: Request) -> Response:
        email = read_email(await self._read(request, MAX_BYTES), now=self._state.clock())
        return await self._state.faults.answer(
            Channel.EMAIL, email.recipients, request, lambda: json_answer(self._accept(email)), _refusal
        )

    async def _send_batch(self, request: Request) -> Response:
        batch = await self._read(request, MAX_BATCH_BYTES)
        if not isinstance(batch, list):
            raise ApiRefusal(422, 403, "The request body must be a JSON array of messages.")
        if len(batch) > MAX_BATCH:
            message = f"You may only send up to {MAX_BATCH} messages in a single batched request."
            raise ApiRefusal(422, 410, message)
        emails = [self._email_or_refusal(fields) for fields in batch]
        recipients = [recipient for email in emails if isinstance(email, Email) for recipient in email.recipients]
        return await self._state.faults.answer(
            Channel.EMAIL, recipients, request, lambda: json_answer(list(map(self._accept_of_batch, emails))), _refusal
        )

    def _email_or_refusal(self, fields: object) -> Email | ApiRefusal:
        try:
            return read_email(fields, now=self._state.clock())
        except ApiRefusal as refusal:
            return refusal

    def _accept_of_batch(self, email: Email | ApiRefusal) -> dict[str, object]:
        """One bad message is answered for itself; the rest of its batch goes out."""
        if isinstance(email, ApiRefusal):
            return _refusal_json(email)
        try:
            return self._accept(email)
        except ApiRefusal as refusal:
            return _refusal_json(refusal)

    def _accept(self, email: Email) -> dict[str, object]:
        if refusal := self._state.faults.refusal(Channel.EMAIL, email.recipients):
            raise refusal
        accepted = self._state.accept(email)
        inactive = inactive_among(email.recipients)
        return {
            "To": email.to_header,
            "SubmittedAt": eastern(accepted.received_at),
            "MessageID": email.id,
            "ErrorCode": 0,
            "Message": f"Message OK, but will not deliver to these inactive addresses: {', '.join(inactive)}."
            if inactive
            else "OK",
        }

    async def _search(self, request: Request) -> Response:
        return await self._listed(
            request, lambda query: MailSearch.read(query).answer(self._state.inbox, self._state.clock())
        )

    async def _bounces(self, request: Request) -> Response:
        return await self._listed(request, lambda query: bounces_json(query, self._state.inbox, self._state.clock()))

    async def _dump(self, request: Request) -> Response:
        state, stream = self._state, request.path_params["stream"]
        return await self._listed(
            request, lambda query: suppressions_json(query, state.inbox, state.suppressed, stream, state.clock())
        )

    async def _listed(self, request: Request, found: Callable[[Mapping[str, str]], object]) -> Response:
        self._admit(request)
        query = {name.lower(): value for name, value in request.query_params.items()}

        def take() -> Response:
            if refusal := self._state.faults.refusal(EMAIL_SEARCH):
                raise refusal
            return json_answer(found(query))

        return await self._state.faults.answer(EMAIL_SEARCH, (), request, take, _refusal)

    async def _suppress(self, request: Request) -> Response:
        self._admit(request)
        body = _parsed(await request.body(), MAX_BYTES)
        rows = body.get("Suppressions") if isinstance(body, dict) else None
        if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_SUPPRESSIONS:
            raise ApiRefusal(
                422, 403, f"Invalid request field(s): 'Suppressions' is a list of 1 to {MAX_SUPPRESSIONS}."
            )
        addresses = [str(row.get("EmailAddress")) if isinstance(row, dict) else "" for row in rows]
        for address in filter(_is_address, addresses):
            self._state.suppress(address, request.path_params["stream"], "Customer")
        return json_answer({"Suppressions": [_suppressed_json(address) for address in addresses]})

    async def _details(self, request: Request) -> Response:
        self._admit(request)
        email = self._state.inbox.get(request.path_params["message_id"])
        if not isinstance(email, Email):
            raise ApiRefusal(422, 701, "This message was not found.")
        return json_answer(details_json(email, self._state.clock()))

    async def _bounce(self, request: Request) -> Response:
        self._admit(request)
        number, now = request.path_params["bounce_id"], self._state.clock()
        email = self._state.inbox.bounced(number)
        if email is None or stage(email, now) is not Stage.DELIVERED:
            raise ApiRefusal(422, 407, "The bounce was not found.")
        recipient = next(recipient for recipient in email.recipients if bounce_id(email, recipient) == number)
        return json_answer(bounce_json(email, recipient, email.received_at + DELIVERED_AFTER))

    async def _read(self, request: Request, most_bytes: int) -> object:
        """The call's JSON. Meters what it presents, whatever becomes of it. Raises ApiRefusal."""
        body = await request.body()
        read_at = monotonic()
        content = _parsed(body, most_bytes)
        self._state.meter.present(Channel.EMAIL, len(content) if isinstance(content, list) else 1, read_at)
        self._admit(request)
        if "json" not in request.headers.get("content-type", ""):
            message = "The 'Content-Type' and 'Accept' headers of the request must be set to application/json."
            raise ApiRefusal(415, 409, message)
        if isinstance(content, ApiRefusal):
            raise content
        return content

    def _admit(self, request: Request) -> None:
        self._state.inbox.count_call()
        token = request.headers.get("x-postmark-server-token", "")
        if not token:
            raise ApiRefusal(401, 10, _NOT_AUTHENTICATED)
        if self._token is not None and token != self._token:
            raise ApiRefusal(401, 10, "Request does not contain a valid Server token.")


def _suppressed_json(address: str) -> dict[str, str | None]:
    if _is_address(address):
        return {"EmailAddress": address, "Status": "Suppressed", "Message": None}
    return {"EmailAddress": address, "Status": "Failed", "Message": "An invalid email address was provided."}


def _parsed(body: bytes, most_bytes: int) -> object:
    """An ApiRefusal stands for what is no JSON, or too much of it."""
    if len(body) > most_bytes:
        return ApiRefusal(413, 300, f"The request is larger than {most_bytes // 1_000_000} MB.")
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return ApiRefusal(422, 402, "Received invalid JSON input.")
    return parsed


def _refusal(refusal: ApiRefusal) -> Response:
    headers = {"X-PM-ApiErrorCode": str(refusal.code)}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    return json_answer(_refusal_json(refusal), refusal.http_status, headers)


def _refusal_json(refusal: ApiRefusal) -> dict[str, object]:
    return {"ErrorCode": refusal.code, "Message": refusal.message}
