"""Writing clients: only what really changes is written and audited."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.clients import store
from notifyctl.clients.fields import CLEARED, ClientChange, ClientValue
from notifyctl.clients.store import ClientRow
from notifyctl.errors import InvalidInput
from notifyctl.models.enums import AuditAction, ProvisioningStatus


@dataclass(frozen=True, slots=True)
class ProvisioningChange:
    """The provisioning status changed. `old` is None for a new client."""

    client_id: str
    old: ProvisioningStatus | None
    new: ProvisioningStatus


@dataclass(frozen=True, slots=True)
class WrittenClients:
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    transitions: tuple[ProvisioningChange, ...] = ()

    def __add__(self, other: "WrittenClients") -> "WrittenClients":
        return WrittenClients(
            self.created + other.created,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.transitions + other.transitions,
        )


@dataclass(frozen=True, slots=True)
class _Difference:
    change: ClientChange
    before: ClientRow | None
    fields: tuple[str, ...]

    @property
    def is_any(self) -> bool:
        return self.before is None or bool(self.fields)


def set_clients(session: Session, changes: Sequence[ClientChange], *, actor: str, now: datetime) -> WrittenClients:
    """Creates and changes clients in a fixed number of statements, and audits those that changed.

    No id may be in `changes` twice. Raises InvalidInput for an erased client, and for a stripe_customer_id
    that another client has or gets.
    """
    for problem in (*_given_twice(changes), *conflicts(session, changes).values()):
        raise InvalidInput(problem)
    before = store.get_many(session, [change.id for change in changes], lock=True)
    differences = [_difference(change, before.get(change.id)) for change in changes]
    different = [difference for difference in differences if difference.is_any]
    for columns, group in _by_columns(different).items():
        store.upsert(session, columns, [_row(difference.change, now) for difference in group])
    audit_log.write_many(session, [_audit_entry(difference, actor, now) for difference in different])
    created = sum(difference.before is None for difference in different)
    return WrittenClients(
        created=created,
        changed=len(different) - created,
        unchanged=len(differences) - len(different),
        transitions=tuple(_transitions(different)),
    )


def write_known(session: Session, changes: Sequence[tuple[ClientRow, ClientChange]], *, now: datetime) -> None:
    """For who holds the locks of these rows and knows what stood in them; `audit_change` is the log of each change."""
    merged: dict[str, dict[str, ClientValue]] = defaultdict(dict)
    for before, change in changes:
        merged[before.id] |= change.values
    whole = [_Difference(ClientChange(client_id, values), None, ()) for client_id, values in merged.items()]
    for columns, group in _by_columns(whole).items():
        store.upsert(session, columns, [_row(difference.change, now) for difference in group])


def audit_change(before: ClientRow, change: ClientChange, *, actor: str, now: datetime) -> audit_log.NewAuditRow:
    return _audit_entry(_difference(change, before), actor, now)


def conflicts(session: Session, changes: Sequence[ClientChange]) -> dict[str, str]:
    """Client id -> why it cannot be written now."""
    customers = {change.id: str(change.values.get("stripe_customer_id") or "") for change in changes}
    holders = store.holders_of_stripe_customers(session, [customer for customer in customers.values() if customer])
    problems: dict[str, str] = {}
    for client_id, customer in customers.items():
        holder = holders.get(customer, client_id)
        if holder != client_id:
            problems[client_id] = f"stripe_customer_id {customer!r} belongs to client {holder!r}; clear it there first"
    for client_id in store.erased(session, list(customers)):
        problems[client_id] = f"client {client_id!r} was erased and takes no new data; leave it out, or use another id"
    return problems


def _given_twice(changes: Sequence[ClientChange]) -> Iterator[str]:
    first: dict[str, str] = {}
    for change in changes:
        customer = str(change.values.get("stripe_customer_id") or "")
        if customer and first.setdefault(customer, change.id) != change.id:
            both = f"{first[customer]!r} and {change.id!r}"
            yield f"stripe_customer_id {customer!r} is given to clients {both}; keep one of the two"


def _difference(change: ClientChange, before: ClientRow | None) -> _Difference:
    old = CLEARED if before is None else before._asdict()
    fields = tuple(name for name, value in change.values.items() if old[name] != value)
    return _Difference(change, before, fields)


def _by_columns(differences: Sequence[_Difference]) -> Mapping[frozenset[str], list[_Difference]]:
    # Only what a change names is overwritten, also on a client that someone else creates at this moment.
    groups: dict[frozenset[str], list[_Difference]] = defaultdict(list)
    for difference in differences:
        groups[frozenset(difference.change.values)].append(difference)
    return groups


def _row(change: ClientChange, now: datetime) -> dict[str, object]:
    return {"id": change.id, **CLEARED, **change.values, "created_at": now, "updated_at": now}


def _audit_entry(difference: _Difference, actor: str, now: datetime) -> audit_log.NewAuditRow:
    return audit_log.entry(
        AuditAction.CLIENT_UPDATED,
        actor=actor,
        now=now,
        client_id=difference.change.id,
        details={"created": difference.before is None, "fields": sorted(difference.fields)},
    )


def _transitions(differences: Sequence[_Difference]) -> Iterator[ProvisioningChange]:
    for difference in differences:
        if "provisioning_status" in difference.fields:
            old = difference.before.provisioning_status if difference.before else None
            new = ProvisioningStatus(str(difference.change.values["provisioning_status"]))
            yield ProvisioningChange(difference.change.id, old, new)
