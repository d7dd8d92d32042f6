"""The page of one message: why it did or did not arrive, step by step."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.clients import store as client_store
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.health.summary import MINUTE
from notifyctl.http.api.messages import require_message
from notifyctl.http.auth import RuntimeDep
from notifyctl.http.errors import CODES, ApiError
from notifyctl.http.pages.actions import MESSAGE, MESSAGE_ACTIONS, Proposal, suppression_of
from notifyctl.http.pages.dashboard import NAMES, REFRESH_SECONDS
from notifyctl.http.pages.page import HEADERS, WITH_A_MAIL, render, scope_query
from notifyctl.http.pages.sessions import HOME, SESSION_FORM, SignedIn
from notifyctl.http.pages.span import ViewerZone
from notifyctl.http.pages.words import read_words
from notifyctl.models.enums import AuditAction, MessageStatus
from notifyctl.models.message import FINAL
from notifyctl.operations import heartbeats, pauses
from notifyctl.operations.pauses import PauseScope
from notifyctl.orchestrator.explain import explain_message
from notifyctl.orchestrator.filters import find_message
from notifyctl.orchestrator.gates import PASSED_WHEN
from notifyctl.orchestrator.holds import QuietHours, held_by
from notifyctl.orchestrator.message_store import MessageRow
from notifyctl.text.masking import mask

MAY_CHANGE = {status for status in MessageStatus if status not in FINAL} | {MessageStatus.SENT}

log = logging.getLogger("notifyctl.http")
router = APIRouter(include_in_schema=False)


@router.get(MESSAGE)
def show(message_id: str, runtime: RuntimeDep, caller: SignedIn, zone: ViewerZone) -> Response:
    """The recipient masked, and what it said, which may have a name in it, left out. A part of an id leads to it."""
    with runtime.database.read() as session:
        try:
            message = find_message(session, message_id)
        except InvalidInput as error:
            text = "This is no id of a message, nor the beginning or end of just one."
            raise ApiError(422, CODES[422], text) from error
        except NotFound as error:
            raise ApiError(404, CODES[404], "There is no such message.") from error
        if message.id != message_id:
            return RedirectResponse(MESSAGE.format(message_id=message.id), 303)
        values = _template_values(session, runtime, message)
    return render("message.html", caller=caller, zone=zone, is_revealed=False, words=None, **values)


@router.post(MESSAGE + "/reveal", dependencies=SESSION_FORM)
def reveal(message_id: UUID, runtime: RuntimeDep, caller: SignedIn, zone: ViewerZone) -> HTMLResponse:
    """The same with both, once: not at an address that could be opened again. Leaves an audit row."""
    now = runtime.clock()
    with runtime.database.transaction() as session:
        message = require_message(session, message_id)
        values = _template_values(session, runtime, message)
        words = read_words(session, message)
        audit_log.write(
            session,
            AuditAction.OPERATOR_ACTION,
            actor=caller.actor,
            now=now,
            client_id=message.client_id,
            message_id=message.id,
            details={"detail": "recipient and words were shown on the page"},
        )
    log.info("recipient shown", extra={"key": caller.name, "message_id": message.id})
    has_page = words.content is not None and words.content.html is not None
    headers = WITH_A_MAIL if has_page else HEADERS
    return render("message.html", 200, headers, caller=caller, zone=zone, is_revealed=True, words=words, **values)


def _template_values(session: Session, runtime: Runtime, message: MessageRow) -> dict[str, object]:
    now = runtime.clock()
    workers = heartbeats.count_working(session, now - MINUTE)
    proposals = {name: action.propose(session, runtime, message) for name, action in MESSAGE_ACTIONS.items()}
    scopes = [pauses.scope_of(row) for row in pauses.everything(session)]
    suppression = suppression_of(session, runtime, message)
    explanation = explain_message(
        message,
        audit_log.of_message(session, message.id),
        now=now,
        workers=workers,
        held_by=held_by(session, message, QuietHours(*runtime.settings.quiet_span), now),
        suppressed=suppression.reason if suppression else None,
    )
    has_client = message.client_id is not None and client_store.get(session, message.client_id) is not None
    return {
        "message": message,
        "masked": mask(message.recipient),
        "explanation": explanation,
        "acts": list(_acts(message, proposals, scopes, has_client=has_client)),
        "next_command": _next_command(message, proposals, [scope for scope in scopes if scope.fits(message)], workers),
        "now": now,
        "home": HOME,
        "names": NAMES,
        "passed_when": PASSED_WHEN,
        "refresh_seconds": REFRESH_SECONDS if message.status in MAY_CHANGE else 0,
    }


def _acts(
    message: MessageRow, proposals: Mapping[str, Proposal], paused: Sequence[PauseScope], *, has_client: bool
) -> Iterator[tuple[str, str]]:
    """Addresses of what can be done about it now, with their labels."""
    page = MESSAGE.format(message_id=message.id)
    for name, action in MESSAGE_ACTIONS.items():
        if proposals[name].is_possible:
            yield f"{page}/{name}", action.label
    pausable = {"template": PauseScope(template_key=message.template_key)}
    if has_client:
        pausable["client"] = PauseScope(client_id=message.client_id)
    for what, scope in pausable.items():
        verb = "Resume" if scope in paused else "Pause"
        yield f"{HOME}/{verb.lower()}?{scope_query(scope, page)}", f"{verb} its {what}"


def _next_command(
    message: MessageRow, proposals: Mapping[str, Proposal], holding: Sequence[PauseScope], workers: int
) -> str:
    """What one would type about it."""
    waits = proposals["cancel"].is_possible
    if waits and holding:
        return holding[0].command("resume")
    if waits and not workers:
        return "notifyctl worker"
    possible = (proposal.command for proposal in proposals.values() if proposal.is_possible)
    return next(possible, f"notifyctl messages explain {message.id}")
