"""Postmark's JSON of one email: what it has to satisfy, and the Mail it becomes.

Limits and codes: https://postmarkapp.com/developer/api/email-api and its overview of error codes.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import getaddresses
from typing import Any
from uuid import uuid4

from notifyctl.providers.sandbox.arrivals import Address, Mail
from notifyctl.providers.sandbox.failures import Failure, Refused

MAX_RECIPIENTS = 50
MAX_METADATA_FIELDS = 10
MAX_METADATA_NAME = 20
MAX_METADATA_VALUE = 80
MAX_LENGTHS = {"From": 255, "Subject": 2000, "Tag": 1000}

_TEXT_FIELDS = (
    "From", "To", "Cc", "Bcc", "ReplyTo", "Subject", "Tag", "HtmlBody", "TextBody", "MessageStream",
)  # fmt: skip
_LIST_FIELDS = ("Headers", "Attachments")
_MAILBOX = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", re.ASCII)


def read_mail(fields: Any, *, now: datetime) -> Mail:
    """Raises Refused with the first thing that Postmark would refuse."""
    _check_types(fields)
    sender = _addresses(fields, "From")
    if len(sender) != 1:
        raise _refused(300, f"Invalid 'From' address: '{fields.get('From') or ''}'.")
    mail = Mail(
        id=str(uuid4()),
        received_at=now,
        sender=sender[0],
        to=_addresses(fields, "To"),
        cc=_addresses(fields, "Cc"),
        bcc=_addresses(fields, "Bcc"),
        reply_to=", ".join(str(address) for address in _addresses(fields, "ReplyTo")),
        subject=fields.get("Subject") or "",
        text=fields.get("TextBody") or "",
        html=fields.get("HtmlBody") or "",
        tag=fields.get("Tag") or "",
        stream=fields.get("MessageStream") or "outbound",
        metadata=_metadata(fields.get("Metadata") or {}),
        headers=tuple(_named(fields.get("Headers") or (), "Headers", "Value")),
        attachments=tuple(name for name, _ in _named(fields.get("Attachments") or (), "Attachments", "Content")),
    )
    _check_whole(mail, fields)
    return mail


def _check_types(fields: Any) -> None:
    if not isinstance(fields, dict):
        raise _refused(403, "The request body must be a JSON object.")
    wrong = [name for name in _TEXT_FIELDS if not isinstance(fields.get(name) or "", str)]
    wrong += [name for name in _LIST_FIELDS if not isinstance(fields.get(name) or [], list)]
    if not isinstance(fields.get("Metadata") or {}, dict):
        wrong.append("Metadata")
    if wrong:
        raise _refused(403, f"Invalid request field(s): '{', '.join(wrong)}'.")


def _check_whole(mail: Mail, fields: Mapping[str, Any]) -> None:
    if not mail.to:
        raise _refused(300, "Zero recipients specified")
    if len(mail.recipients) > MAX_RECIPIENTS:
        raise _refused(300, f"You may send to at most {MAX_RECIPIENTS} recipients in one message.")
    if not mail.text and not mail.html:
        raise _refused(300, "Provide either email TextBody or HtmlBody or both.")
    for name, longest in MAX_LENGTHS.items():
        if len(fields.get(name) or "") > longest:
            raise _refused(300, f"The '{name}' field may have at most {longest} characters.")


def _addresses(fields: Mapping[str, Any], name: str) -> tuple[Address, ...]:
    value = fields.get(name)
    if not value:
        return ()
    if _is_address(value):
        return (Address(value),)
    parsed = getaddresses([value])
    if not all(_is_address(email) for _, email in parsed):
        raise _refused(300, f"Invalid '{name}' address: '{value}'.")
    return tuple(Address(email, display_name) for display_name, email in parsed)


def _is_address(email: str) -> bool:
    if not _MAILBOX.fullmatch(email):
        return False
    local = email.partition("@")[0]
    return not (local.startswith(".") or local.endswith(".") or ".." in local)


def _metadata(given: Mapping[str, Any]) -> dict[str, str]:
    if len(given) > MAX_METADATA_FIELDS:
        raise _refused(300, f"Metadata may have at most {MAX_METADATA_FIELDS} fields.")
    metadata = {name: str(value) for name, value in given.items()}
    for name, value in metadata.items():
        if len(name) > MAX_METADATA_NAME:
            raise _refused(300, f"Metadata field '{name}': a name has at most {MAX_METADATA_NAME} characters.")
        if len(value) > MAX_METADATA_VALUE:
            raise _refused(300, f"Metadata field '{name}': a value has at most {MAX_METADATA_VALUE} characters.")
    return metadata


def _named(items: Iterable[Any], field: str, value: str) -> Iterable[tuple[str, str]]:
    for item in items:
        if not isinstance(item, dict) or not item.get("Name"):
            raise _refused(403, f"Invalid request field(s): '{field}'.")
        yield str(item["Name"]), str(item.get(value) or "")


def _refused(code: int, message: str) -> Refused:
    return Refused(Failure(422, code, message))
