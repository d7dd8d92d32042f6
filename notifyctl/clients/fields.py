"""From text to the values of a client: what a person, a file or the API may say about one."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

from notifyctl import clock
from notifyctl.clients.plans import PlanRegistry
from notifyctl.errors import InvalidInput
from notifyctl.models.client import Client
from notifyctl.models.enums import ProvisioningStatus, SubscriptionStatus
from notifyctl.text.addresses import normal_email, normal_phone
from notifyctl.text.choices import meant, nearest
from notifyctl.text.durations import plural
from notifyctl.text.locales import normal_locale

MAX_LENGTH = 200
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_MEANT = {
    **dict.fromkeys((*_YES, "y", "t", "on", "wahr", "vrai", "verdadero", "vero", "waar", "verdadeiro", "prawda"), True),
    **dict.fromkeys((*_NO, "n", "f", "off", "falsch", "faux", "falso", "onwaar", "fałsz"), False),
}
"""Also databases' short forms, and what spreadsheets write for TRUE and FALSE in their own language."""
# A name can stand in a subject line: a line break in it would begin another header. PostgreSQL keeps no NUL.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_SAID_BY_FIELD = {"email": "email address ", "phone": "phone number "}
"""How the messages of addresses.py begin; taken off, since the field's name is in front of them."""
_SPACE = re.compile(r"\s")

ClientValue = str | bool | None
Member = TypeVar("Member", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class ClientChange:
    """What to write on one client, by column. A column that is not named stays as it is."""

    id: str
    values: Mapping[str, ClientValue]


COLUMN_OF = {
    "name": "name",
    "email": "email",
    "phone": "phone_e164",
    "plan": "plan",
    "provisioning_status": "provisioning_status",
    "subscription_status": "subscription_status",
    "sms_enabled": "sms_enabled",
    "timezone": "timezone",
    "locale": "locale",
    "stripe_customer_id": "stripe_customer_id",
}
"""Field, as files and people call it -> column of the client table."""

CLEARED: Mapping[str, ClientValue] = {
    column: Client.model_fields[column].get_default() for column in COLUMN_OF.values()
}
"""What a column holds when nothing was said, or when an empty text cleared it."""


class ClientFields:
    """Reads texts by this installation's rules. `default_region` is that of phone numbers without +."""

    def __init__(self, plans: PlanRegistry, default_region: str | None = None) -> None:
        self._plans = plans
        self._read: Mapping[str, Callable[[str], ClientValue]] = {
            "name": plain_text,
            "email": normal_email,
            "phone": partial(normal_phone, default_region=default_region),
            "plan": self._plan,
            "provisioning_status": lambda text: _member(ProvisioningStatus, text.upper()),
            "subscription_status": lambda text: _member(SubscriptionStatus, text.lower()),
            "sms_enabled": _yes_or_no,
            "timezone": _timezone,
            "locale": normal_locale,
            "stripe_customer_id": identifier,
        }

    def read(self, client_id: str, texts: Mapping[str, str]) -> tuple[ClientChange, list[str]]:
        """The change, and a line (`field: what is wrong`) for each bad text. Empty texts clear.

        A bad id is left empty, so that nobody looks it up.
        """
        values: dict[str, ClientValue] = {}
        faults: list[str] = []
        try:
            known_id = identifier(client_id.strip())
        except InvalidInput as error:
            known_id = ""
            faults.append(f"id: {error}")
        for field, text in texts.items():
            column = COLUMN_OF[field]
            try:
                stripped = text.strip(" \t")
                values[column] = self._read[field](stripped) if stripped else CLEARED[column]
            except InvalidInput as error:
                faults.append(f"{field}: {str(error).removeprefix(_SAID_BY_FIELD.get(field, ''))}")
        return ClientChange(known_id, values), faults

    def change(self, client_id: str, texts: Mapping[str, str]) -> ClientChange:
        """Raises InvalidInput that names every text that is no good."""
        change, faults = self.read(client_id, texts)
        if faults:
            raise InvalidInput(*faults)
        return change

    def _plan(self, text: str) -> str:
        if text not in self._plans.plans:
            known = ", ".join(sorted(self._plans.plans))
            suggestion = meant(text, self._plans.plans)
            raise InvalidInput(
                f"{text!r} is not in the plan registry ({self._plans.source}){suggestion or f'; known: {known}'}"
            )
        return text


def _member(enum: type[Member], text: str) -> Member:
    """Raises InvalidInput that lists the words there are."""
    try:
        return enum(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not one of {', '.join(enum)}{meant(text, enum)}") from error


def plain_text(text: str) -> str:
    """As it may stand in a subject line. Raises InvalidInput."""
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"{text[:40]!r}… has {plural(len(text), 'character')}; at most {MAX_LENGTH:,} are kept")
    if _CONTROL.search(text):
        raise InvalidInput(f"{text!r} has a line break or another character that cannot be kept; take it out")
    return text


def identifier(text: str) -> str:
    """Raises InvalidInput for what is empty or has a blank in it."""
    if not text:
        raise InvalidInput("is empty; every client needs one")
    if _SPACE.search(text):
        raise InvalidInput(f"{text[:40]!r} has a space or line break in it; take it out")
    return plain_text(text)


def _yes_or_no(text: str) -> bool:
    meant = _MEANT.get(text.lower())
    if meant is None:
        raise InvalidInput(f"{text!r} is not one of {', '.join(_YES + _NO)}")
    return meant


def _timezone(text: str) -> str:
    if text in clock.names():
        return text
    written = clock.meant(text) or nearest(text, clock.names())
    hint = f"did you mean {written}?" if written else "write an IANA name such as Europe/Berlin"
    raise InvalidInput(f"{text!r} is not a known time zone; {hint}")
