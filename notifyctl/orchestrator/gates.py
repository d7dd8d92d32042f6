"""The gates: pure questions about one message, asked in the order of models.message.BlockReason.

The first refusal decides. All verdicts are kept, so that `explain` can show them. Gates whose answer can change
between acceptance and sending are asked again by the worker (`asked_again`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from notifyctl.models.client import ACTIVE_SUBSCRIPTION, ProvisioningStatus, SubscriptionStatus
from notifyctl.models.message import OTP_TEMPLATE, BlockReason
from notifyctl.models.template import Audience, Channel, Template
from notifyctl.orchestrator import words


@dataclass(frozen=True, slots=True)
class ClientFacts:
    id: str
    email: str | None
    phone_e164: str | None
    plan: str | None
    provisioning_status: ProvisioningStatus
    subscription_status: SubscriptionStatus
    sms_enabled: bool
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the gates may know of one message."""

    template: Template
    client_id: str | None
    client: ClientFacts | None
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


class Outcome(StrEnum):
    PASSED = "passed"
    REFUSED = "refused"
    NOT_ASKED = "not asked"
    """It does not apply to this template, or an earlier gate already refused what it needs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    gate: BlockReason
    outcome: Outcome
    detail: str = ""


_Answer = str | None | Outcome
"""A refusal in words, None for passed, or Outcome.NOT_ASKED."""
_SKIP = Outcome.NOT_ASKED


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
    missing = "email address" if facts.template.channel is Channel.EMAIL else "phone number"
    return f"client {facts.client_id} has no {missing}"


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
        f"{facts.sends_in_window} of at most {template.rate_limit_max_sends} sends"
        f" in the last {words.window(template.rate_limit_window_seconds)}"
    )


GATES: dict[BlockReason, Callable[[Facts], _Answer]] = {
    BlockReason.TEMPLATE_DISABLED: _template_disabled,
    BlockReason.BILLING_ONLY_FROM_STRIPE: _billing_only_from_stripe,
    BlockReason.CLIENT_UNKNOWN: _client_unknown,
    BlockReason.CONTEXT_INVALID: _context_invalid,
    BlockReason.RECIPIENT_MISSING: _recipient_missing,
    BlockReason.RECIPIENT_INVALID: _recipient_invalid,
    BlockReason.COUNTRY_NOT_ALLOWED: _country_not_allowed,
    BlockReason.SMS_DISABLED: _sms_disabled,
    BlockReason.PROVISIONING_INCOMPLETE: _provisioning_incomplete,
    BlockReason.SUBSCRIPTION_INACTIVE: _subscription_inactive,
    BlockReason.PLAN_FEATURE_MISSING: _plan_feature_missing,
    BlockReason.SUPPRESSED: _suppressed,
    BlockReason.RATE_LIMITED: _rate_limited,
}

ASKED_AGAIN = (
    BlockReason.TEMPLATE_DISABLED,
    BlockReason.CLIENT_UNKNOWN,
    BlockReason.SMS_DISABLED,
    BlockReason.PROVISIONING_INCOMPLETE,
    BlockReason.SUBSCRIPTION_INACTIVE,
    BlockReason.PLAN_FEATURE_MISSING,
    BlockReason.SUPPRESSED,
)
"""Their answer can change between acceptance and sending."""

PASSED_WHEN: dict[BlockReason, str] = {
    BlockReason.TEMPLATE_DISABLED: "template enabled",
    BlockReason.BILLING_ONLY_FROM_STRIPE: "billing comes from Stripe",
    BlockReason.CLIENT_UNKNOWN: "client known",
    BlockReason.CONTEXT_INVALID: "context complete",
    BlockReason.RECIPIENT_MISSING: "recipient given",
    BlockReason.RECIPIENT_INVALID: "recipient valid",
    BlockReason.COUNTRY_NOT_ALLOWED: "country allowed",
    BlockReason.SMS_DISABLED: "SMS enabled and consented",
    BlockReason.PROVISIONING_INCOMPLETE: "provisioning completed",
    BlockReason.SUBSCRIPTION_INACTIVE: "subscription active",
    BlockReason.PLAN_FEATURE_MISSING: "plan has the feature",
    BlockReason.SUPPRESSED: "not suppressed",
    BlockReason.RATE_LIMITED: "within the rate",
}
"""A gate is named by its refusal; this is what holds when it lets a message through."""


def ask_all(facts: Facts) -> tuple[Verdict, ...]:
    answers = {gate: question(facts) for gate, question in GATES.items()}
    for gate, objection in facts.objections.items():
        if answers[gate] is None or answers[gate] is _SKIP:
            answers[gate] = objection
    return tuple([_verdict(gate, answer) for gate, answer in answers.items()])


def asked_again(facts: Facts) -> Verdict | None:
    """The first refusal among the gates whose answer can have changed since acceptance."""
    for gate in ASKED_AGAIN:
        answer = GATES[gate](facts)
        if isinstance(answer, str) and answer is not _SKIP:
            return Verdict(gate, Outcome.REFUSED, answer)
    return None


def first_refusal(verdicts: Iterable[Verdict]) -> Verdict | None:
    return next((verdict for verdict in verdicts if verdict.outcome is Outcome.REFUSED), None)


_PASSED = {gate: Verdict(gate, Outcome.PASSED) for gate in GATES}
_NOT_ASKED = {gate: Verdict(gate, Outcome.NOT_ASKED) for gate in GATES}


def _verdict(gate: BlockReason, answer: _Answer) -> Verdict:
    if answer is None:
        return _PASSED[gate]
    if answer is _SKIP:
        return _NOT_ASKED[gate]
    return Verdict(gate, Outcome.REFUSED, answer)


_MARKS = {Outcome.PASSED: "+", Outcome.REFUSED: "x", Outcome.NOT_ASKED: "-"}


def pack(verdicts: Iterable[Verdict]) -> dict[str, object]:
    """For the audit row: a mark a gate in their order (+ passed, x refused, - not asked), and the refusals' words."""
    kept = tuple(verdicts)
    marks = "".join([_MARKS[verdict.outcome] for verdict in kept])
    packed: dict[str, object] = {"gates": marks}
    if _MARKS[Outcome.REFUSED] in marks:
        packed["refusals"] = {found.gate.value: found.detail for found in kept if found.outcome is Outcome.REFUSED}
    return packed


def unpack(packed: dict[str, object]) -> tuple[Verdict, ...]:
    marks, outcomes = str(packed.get("gates", "")), {mark: outcome for outcome, mark in _MARKS.items()}
    refusals = packed.get("refusals")
    details = refusals if isinstance(refusals, dict) else {}
    return tuple(
        Verdict(gate, outcomes[mark], str(details.get(gate.value, "")))
        for gate, mark in zip(BlockReason, marks, strict=False)
    )
