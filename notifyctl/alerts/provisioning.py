"""What is written when a client's provisioning becomes COMPLETED or FAILED."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from notifyctl.clients import store as client_store
from notifyctl.clients.clients import ProvisioningChange
from notifyctl.models.enums import ProvisioningStatus
from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
from notifyctl.orchestrator.requests import Blocked, SendRequest, for_admins
from notifyctl.settings import Settings
from notifyctl.templates import store as template_store

WELCOME_TEMPLATE = "WELCOME_EMAIL"
ADMIN_TEMPLATE = "PROVISIONING_FAILED_ADMIN"
SOURCE = "provisioning"
FEW = 5
"""From one call, a mail for each client that failed; of more there is one mail in all."""
NAMED = 20
"""Clients in that mail."""
LINE, DETAIL = 300, 2_000
"""Characters of what may be long, so that all of it together is not too long for a variable."""
NO_LOGIN_URL = f"no {WELCOME_TEMPLATE} is sent: LOGIN_URL is not set, the page on which clients sign in"
NO_ADMINS = f"no {ADMIN_TEMPLATE} is sent: neither ADMIN_ALERT_EMAILS nor OPS_ALERT_EMAIL is set"


@dataclass(frozen=True, slots=True)
class Announced:
    welcomed: int = 0
    """Welcome mails that were queued."""
    alerted: int = 0
    """The same of mails to the admins."""
    warnings: tuple[str, ...] = ()
    """Why one was not, each cause once."""

    def __add__(self, other: "Announced") -> "Announced":
        warnings = tuple(dict.fromkeys(self.warnings + other.warnings))
        return Announced(self.welcomed + other.welcomed, self.alerted + other.alerted, warnings)


def announce(
    session: Session,
    orchestrator: NotificationOrchestrator,
    settings: Settings,
    transitions: Sequence[ProvisioningChange],
    *,
    detail: str | None = None,
) -> Announced:
    """To be called with what `set_clients` returned, in the same transaction. `detail` is why it failed.

    A client that was not known before is not announced: whoever brings in customers together with their status has
    not just provisioned them.
    """
    changes = [change for change in transitions if change.old is not None]
    completed = [change.client_id for change in changes if change.new is ProvisioningStatus.COMPLETED]
    failed = [change.client_id for change in changes if change.new is ProvisioningStatus.FAILED]
    named = completed + failed[:NAMED]
    names = {row.id: row.name for row in client_store.get_many(session, named).values()} if named else {}
    requests: list[SendRequest] = []
    warnings = []
    if completed and settings.login_url is None:
        warnings.append(NO_LOGIN_URL)
    elif completed:
        requests += [_welcome(client_id, names[client_id], settings.login_url) for client_id in completed]
    if failed and not settings.admin_recipients:
        warnings.append(NO_ADMINS)
    for client_id, context in _failures(failed, names, detail):
        requests += for_admins(settings.admin_recipients, ADMIN_TEMPLATE, context, source=SOURCE, source_ref=client_id)
    return _sent(session, orchestrator, requests, warnings)


def _failures(
    failed: Sequence[str], names: Mapping[str, str], detail: str | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """The mails, each as its first client and its context: one a client while there are few, else one for all."""
    if len(failed) <= FEW:
        for client_id in failed:
            context = {"client_id": client_id, "client_name": names[client_id]}
            yield client_id, context | ({"detail": detail} if detail else {})
        return
    lines = [f"{client_id} {names[client_id]}".rstrip()[:LINE] for client_id in failed[:NAMED]]
    if len(failed) > NAMED:
        lines.append(f"… and {len(failed) - NAMED:,} more")
    # Mails are rated by client_id: this one is not to be held back by one that told of its first client alone.
    which = f"{failed[0]} and {len(failed) - 1:,} more"
    yield (
        failed[0],
        {"client_id": which, "client_name": "", "detail": "\n".join([detail[:DETAIL], *lines] if detail else lines)},
    )


def _welcome(client_id: str, name: str, login_url: str | None) -> SendRequest:
    return SendRequest(
        template_key=WELCOME_TEMPLATE,
        client_id=client_id,
        context={"client_name": name, "login_url": login_url},
        source=SOURCE,
    )


def _sent(
    session: Session, orchestrator: NotificationOrchestrator, requests: Sequence[SendRequest], warnings: list[str]
) -> Announced:
    seeded = template_store.by_key(session, {request.template_key for request in requests}) if requests else {}
    for missing in sorted({request.template_key for request in requests} - seeded.keys()):
        warnings.append(f"no {missing} is sent: there is no such template, run `notifyctl templates seed`")
    requests = [request for request in requests if request.template_key in seeded]
    queued = dict.fromkeys((WELCOME_TEMPLATE, ADMIN_TEMPLATE), 0)
    for request, decision in zip(requests, orchestrator.send_many(session, requests), strict=True):
        if isinstance(decision, Blocked):
            warnings.append(f"{request.template_key} was refused by {decision.reason}; look at its message")
        else:
            queued[request.template_key] += 1
    return Announced(queued[WELCOME_TEMPLATE], queued[ADMIN_TEMPLATE], tuple(dict.fromkeys(warnings)))
