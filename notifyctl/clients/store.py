"""Clients: looked up, listed, written many at a time, and erased."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import Executable, func, or_, select, true
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.errors import InvalidInput
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.enums import ProvisioningStatus, SubscriptionStatus
from notifyctl.text.choices import meant, no_client

_client = table(Client)
NEAR = 20


class ClientRow(NamedTuple):
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
    created_at: datetime
    updated_at: datetime
    erased_at: datetime | None


_SELECT = select(*(_client.c[name] for name in ClientRow._fields))


def get(session: Session, client_id: str) -> ClientRow | None:
    row = session.execute(_SELECT.where(_client.c.id == client_id)).first()
    return ClientRow(*row) if row else None


def require(session: Session, client_id: str) -> ClientRow:
    """Raises NotFound."""
    client = get(session, client_id)
    if client is None:
        raise no_client(client_id, near(session, client_id))
    return client


def absence(session: Session, client_id: str | None) -> str:
    """`there is no client 'acmee'; did you mean acme?`; empty where there is one, or none is asked for."""
    if client_id is None or get(session, client_id) is not None:
        return ""
    return f"there is no client {client_id!r}{meant(client_id, near(session, client_id))}"


def near(session: Session, client_id: str) -> list[str]:
    """Ids that stand beside this one in their order, among which one that was misspelt towards its end is found."""
    before = select(_client.c.id).where(_client.c.id < client_id).order_by(_client.c.id.desc()).limit(NEAR)
    after = select(_client.c.id).where(_client.c.id > client_id).order_by(_client.c.id).limit(NEAR)
    return [name for beside in (after, before) for name in session.execute(beside).scalars()]


def get_many(session: Session, ids: Collection[str], *, lock: bool = False) -> dict[str, ClientRow]:
    """Their rows by id, without those that are unknown. `lock`: nobody else changes them until the commit."""
    dialect = bulk.dialect(session)
    rows = session.execute(_by_ids(dialect, lock), bulk.encode(dialect, [{"id": client_id} for client_id in ids]))
    return {row[0]: ClientRow(*row) for row in rows}


@cache
def _by_ids(dialect: str, lock: bool) -> Executable:
    keys = bulk.unpack(dialect, bulk.column_types(_client, "id"))
    statement = _SELECT.where(_client.c.id.in_(select(keys.c.id)))
    # In one order, so that two imports of the same clients cannot deadlock.
    return statement.order_by(_client.c.id).with_for_update() if lock else statement


def erased(session: Session, ids: Collection[str]) -> list[str]:
    """Which of `ids` were erased, in the order of their ids."""
    dialect = bulk.dialect(session)
    rows = session.execute(_erased_by_ids(dialect), bulk.encode(dialect, [{"id": client_id} for client_id in ids]))
    return list(rows.scalars())


@cache
def _erased_by_ids(dialect: str) -> Executable:
    keys = bulk.unpack(dialect, bulk.column_types(_client, "id"))
    erased_ones = select(_client.c.id).where(_client.c.erased_at.is_not(None), _client.c.id.in_(select(keys.c.id)))
    return erased_ones.order_by(_client.c.id)


def page(
    session: Session,
    *,
    limit: int,
    after: str = "",
    search: str | None = None,
    plan: str | None = None,
    provisioning: ProvisioningStatus | None = None,
    subscription: SubscriptionStatus | None = None,
) -> list[ClientRow]:
    """Clients with an id beyond `after`, in the order of their ids. `search` is part of what names them."""
    statement = _SELECT.where(_client.c.id > after).order_by(_client.c.id).limit(limit)
    if search:
        texts = (_client.c.id, _client.c.name, _client.c.email, _client.c.phone_e164, _client.c.stripe_customer_id)
        statement = statement.where(or_(*(column.icontains(search, autoescape=True) for column in texts)))
    values = {"plan": plan, "provisioning_status": provisioning, "subscription_status": subscription}
    for name, value in values.items():
        if value is not None:
            statement = statement.where(_client.columns[name] == value)
    return [ClientRow(*row) for row in session.execute(statement)]


def count_by_plan(session: Session) -> dict[str, int]:
    statement = select(_client.c.plan, func.count()).where(_client.c.plan.is_not(None)).group_by(_client.c.plan)
    return {plan: count for plan, count in session.execute(statement)}


def holders_of_stripe_customers(session: Session, customer_ids: Collection[str]) -> dict[str, str]:
    """stripe_customer_id -> id of the client that has it."""
    dialect = bulk.dialect(session)
    values = [{"stripe_customer_id": customer} for customer in customer_ids]
    rows = session.execute(_by_stripe_customers(dialect), bulk.encode(dialect, values))
    return {customer: client_id for client_id, customer in rows}


@cache
def _by_stripe_customers(dialect: str) -> Executable:
    keys = bulk.unpack(dialect, bulk.column_types(_client, "stripe_customer_id"))
    return select(_client.c.id, _client.c.stripe_customer_id).where(
        _client.c.stripe_customer_id.in_(select(keys.c.stripe_customer_id))
    )


def upsert(session: Session, fields: Collection[str], clients: Sequence[Mapping[str, object]]) -> None:
    """Writes whole rows for clients that are new, and only `fields` and updated_at for those that exist.

    Raises InvalidInput when another client has got one of the stripe_customer_ids since they were looked up.
    """
    if not clients:
        return
    dialect = bulk.dialect(session)
    statement = _upsert(dialect, tuple(clients[0]), tuple(sorted(fields)))
    try:
        session.execute(statement, bulk.encode(dialect, clients))
    except IntegrityError as error:
        raise InvalidInput(
            "a stripe_customer_id was just given to another client; nothing was changed, try it again"
        ) from error


@cache
def _upsert(dialect: str, columns: tuple[str, ...], fields: tuple[str, ...]) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_client, *columns))
    statement = bulk.upsert(dialect, _client).from_select(list(columns), select(*rows.c).where(true()))
    return statement.on_conflict_do_update(
        index_elements=["id"], set_={name: statement.excluded[name] for name in (*fields, "updated_at")}
    )


def erase(session: Session, client_id: str, now: datetime) -> None:
    """Clears personal data. The row stays, so that its id is never given to another client."""
    session.execute(
        _client.update()
        .where(_client.c.id == client_id)
        .values(
            name="",
            email=None,
            phone_e164=None,
            stripe_customer_id=None,
            sms_enabled=False,
            erased_at=now,
            updated_at=now,
        )
    )
