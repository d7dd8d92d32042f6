"""Postmark's JSON of one email: what it has to satisfy, and the Email it becomes.

Limits and codes: https://postmarkapp.com/developer/api/email-api and its overview of error codes.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import getaddresses
from uuid import uuid4

from notifyctl.providers.sandbox.arrivals import Address, Email
from notifyctl.providers.sandbox.failures import ApiRefusal

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
            raise _invalid(f"The '{name}' field may have at most {longest} characters.")


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
