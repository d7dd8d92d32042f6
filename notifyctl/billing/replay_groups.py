"""Which events have to do with each other: those of one client, by any of the names that it has at Stripe."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlmodel import Session

from notifyctl.billing.envelope import EventSubject, event_subject, read_event
from notifyctl.billing.event_spool import Item
from notifyctl.store import clients, stripe_listing
from notifyctl.store.database import Database

PAGE = 500


def apart(database: Database, items: Sequence[Item]) -> list[list[int]]:
    """The numbers of `items`, group by group; the group with the first event first."""
    joined = _Joined()
    for start in range(0, len(items), PAGE):
        page = items[start : start + PAGE]
        with database.read() as session:
            names = _names(session, page)
        for number, item in enumerate(page, start=start):
            joined.join([_number(number), *names[item.event_id]])
    groups: dict[str, list[int]] = defaultdict(list)
    for number in range(len(items)):
        groups[joined.root(_number(number))].append(number)
    return list(groups.values())


def _number(number: int) -> str:
    return f"number {number}"


def _names(session: Session, page: Sequence[Item]) -> dict[str, list[str]]:
    """Event id -> the names of all that it is about, with the clients that those belong to by now."""
    subjects = _subjects(session, page)
    customers = {subject.customer_id for subject in subjects.values() if subject.customer_id}
    subscriptions = {subject.subscription_id for subject in subjects.values() if subject.subscription_id}
    holders = clients.holders_of_stripe_customers(session, customers)
    owners = {key: row.client_id for key, row in stripe_listing.subscriptions(session, subscriptions).items()}
    return {
        event_id: [
            f"{kind} {name}"
            for kind, name in (
                ("customer", subject.customer_id),
                ("subscription", subject.subscription_id),
                ("client", subject.named_client),
                ("client", holders.get(subject.customer_id or "")),
                ("client", owners.get(subject.subscription_id or "")),
            )
            if name
        ]
        for event_id, subject in subjects.items()
    }


def _subjects(session: Session, page: Sequence[Item]) -> Mapping[str, EventSubject]:
    told = {item.event_id: event_subject(read_event(item.load(), item.created)) for item in page if item.load}
    rows = stripe_listing.subjects(session, [item.event_id for item in page if not item.load])
    return told | {row.id: EventSubject(row.customer_id, row.subscription_id, row.named_client) for row in rows}


class _Joined:
    """Sets of names, which become one as soon as they share a name."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        found = name
        while (above := self._parent.get(found, found)) != found:
            found = above
        while (above := self._parent.get(name, name)) != found:
            self._parent[name], name = found, above
        return found

    def join(self, names: Iterable[str]) -> None:
        first, *others = names
        for other in others:
            self._parent[self.root(other)] = self.root(first)
