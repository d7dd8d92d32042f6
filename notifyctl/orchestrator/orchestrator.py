"""The single pipe. Every email and SMS of the company starts here."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.clients.plans import PlanRegistry
from notifyctl.clock import Clock
from notifyctl.db import wakeup
from notifyctl.errors import IdempotencyConflict, InvalidInput
from notifyctl.keyring import KeyRing
from notifyctl.models.client import AddressedClient
from notifyctl.models.columns import new_message_id
from notifyctl.models.enums import Channel, Lane, MessageStatus
from notifyctl.models.message import OTP_TEMPLATE, TEST_TEMPLATES
from notifyctl.models.template import Template
from notifyctl.orchestrator import gate_facts, gates, message_store, single_store
from notifyctl.orchestrator.drafts import (
    STRIPE,
    Draft,
    Window,
    address_of,
    audit_row,
    duplicate,
    is_client_rated,
    message_row,
    payload_row,
    rated_recipients,
    recognise,
    stripe_references,
    texts,
    windows_of,
)
from notifyctl.orchestrator.gate_facts import NOTHING_KNOWN, Known
from notifyctl.orchestrator.gates import Facts
from notifyctl.orchestrator.holds import QuietHours
from notifyctl.orchestrator.requests import Blocked, Decision, Queued, SendRequest
from notifyctl.settings import Settings
from notifyctl.templates import store as template_store
from notifyctl.templates.context import canonical_json, context_faults, rate_subject
from notifyctl.text.addresses import AddressError, normal_address, region_of
from notifyctl.text.choices import no_template

CHUNK = 1_000
MAX_WRITTEN = 254
CODES_HAVE_THEIR_OWN_WAY = (
    f"{OTP_TEMPLATE} is sent for POST /api/otp/send and `runtime.otp.send` alone, which make the code, limit how many"
    " a phone gets and count wrong guesses; use one of them"
)
TESTS_HAVE_THEIR_OWN_WAY = "{} says whatever it is told: only `notifyctl templates send` sends it"


_Clients: TypeAlias = Mapping[str, AddressedClient]
_Found: TypeAlias = tuple[Mapping[str, Template], _Clients]
"""Templates and clients, by their keys and ids."""


class NotificationOrchestrator:
    """Decides whether a message may go, writes message and audit rows, and answers with a Decision. No network.

    Everything happens in the caller's transaction: a caller that rolls back has sent nothing.
    One-time codes go another way, `OneTimeCodes`, which knows their limits: here OTP_CODE_SMS is InvalidInput.
    """

    def __init__(self, *, settings: Settings, keys: KeyRing, plans: PlanRegistry, clock: Clock) -> None:
        self._settings = settings
        self._keys = keys
        self._plans = plans
        self._clock = clock
        self._client_rated: set[str] = set()
        """Templates that were seen to have a rate for each client: which one has is read anew each time."""
        self._quiet = QuietHours(*settings.quiet_span)

    def send(self, session: Session, request: SendRequest) -> Decision:
        """Raises NotFound for an unknown template, IdempotencyConflict for a key that belongs to another message, and
        InvalidInput for OTP_CODE_SMS.
        """
        return self.send_many(session, [request])[0]

    def send_many(self, session: Session, requests: Sequence[SendRequest]) -> list[Decision]:
        """The same as `send` for each in turn, in a fixed number of statements a thousand.

        If one raises, the caller must roll back: what stood before it is written.
        """
        decisions: list[Decision] = []
        for start in range(0, len(requests), CHUNK):
            decisions += self._send_chunk(session, requests[start : start + CHUNK])
        return decisions

    def rewrite(self, session: Session, message_id: str, fingerprint: str, request: SendRequest) -> bool:
        """Other words for a message that waits for its first attempt; `fingerprint` is its own so far.

        False where nothing was changed: it says so already, somebody has begun to send it, or the template does not
        take the words.
        """
        request_key = (request.template_key, request.client_id or "", request.recipient or "")
        if fingerprint in self._keys.fingerprints(*request_key, canonical_json(request.context)):
            return False
        self._admit(request.template_key)
        templates, clients = single_store.template_and_client(session, request, lock=False)
        (draft,) = self._draft(session, [request], templates)
        if context_faults(draft.template.variables, request.context):
            return False
        draft.message_id = message_id
        client = clients.get(request.client_id or "")
        draft.client_locale = client.locale if client else None
        return message_store.rewrite(session, message_id, draft.fingerprints[0], payload_row(draft, self._keys))

    def preview(self, session: Session, request: SendRequest) -> Decision:
        """What `send` would decide now, with every verdict. Writes and locks nothing. Raises the same."""
        self._admit(request.template_key)
        found = single_store.template_and_client(session, request, lock=False)
        drafts = self._addressed(session, [request], found)
        self._decide(session, drafts, found[1], self._clock())
        assert drafts[0].decision is not None
        return drafts[0].decision

    def _send_chunk(self, session: Session, requests: Sequence[SendRequest]) -> list[Decision]:
        now = self._clock()
        found = self._templates_and_clients(session, requests)
        drafts = self._addressed(session, requests, found)
        if not self._write_at_once(session, drafts, found[1], now):
            self._decide(session, drafts, found[1], now)
            self._write(session, drafts, now)
        return [draft.decision for draft in drafts if draft.decision is not None]

    def _addressed(self, session: Session, requests: Sequence[SendRequest], found: _Found) -> list[Draft]:
        drafts = self._draft(session, requests, found[0])
        self._address(drafts, found[1])
        return drafts

    def _write_at_once(self, session: Session, drafts: Sequence[Draft], clients: _Clients, now: datetime) -> bool:
        """A single message that only its key or a suppression can stop: both are asked in writing it. False if not."""
        draft = drafts[0]
        if len(drafts) > 1 or draft.is_rate_limited or draft.template.billing or len(draft.hashes) != 1:
            return False
        self._ask_gates(draft, clients, NOTHING_KNOWN, {})
        self._put_off(drafts, clients, now)
        if isinstance(draft.decision, Queued) and self._write_one(session, draft, now, unless_suppressed=True):
            return True
        draft.decision = None
        return False

    def _admit(self, template_key: str) -> None:
        """Asks whether this way is open to a template. Raises InvalidInput."""
        if template_key == OTP_TEMPLATE:
            raise InvalidInput(CODES_HAVE_THEIR_OWN_WAY)
        if template_key in TEST_TEMPLATES.values():
            raise InvalidInput(TESTS_HAVE_THEIR_OWN_WAY.format(template_key))

    def _templates_and_clients(self, session: Session, requests: Sequence[SendRequest]) -> _Found:
        """Locks the clients that have a rate."""
        for request in requests:
            self._admit(request.template_key)
        if len(requests) == 1:
            return self._template_and_client(session, requests[0])
        templates = template_store.by_key(session, {request.template_key for request in requests})
        rated = {request.client_id for request in requests if is_client_rated(templates.get(request.template_key))}
        others = {request.client_id for request in requests} - rated
        clients = gate_facts.clients(session, texts(rated), lock=True)
        return templates, clients | gate_facts.clients(session, texts(others), lock=False)

    def _template_and_client(self, session: Session, request: SendRequest) -> _Found:
        key = request.template_key
        lock = key in self._client_rated
        found = single_store.template_and_client(session, request, lock=lock)
        if lock or not is_client_rated(found[0].get(key)):
            return found
        self._client_rated.add(key)
        return single_store.template_and_client(session, request, lock=True)

    def _draft(
        self, session: Session, requests: Sequence[SendRequest], templates: Mapping[str, Template]
    ) -> list[Draft]:
        for request in requests:
            if request.template_key not in templates:
                raise no_template(
                    request.template_key, [one.template_key for one in template_store.everything(session)]
                )
        drafts = [Draft(request, templates[request.template_key]) for request in requests]
        for draft in drafts:
            request = draft.request
            draft.rate_subject = rate_subject(draft.template, request.context)
            if request.idempotency_key is not None:
                draft.context = canonical_json(request.context)
                request_key = (request.template_key, request.client_id or "", request.recipient or "")
                draft.fingerprints = self._keys.fingerprints(*request_key, draft.context)
        return drafts

    def _address(self, drafts: Sequence[Draft], clients: _Clients) -> None:
        hashes: dict[tuple[Channel, str], list[str]] = {}
        for draft in drafts:
            raw, channel = draft.request.recipient, draft.template.channel
            if draft.request.client_id is not None:
                client = clients.get(draft.request.client_id)
                draft.client_locale = client.locale if client else None
                raw = address_of(client, channel) if client else None
            if not raw:
                continue
            draft.written = raw[:MAX_WRITTEN]
            try:
                recipient = draft.recipient = normal_address(channel, draft.written, self._settings.otp_default_region)
            except AddressError as error:
                draft.recipient_fault, draft.stored_fault = str(error), error.fault
                continue
            if (channel, recipient) not in hashes:
                hashes[channel, recipient] = self._keys.recipient_hashes(channel.value, recipient)
            draft.hashes = hashes[channel, recipient]

    def _decide(self, session: Session, drafts: Sequence[Draft], clients: _Clients, now: datetime) -> None:
        gate_facts.lock_recipients(session, rated_recipients(drafts))
        known, windows = self._look(session, drafts, now)
        sends: dict[tuple[str, str, str], int] = {}
        for (owner, _), count in zip(windows, known.sends, strict=True):
            sends[owner] = sends.get(owner, 0) + count
        first_of_key: dict[str, Draft] = {}
        for draft in [draft for draft in drafts if draft.decision is None]:
            key = draft.request.idempotency_key
            if key is not None and (first := first_of_key.get(key)) is not None:
                draft.decision = duplicate(draft, first.message_id, MessageStatus.QUEUED, first.fingerprints[0])
                continue
            self._ask_gates(draft, clients, known, sends)
            if isinstance(draft.decision, Queued):
                sends[draft.rate_owner] = sends.get(draft.rate_owner, 0) + 1
                if key is not None:
                    first_of_key[key] = draft
        self._put_off(drafts, clients, now)

    def _look(self, session: Session, drafts: Sequence[Draft], now: datetime) -> tuple[Known, list[Window]]:
        """What is on record about them, and which windows were counted. Recognises those whose keys are known."""
        if len(drafts) == 1 and len(drafts[0].hashes) <= 1:
            return self._look_once(session, drafts[0], now)
        keys = texts(draft.request.idempotency_key for draft in drafts)
        earlier = message_store.by_idempotency_keys(session, keys)
        recognise(drafts, earlier)
        left = [draft for draft in drafts if draft.decision is None]
        windows = windows_of(left, now)
        known = Known(
            earlier=earlier,
            suppressed=gate_facts.suppressed(session, {hashed for draft in left for hashed in draft.hashes}),
            verified=gate_facts.verified_stripe_events(session, stripe_references(left)),
            sends=gate_facts.sends_in_windows(session, [window for _, window in windows]),
        )
        return known, windows

    def _look_once(self, session: Session, draft: Draft, now: datetime) -> tuple[Known, list[Window]]:
        windows = windows_of([draft], now)
        known = single_store.known(
            session,
            draft.template.channel,
            next(iter(draft.hashes), None),
            idempotency_key=draft.request.idempotency_key,
            stripe_event=next(iter(stripe_references([draft])), None),
            window=next((window for _, window in windows), None),
        )
        recognise([draft], known.earlier)
        return known, windows

    def _ask_gates(
        self,
        draft: Draft,
        clients: _Clients,
        known: Known,
        sends: Mapping[tuple[str, str, str], int],
    ) -> None:
        request, template = draft.request, draft.template
        client = clients.get(request.client_id or "")
        channel = template.channel.value
        facts = Facts(
            template=template,
            client_id=request.client_id,
            client=client,
            sms_enabled=self._settings.sms_enabled,
            plan_has_feature=plan_has_feature(self._plans, client, template),
            suppressed=next(filter(None, (known.suppressed.get((channel, key)) for key in draft.hashes)), None),
            recipient=draft.recipient,
            recipient_fault=draft.recipient_fault,
            context_faults=tuple(context_faults(template.variables, request.context)),
            from_stripe=request.source == STRIPE and request.source_ref in known.verified,
            country=self._country(draft),
            allowed_countries=self._settings.otp_allowed_countries,
            sends_in_window=sends.get(draft.rate_owner, 0),
            objections=request.objections,
        )
        draft.message_id = new_message_id()
        draft.verdicts = gates.ask_all(facts)
        refusal = gates.first_refusal(draft.verdicts)
        if refusal is None:
            draft.decision = Queued(draft.message_id, draft.verdicts)
        else:
            draft.decision = Blocked(draft.message_id, refusal.gate, refusal.detail, draft.verdicts)

    def _country(self, draft: Draft) -> str | None:
        """Asked for only where it matters: phone numbers are taken apart slowly."""
        if draft.recipient is None or not gates.needs_country(draft.template, self._settings.otp_allowed_countries):
            return None
        return region_of(draft.recipient)

    def _put_off(self, drafts: Sequence[Draft], clients: _Clients, now: datetime) -> None:
        """Nothing of lane BULK is due in its client's quiet hours."""
        zones = {
            draft.message_id: client.timezone
            for draft in drafts
            if draft.template.lane is Lane.BULK and (client := clients.get(draft.request.client_id or ""))
        }
        ends = self._quiet.ends(now, zones.values())
        for draft in drafts:
            draft.not_before = ends.get(zones.get(draft.message_id, ""))

    def _write(self, session: Session, drafts: Sequence[Draft], now: datetime) -> None:
        new = [draft for draft in drafts if isinstance(draft.decision, (Queued, Blocked))]
        if len(drafts) == len(new) == 1:
            if self._write_one(session, drafts[0], now):
                return
            self._give_way(session, drafts, new)
        elif new:
            inserted = message_store.insert(session, [message_row(draft, now) for draft in new])
            self._give_way(session, drafts, [draft for draft in new if draft.message_id not in inserted])
            queued = [draft for draft in new if isinstance(draft.decision, Queued)]
            message_store.insert_payloads(session, [payload_row(draft, self._keys) for draft in queued])
            due = {draft.template.channel for draft in queued if draft.not_before is None}
            if due:
                wakeup.wake_after_commit(session, due)
        audit_log.write_many(session, [audit_row(draft, now) for draft in drafts])

    def _write_one(self, session: Session, draft: Draft, now: datetime, *, unless_suppressed: bool = False) -> bool:
        is_queued = isinstance(draft.decision, Queued)
        payload = payload_row(draft, self._keys) if is_queued else None
        rows = message_row(draft, now), payload, audit_row(draft, now)
        if not single_store.write(session, *rows, unless_suppressed=unless_suppressed):
            return False
        if is_queued and draft.not_before is None:
            wakeup.wake_after_commit(session, [draft.template.channel])
        return True

    def _give_way(self, session: Session, drafts: Sequence[Draft], losers: Sequence[Draft]) -> None:
        """Someone else committed their keys between our look and our insert: theirs are the first messages."""
        keys = texts(draft.request.idempotency_key for draft in losers)
        winners = message_store.by_idempotency_keys(session, keys)
        for draft in drafts:
            if (key := draft.request.idempotency_key) in keys:
                if key not in winners:
                    raise IdempotencyConflict(f"idempotency key {key!r} was given back just now; send it again")
                row = winners[key]
                draft.decision = duplicate(draft, row.id, row.status, row.fingerprint)


def plan_has_feature(plans: PlanRegistry, client: AddressedClient | None, template: Template) -> bool:
    feature = template.plan_required_feature_key
    return feature is not None and client is not None and plans.has_feature(client.plan, feature)


class CodePipe(NotificationOrchestrator):
    """Raises InvalidInput for any other template."""

    def _admit(self, template_key: str) -> None:
        if template_key != OTP_TEMPLATE:
            raise InvalidInput(f"{template_key} is no one-time code; send it through the orchestrator")


class ExamplePipe(NotificationOrchestrator):
    """For what a template says with its example, sent to whoever works on it. Raises InvalidInput for any other."""

    def _admit(self, template_key: str) -> None:
        if template_key not in TEST_TEMPLATES.values():
            raise InvalidInput(f"{template_key} is no test of a template; send it through the orchestrator")
