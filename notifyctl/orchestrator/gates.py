"""The gates: pure questions about one message, asked in the order of the table GATES.

The first refusal decides. All verdicts are kept, so that `explain` can show them. Gates whose answer can change
between acceptance and sending are asked again by the worker (`asked_again`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from notifyctl.models.client import ACTIVE_SUBSCRIPTION, AddressedClient
from notifyctl.models.enums import CHANNELS, Audience, BlockReason, Channel, ProvisioningStatus
from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.models.template import Template
from notifyctl.text import durations


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the gates may know of one message."""

    template: Template
    client_id: str | None
    client: AddressedClient | None
    sms_enabled: bool
    """SMS_ENABLED, for the whole installation."""
    plan_has_feature: bool
    suppressed: str | None
    """Why the recipient is suppressed, if it is."""
    recipient: str | None = None
    recipient_fault: str | None = None
    context_faults: tuple[str, ...] = ()
    from_stripe: bool = False
    """Its source is a verified Stripe event."""
    country: str | None = None
    allowed_countries: tuple[str, ...] = ()
    sends_in_window: int = 0
    objections: Mapping[BlockReason, str] = field(default_factory=dict)


class GateOutcome(StrEnum):
    PASSED = "passed"
    REFUSED = "refused"
    NOT_ASKED = "not asked"
    """It does not apply to this template, or an earlier gate already refused what it needs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    gate: BlockReason
    outcome: GateOutcome
    detail: str = ""


_Answer = str | None | GateOutcome
"""A refusal in words, None for passed, or GateOutcome.NOT_ASKED."""
_SKIP = GateOutcome.NOT_ASKED


def _template_disabled(facts: Facts) -> _Answer:
    return None if facts.template.enabled else f"template {facts.template.template_key} is disabled"


def _billing_only_from_stripe(facts: Facts) -> _Answer:
    if not facts.template.billing:
        return _SKIP
    return None if facts.from_stripe else "a billing message needs a verified Stripe event as its source"


def needs_client(template: Template) -> bool:
    """Whether a gate of this template can only be answered for a known client."""
    return template.audience is Audience.CLIENT and bool(
        template.billing
        or template.requires_provisioned
        or template.requires_active_subscription
        or template.plan_required_feature_key
    )


def _client_unknown(facts: Facts) -> _Answer:
    if facts.client_id is None:
        return "this template needs a client, not an address" if needs_client(facts.template) else _SKIP
    return None if facts.client else f"there is no client {facts.client_id}"


def _context_invalid(facts: Facts) -> _Answer:
    return "; ".join(facts.context_faults) or None


def _recipient_missing(facts: Facts) -> _Answer:
    if facts.client_id is not None and facts.template.audience is Audience.ADMIN:
        return "an admin template goes to an address, never to a client"
    if facts.client_id is not None and facts.client is None:
        return _SKIP
    if facts.recipient or facts.recipient_fault:
        return None
    return f"client {facts.client_id} has no {CHANNELS[facts.template.channel].address}"


def _recipient_invalid(facts: Facts) -> _Answer:
    if not facts.recipient and not facts.recipient_fault:
        return _SKIP
    return facts.recipient_fault


def needs_country(template: Template, allowed_countries: Sequence[str]) -> bool:
    return template.template_key == OTP_TEMPLATE and bool(allowed_countries)


def _country_not_allowed(facts: Facts) -> _Answer:
    if not needs_country(facts.template, facts.allowed_countries):
        return _SKIP
    if facts.country in facts.allowed_countries:
        return None
    return f"numbers of {facts.country or 'an unknown country'} are not in OTP_ALLOWED_COUNTRIES"


def _sms_disabled(facts: Facts) -> _Answer:
    if facts.template.channel is not Channel.SMS:
        return _SKIP
    if not facts.sms_enabled:
        return "SMS_ENABLED is false"
    if facts.client and not facts.client.sms_enabled:
        return f"client {facts.client.id} has not consented to SMS"
    return None


def _provisioning_incomplete(facts: Facts) -> _Answer:
    if not facts.template.requires_provisioned or facts.client is None:
        return _SKIP
    status = facts.client.provisioning_status
    return None if status is ProvisioningStatus.COMPLETED else f"provisioning is {status}, not COMPLETED"


def _subscription_inactive(facts: Facts) -> _Answer:
    if not facts.template.requires_active_subscription or facts.client is None:
        return _SKIP
    status = facts.client.subscription_status
    return None if status in ACTIVE_SUBSCRIPTION else f"subscription is {status}, not active"


def _plan_feature_missing(facts: Facts) -> _Answer:
    feature = facts.template.plan_required_feature_key
    if feature is None or facts.client is None:
        return _SKIP
    return None if facts.plan_has_feature else f"plan {facts.client.plan or 'none'} has no feature {feature}"


def _suppressed(facts: Facts) -> _Answer:
    return f"the recipient is suppressed ({facts.suppressed})" if facts.suppressed else None


def _rate_limited(facts: Facts) -> _Answer:
    template = facts.template
    if template.rate_limit_window_seconds is None:
        return _SKIP
    if facts.sends_in_window < template.rate_limit_max_sends:
        return None
    return (
        f"{facts.sends_in_window} of at most {durations.plural(template.rate_limit_max_sends, 'send')}"
        f" in the last {durations.exact_duration(template.rate_limit_window_seconds)}"
    )


@dataclass(frozen=True, slots=True)
class Gate:
    reason: BlockReason
    """What a refusal is called; the gate has the same name."""
    question: Callable[[Facts], _Answer]
    passed_when: str
    """What holds when it lets a message through."""
    asked_again: bool = False
    """Its answer can change between acceptance and sending."""
    passed: Verdict = field(init=False, repr=False)
    not_asked: Verdict = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "passed", Verdict(self.reason, GateOutcome.PASSED))
        object.__setattr__(self, "not_asked", Verdict(self.reason, GateOutcome.NOT_ASKED))

    def verdict(self, facts: Facts) -> Verdict:
        answer = self.question(facts)
        if facts.objections and (answer is None or answer is _SKIP):
            answer = facts.objections.get(self.reason, answer)
        if answer is None:
            return self.passed
        return self.not_asked if answer is _SKIP else Verdict(self.reason, GateOutcome.REFUSED, answer)


GATES = (
    Gate(BlockReason.TEMPLATE_DISABLED, _template_disabled, "template enabled", asked_again=True),
    Gate(BlockReason.BILLING_ONLY_FROM_STRIPE, _billing_only_from_stripe, "billing comes from Stripe"),
    Gate(BlockReason.CLIENT_UNKNOWN, _client_unknown, "client known", asked_again=True),
    Gate(BlockReason.CONTEXT_INVALID, _context_invalid, "context complete"),
    Gate(BlockReason.RECIPIENT_MISSING, _recipient_missing, "recipient given"),
    Gate(BlockReason.RECIPIENT_INVALID, _recipient_invalid, "recipient valid"),
    Gate(BlockReason.COUNTRY_NOT_ALLOWED, _country_not_allowed, "country allowed"),
    Gate(BlockReason.SMS_DISABLED, _sms_disabled, "SMS enabled and consented", asked_again=True),
    Gate(BlockReason.PROVISIONING_INCOMPLETE, _provisioning_incomplete, "provisioning completed", asked_again=True),
    Gate(BlockReason.SUBSCRIPTION_INACTIVE, _subscription_inactive, "subscription active", asked_again=True),
    Gate(BlockReason.PLAN_FEATURE_MISSING, _plan_feature_missing, "plan has the feature", asked_again=True),
    Gate(BlockReason.SUPPRESSED, _suppressed, "not suppressed", asked_again=True),
    Gate(BlockReason.RATE_LIMITED, _rate_limited, "within the rate"),
)
"""In the order in which they are asked. To add a gate: its name in BlockReason, its question above, its row here."""

PASSED_WHEN = {gate.reason: gate.passed_when for gate in GATES}
ASKED_AGAIN = tuple(gate.reason for gate in GATES if gate.asked_again)


def ask_all(facts: Facts) -> tuple[Verdict, ...]:
    return tuple([gate.verdict(facts) for gate in GATES])


def asked_again(facts: Facts) -> Verdict | None:
    """The first refusal among the gates whose answer can have changed since acceptance."""
    return first_refusal(gate.verdict(facts) for gate in GATES if gate.asked_again)


def first_refusal(verdicts: Iterable[Verdict]) -> Verdict | None:
    return next((verdict for verdict in verdicts if verdict.outcome is GateOutcome.REFUSED), None)


def pack(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """For the audit row: which gates passed, and what the others said that refused. The rest were not asked."""
    passed = [verdict.gate for verdict in verdicts if verdict.outcome is GateOutcome.PASSED]
    refusals = {verdict.gate: verdict.detail for verdict in verdicts if verdict.outcome is GateOutcome.REFUSED}
    return {"passed": passed, "refusals": refusals} if refusals else {"passed": passed}


def unpack(details: Mapping[str, object]) -> tuple[Verdict, ...]:
    """Of an audit row: a verdict for each gate there is, in their order; none where the row is not of an acceptance.

    A gate that the row does not name, because it is younger than the row, was not asked.
    """
    match details:
        case {"passed": list(passed)}:
            pass
        case {"gates": str(marks)}:
            passed = [gate for gate, mark in zip(_MARKED, marks, strict=False) if mark == "+"]
        case _:
            return ()
    refusals = details.get("refusals")
    words = refusals if isinstance(refusals, dict) else {}
    return tuple([_stored_verdict(gate, passed, words) for gate in GATES])


def _stored_verdict(gate: Gate, passed: Sequence[str], refusals: Mapping[str, object]) -> Verdict:
    if gate.reason in refusals:
        return Verdict(gate.reason, GateOutcome.REFUSED, str(refusals[gate.reason]))
    return gate.passed if gate.reason in passed else gate.not_asked


_MARKED = (
    "TEMPLATE_DISABLED", "BILLING_ONLY_FROM_STRIPE", "CLIENT_UNKNOWN", "CONTEXT_INVALID", "RECIPIENT_MISSING",
    "RECIPIENT_INVALID", "COUNTRY_NOT_ALLOWED", "SMS_DISABLED", "PROVISIONING_INCOMPLETE", "SUBSCRIPTION_INACTIVE",
    "PLAN_FEATURE_MISSING", "SUPPRESSED", "RATE_LIMITED",
)  # fmt: skip
"""The gates of rows that have a mark for each (+ passed, x refused, - not asked). It stays as it is: those rows do."""
