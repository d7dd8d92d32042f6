"""An event as it came: its bytes made into JSON, and the fields that every event has."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifyctl.billing.reading import NOTHING, Json, at, client_name, identifier, moment
from notifyctl.errors import InvalidInput

THIN = "v2.core.event"
CHANGES_BETWEEN_DELIVERIES = ("pending_webhooks", "request")


@dataclass(frozen=True, slots=True)
class Envelope:
    id: str
    type: str
    created: datetime
    livemode: bool
    account: str | None
    """Of a connected account that the event belongs to; it was called user_id until 2017."""
    api_version: str | None
    is_thin: bool
    object: Json

    @property
    def object_id(self) -> str | None:
        return identifier(self.object.get("id"))

    @property
    def customer(self) -> str | None:
        return self.object_id if self.object.get("object") == "customer" else identifier(self.object.get("customer"))


def read_envelope(raw: bytes, received_at: datetime) -> Envelope:
    """Raises InvalidInput, which repeats nothing of the body, for what is no event.

    One without a time happened when it was received. Only a livemode that is `true` is live.
    """
    event = _json_object(raw)
    event_id, kind = identifier(event.get("id")), identifier(event.get("type"))
    if event_id is None or kind is None:
        missing = "id" if event_id is None else "type"
        raise InvalidInput(f"the body is no Stripe event: it has no {missing}, or one that is no plain text")
    return Envelope(
        id=event_id,
        type=kind,
        created=moment(event.get("created")) or received_at,
        livemode=event.get("livemode") is True,
        account=_account(event.get("account")) or _account(event.get("user_id")),
        api_version=client_name(event.get("api_version")),
        is_thin=event.get("object") == THIN,
        object=at(event, "data", "object"),
    )


def _account(value: Any) -> str | None:
    """Whatever stands there, the event is not of our own account."""
    return client_name(value) or ("unreadable" if value else None)


def say_the_same(one: bytes, other: bytes) -> bool:
    """Whether two deliveries of an event differ at most in what differs between any two."""
    try:
        return one == other or _compared(one) == _compared(other)
    except RecursionError:  # nested almost too deep to be read
        return False


def _compared(raw: bytes) -> Any:
    try:
        event = dict(_json_object(raw))
    except InvalidInput:
        return raw
    return {name: value for name, value in event.items() if name not in CHANGES_BETWEEN_DELIVERIES}


def _json_object(raw: bytes) -> Json:
    try:
        value = json.loads(raw.decode())
    except UnicodeDecodeError:
        raise InvalidInput("the body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidInput("the body is no JSON object")
    return value or NOTHING
