"""What an operator does on a page: the use cases of the command line, each after a page that says what will happen.

That page is asked for by a link, and its button is a form: nothing is done without both, and no script is needed.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlmodel import Session

from notifyctl.bootstrap import Runtime
from notifyctl.clients import suppression_store
from notifyctl.clients.suppressions import NOT_LIFTED_BY_US, lift
from notifyctl.delivery.requeue import Requeue
from notifyctl.errors import InvalidInput, NotFound
from notifyctl.http.api.messages import require_message
from notifyctl.http.auth import RuntimeDep
from notifyctl.http.errors import CODES, MESSAGES, ApiError
from notifyctl.http.pages.page import render
from notifyctl.http.pages.sessions import HOME, SESSION_FORM, Fields, Operator, SignedIn, safe_next
from notifyctl.models.enums import Channel
from notifyctl.operations import controls, pauses
from notifyctl.operations.pauses import PauseScope
from notifyctl.orchestrator import cancel
from notifyctl.orchestrator.message_store import MessageFilter, MessageRow
from notifyctl.text.durations import plural, sentence
from notifyctl.text.masking import mask

MESSAGE = HOME + "/messages/{message_id}"
MAX_REASON = 500

log = logging.getLogger("notifyctl.http")
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be done, for the page that asks whether it shall be."""

    title: str
    button: str
    command: str
    """That does the same."""
    sentences: tuple[str, ...]
    is_possible: bool = True
    needs_reason: bool = False
    fault: str = ""
    """What was wrong with what was filled in."""


def propose_retry(session: Session, runtime: Runtime, message: MessageRow) -> Proposal:
    choice = _requeue(runtime).choose(session, MessageFilter(ids=[message.id]), runtime.clock())
    refusals = [
        f"It would be {refusal.why} now and stays FAILED" if refusal.gate else f"It cannot be sent again: {refusal.why}"
        for refusal in choice.refused
    ]
    lifts = [f"To lift that: `{refusal.remedy}`" for refusal in choice.refused if refusal.remedy]
    will = "It waits for a worker again, with all its attempts before it, and the gates are asked once more"
    return Proposal(
        title="Send this message again?",
        button="Send again",
        command=f"notifyctl messages retry {message.id}",
        sentences=(will,) if choice.ids else (*refusals, *lifts) or ("Only a failed message can be sent again",),
        is_possible=bool(choice.ids),
    )


def propose_cancel(session: Session, _runtime: Runtime, message: MessageRow) -> Proposal:
    is_possible = cancel.count_waiting(session, MessageFilter(ids=[message.id])) > 0
    will = "It is withdrawn for good; what was secret in it is erased"
    return Proposal(
        title="Cancel this message?",
        button="Cancel it",
        command=f"notifyctl messages cancel {message.id}",
        sentences=(will if is_possible else "It does not wait any more: only a waiting message can be canceled",),
        is_possible=is_possible,
    )


def propose_lift(session: Session, runtime: Runtime, message: MessageRow) -> Proposal:
    row = suppression_of(session, runtime, message)
    sentences = ["Its address is not suppressed"]
    if row is not None:
        causes = suppression_store.causes_of(row)
        why = ", ".join(f"{cause.reason} by {cause.source}" for cause in causes)
        sentences = [f"{message.channel} {mask(message.recipient)} is suppressed ({why}), for all messages"]
        sentences += [
            NOT_LIFTED_BY_US[source] for source in NOT_LIFTED_BY_US if source in {cause.source for cause in causes}
        ]
    return Proposal(
        title="Write to this address again?",
        button="Lift the suppression",
        command=f"notifyctl suppressions remove {message.channel} ADDRESS",
        sentences=tuple(sentences),
        is_possible=row is not None,
    )


def suppression_of(session: Session, runtime: Runtime, message: MessageRow) -> suppression_store.SuppressionRow | None:
    if not message.recipient:
        return None
    hashes = runtime.keys.recipient_hashes(message.channel, message.recipient)
    return suppression_store.find(session, message.channel, hashes)


def _requeue(runtime: Runtime) -> Requeue:
    return Requeue(runtime.keys, runtime.plans, sms_enabled=runtime.settings.sms_enabled)


def _retry(session: Session, runtime: Runtime, message: MessageRow, actor: str) -> None:
    _requeue(runtime).queue(session, [message.id], actor=actor, now=runtime.clock())


def _cancel(session: Session, runtime: Runtime, message: MessageRow, actor: str) -> None:
    cancel.cancel_messages(session, MessageFilter(ids=[message.id]), actor=actor, now=runtime.clock())


def _lift(session: Session, runtime: Runtime, message: MessageRow, actor: str) -> None:
    assert message.recipient is not None  # else there was nothing to propose
    lift(session, runtime.keys, message.channel, message.recipient, actor=actor, now=runtime.clock())


@dataclass(frozen=True, slots=True)
class MessageAction:
    label: str
    propose: Callable[[Session, Runtime, MessageRow], Proposal]
    do: Callable[[Session, Runtime, MessageRow, str], None]


MESSAGE_ACTIONS = {
    "retry": MessageAction("Send again", propose_retry, _retry),
    "cancel": MessageAction("Cancel", propose_cancel, _cancel),
    "lift": MessageAction("Lift the suppression", propose_lift, _lift),
}
"""By the last part of their address."""


def _message_action(action: str) -> MessageAction:
    if action not in MESSAGE_ACTIONS:
        raise ApiError(404, CODES[404], MESSAGES[404])
    return MESSAGE_ACTIONS[action]


ActionDep = Annotated[MessageAction, Depends(_message_action)]


@router.get(MESSAGE + "/{action}")
def ask(message_id: UUID, action: ActionDep, runtime: RuntimeDep, operator: SignedIn) -> HTMLResponse:
    with runtime.database.read() as session:
        proposal = action.propose(session, runtime, require_message(session, message_id))
    return _page(proposal, operator, back=MESSAGE.format(message_id=message_id))


@router.post(MESSAGE + "/{action}", dependencies=SESSION_FORM)
def act(message_id: UUID, action: ActionDep, runtime: RuntimeDep, operator: SignedIn) -> Response:
    """Where it is no longer as the page said it was, nothing is done, and how it is now is said instead."""
    back = MESSAGE.format(message_id=message_id)
    with runtime.database.transaction() as session:
        message = require_message(session, message_id)
        proposal = action.propose(session, runtime, message)
        if not proposal.is_possible:
            return _page(proposal, operator, back=back, status=409)
        action.do(session, runtime, message, operator.actor)
    log.info("done on the page", extra={"key": operator.name, "action": action.label, "message_id": str(message_id)})
    return RedirectResponse(back, 303)


def _scope(request: Request) -> PauseScope:
    given = request.query_params
    channel = given.get("channel", "").upper() or None
    if channel is not None and channel not in Channel.__members__:
        raise ApiError(422, CODES[422], "There is no such channel.")
    scope = PauseScope(channel, given.get("template_key") or None, given.get("client_id") or None)
    if scope == PauseScope():
        raise ApiError(422, CODES[422], "The address does not say what to pause or resume.")
    return scope


ScopeDep = Annotated[PauseScope, Depends(_scope)]


def _propose_pause(session: Session, scope: PauseScope) -> Proposal:
    waiting = pauses.held(session, scope)
    row = _pause_of(session, scope)
    will = f"Its messages are accepted and wait, {waiting:,} of them now, until somebody resumes them"
    return Proposal(
        title=f"Hold {scope}?",
        button="Pause",
        command=f"{scope.command('pause')} --reason TEXT",
        sentences=(f"It is paused already, by {row.actor}: {row.reason}" if row else will,),
        is_possible=row is None,
        needs_reason=True,
    )


def _pause_of(session: Session, scope: PauseScope) -> pauses.PauseRow | None:
    return next((row for row in pauses.everything(session) if pauses.scope_of(row) == scope), None)


def _propose_resume(session: Session, scope: PauseScope) -> Proposal:
    row = _pause_of(session, scope)
    held = (
        f"It was paused by {row.actor} ({row.reason}), and holds {plural(pauses.held(session, scope), 'message')}"
        if row
        else ""
    )
    return Proposal(
        title=f"Let go {scope}?",
        button="Resume",
        command=scope.command("resume"),
        sentences=(held or "Nothing is held by just this",),
        is_possible=row is not None,
    )


@router.get(HOME + "/pause")
def ask_pause(request: Request, scope: ScopeDep, runtime: RuntimeDep, operator: SignedIn) -> HTMLResponse:
    with runtime.database.read() as session:
        return _page(_propose_pause(session, scope), operator, back=_back(request))


@router.post(HOME + "/pause", dependencies=SESSION_FORM)
def pause(request: Request, scope: ScopeDep, runtime: RuntimeDep, operator: SignedIn, fields: Fields) -> Response:
    reason = " ".join(fields.get("reason", "").split())
    with runtime.database.transaction() as session:
        proposal = _propose_pause(session, scope)
        if not proposal.is_possible:
            return _page(proposal, operator, back=_back(request), status=409)
        fault = "" if reason else "Say why, for those who will ask."
        fault = fault if len(reason) <= MAX_REASON else f"Say it in at most {MAX_REASON} characters."
        if not fault:
            try:
                controls.pause(session, scope, reason=reason, actor=operator.actor, now=runtime.clock())
            except (NotFound, InvalidInput) as error:
                fault = sentence(str(error))
        if fault:
            return _page(replace(proposal, fault=fault), operator, back=_back(request), status=422)
    log.info("paused on the page", extra={"key": operator.name, "scope": str(scope)})
    return RedirectResponse(_back(request), 303)


@router.get(HOME + "/resume")
def ask_resume(request: Request, scope: ScopeDep, runtime: RuntimeDep, operator: SignedIn) -> HTMLResponse:
    with runtime.database.read() as session:
        return _page(_propose_resume(session, scope), operator, back=_back(request))


@router.post(HOME + "/resume", dependencies=SESSION_FORM)
def resume(request: Request, scope: ScopeDep, runtime: RuntimeDep, operator: SignedIn) -> Response:
    with runtime.database.transaction() as session:
        proposal = _propose_resume(session, scope)
        if not proposal.is_possible:
            return _page(proposal, operator, back=_back(request), status=409)
        controls.resume(session, scope, actor=operator.actor, now=runtime.clock())
    log.info("resumed on the page", extra={"key": operator.name, "scope": str(scope)})
    return RedirectResponse(_back(request), 303)


def _back(request: Request) -> str:
    return safe_next(request.query_params.get("next", ""))


def _page(proposal: Proposal, operator: Operator, *, back: str, status: int = 200) -> HTMLResponse:
    return render("confirm.html", status, caller=operator, proposal=proposal, back=back, max_reason=MAX_REASON)
