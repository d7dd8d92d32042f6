"""Clients, as the company's own backend keeps them up to date."""

import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session

from notifyctl.alerts.provisioning import announce
from notifyctl.bootstrap import Runtime
from notifyctl.clients import clients, store
from notifyctl.clients.fields import MAX_LENGTH, ClientChange, ClientFields
from notifyctl.http.auth import Caller, RuntimeDep, require
from notifyctl.http.errors import ApiError, documented
from notifyctl.http.strict_json import JsonRoute, Moment
from notifyctl.models.enums import ProvisioningStatus, Scope, SubscriptionStatus
from notifyctl.text.choices import is_none_of

log = logging.getLogger("notifyctl.http")

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
IDENTIFIER = r"^[^\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd]*$"
"""U+FFFD is what became of bytes in the path that are no UTF-8: ids that differ would be one."""
MAX_ADDRESS = 254

router = APIRouter(prefix="/api/clients", tags=["clients"], route_class=JsonRoute)

Line = Annotated[str, StringConstraints(max_length=MAX_LENGTH, pattern=PRINTABLE)]
Identifier = Annotated[str, StringConstraints(max_length=MAX_LENGTH, pattern=IDENTIFIER)]
Address = Annotated[str, StringConstraints(max_length=MAX_ADDRESS, pattern=PRINTABLE)]
Locale = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,4}([.@][A-Za-z0-9-]{1,20})?)?$")
]


class PutClient(BaseModel):
    """A field that is left out stays as it is; null clears it, and so does an empty text where a text is taken."""

    model_config = ConfigDict(extra="forbid")

    name: Line | None = None
    email: Address | None = Field(None, examples=["anna@acme.example"])
    phone_e164: Address | None = Field(None, examples=["+491701234567"])
    timezone: Line | None = Field(None, description="IANA name.", examples=["Europe/Berlin"])
    locale: Locale | None = Field(None, description="Of what it is written, as de or de-AT.", examples=["de-DE"])
    plan: Line | None = Field(None, description="A key in the plan registry.", examples=["PRO"])
    provisioning_status: ProvisioningStatus | None = None
    subscription_status: SubscriptionStatus | None = None
    sms_enabled: bool | None = Field(None, strict=True, description="Consent to SMS.")
    stripe_customer_id: Identifier | None = None


class ClientView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    email: str | None
    phone_e164: str | None
    timezone: str
    locale: str
    plan: str | None
    provisioning_status: ProvisioningStatus
    subscription_status: SubscriptionStatus
    sms_enabled: bool
    stripe_customer_id: str | None
    created_at: Moment
    updated_at: Moment


# An id is the company's own, and may have a slash in it: hence `path`.
@router.put("/{client_id:path}", operation_id="putClient", responses=documented(401, 403, 409, 413, 422))
def put(
    client_id: Annotated[str, Path(min_length=1, max_length=MAX_LENGTH, pattern=IDENTIFIER)],
    body: PutClient,
    caller: Annotated[Caller, Depends(require(Scope.CLIENTS))],
    runtime: RuntimeDep,
) -> ClientView:
    """Create a client, or change what is given. Needs the scope clients."""
    change = _change(runtime, client_id, body)
    with runtime.database.transaction() as session:
        _refuse_conflict(session, change)
        result = clients.set_clients(session, [change], actor=caller.actor, now=runtime.clock())
        announced = announce(session, runtime.orchestrator, runtime.settings, result.transitions)
        for warning in announced.warnings:
            log.warning("provisioning not announced", extra={"cause": warning})
        return ClientView.model_validate(store.get_many(session, [change.id])[change.id])


def _change(runtime: Runtime, client_id: str, body: PutClient) -> ClientChange:
    values = body.model_dump(exclude_unset=True)
    texts = {("phone" if name == "phone_e164" else name): _text(value) for name, value in values.items()}
    fields = ClientFields(runtime.plans, runtime.settings.otp_default_region)
    change, faults = fields.read(client_id, texts)
    if faults:
        wrong = _WRONG | {"plan": f"plan: {is_none_of(texts.get('plan', ''), runtime.plans.plans)}"}
        names = [fault.split(":")[0] for fault in faults]
        raise ApiError(422, "invalid_request", "; ".join(wrong[name] for name in names))
    return change


def _text(value: object) -> str:
    return "" if value is None else str(value)


_WRONG = {
    "id": "client_id: has a blank or another character that cannot be kept",
    "name": "name: has a character that cannot be kept",
    "email": "email: is no email address",
    "phone": "phone_e164: is no phone number in international form, as +491701234567",
    "timezone": "timezone: is not a known time zone; send an IANA name, as Europe/Berlin",
    "locale": "locale: is no language that is known; send it as de, de-AT or zh-Hant-TW",
    "stripe_customer_id": "stripe_customer_id: has a blank or another character that cannot be kept",
}
"""By field, as the reader of client fields calls it. Its own words are for whoever typed the value, and repeat it."""


def _refuse_conflict(session: Session, change: ClientChange) -> None:
    if not clients.conflicts(session, [change]):
        return
    if store.erased(session, [change.id]):
        raise ApiError(409, "client_erased", "This client was erased and takes no new data; use another id.")
    raise ApiError(409, "conflict", "stripe_customer_id: belongs to another client; clear it there first")
