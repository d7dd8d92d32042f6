"""The page of one message: why it did or did not arrive, step by step."""

import logging
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.bootstrap import Runtime
from notifyctl.health.summary import MINUTE
from notifyctl.http.api.messages import require_message
from notifyctl.http.auth import RuntimeDep
from notifyctl.http.pages.dashboard import NAMES, REFRESH_SECONDS
from notifyctl.http.pages.page import render
from notifyctl.http.pages.sessions import HOME, OwnForm, SignedIn
from notifyctl.models.enums import AuditAction, MessageStatus
from notifyctl.models.message import FINAL
from notifyctl.operations import heartbeats
from notifyctl.orchestrator.explain import explain_message
from notifyctl.orchestrator.gates import PASSED_WHEN
from notifyctl.orchestrator.holds import QuietHours, held_by
from notifyctl.orchestrator.message_store import MessageRow
from notifyctl.text.masking import mask

ADDRESS = HOME + "/messages/{message_id}"
MAY_CHANGE = {status for status in MessageStatus if status not in FINAL} | {MessageStatus.SENT}

log = logging.getLogger("notifyctl.http")
router = APIRouter(include_in_schema=False)


@router.get(ADDRESS)
def show(message_id: UUID, runtime: RuntimeDep, caller: SignedIn) -> HTMLResponse:
    """The recipient masked, and the subject, which may have a name in it, left out."""
    with runtime.database.read() as session:
        message = require_message(session, message_id)
        values = _template_values(session, runtime, message)
    return render("message.html", caller=caller, is_revealed=False, **values)


@router.post(ADDRESS + "/reveal", dependencies=[OwnForm])
def reveal(message_id: UUID, runtime: RuntimeDep, caller: SignedIn) -> HTMLResponse:
    """The same with both, once: not at an address that could be opened again. Leaves an audit row."""
    now = runtime.clock()
    with runtime.database.transaction() as session:
        message = require_message(session, message_id)
        values = _template_values(session, runtime, message)
        audit_log.write(
            session,
            AuditAction.OPERATOR_ACTION,
            actor=caller.actor,
            now=now,
            client_id=message.client_id,
            message_id=message.id,
            details={"detail": "recipient and subject were shown on the page"},
        )
    log.info("recipient shown", extra={"key": caller.name, "message_id": message.id})
    return render("message.html", caller=caller, is_revealed=True, **values)


def _template_values(session: Session, runtime: Runtime, message: MessageRow) -> dict[str, object]:
    now = runtime.clock()
    explanation = explain_message(
        message,
        audit_log.of_message(session, message.id),
        now=now,
        workers=heartbeats.count_working(session, now - MINUTE),
        held_by=held_by(session, message, QuietHours(*runtime.settings.quiet_span), now),
    )
    return {
        "message": message,
        "masked": mask(message.recipient),
        "explanation": explanation,
        "now": now,
        "home": HOME,
        "names": NAMES,
        "passed_when": PASSED_WHEN,
        "refresh_seconds": REFRESH_SECONDS if message.status in MAY_CHANGE else 0,
    }
