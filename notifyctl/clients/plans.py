"""The plan registry: which features a plan has, and which plan a Stripe price stands for."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from notifyctl.errors import InvalidInput
from notifyctl.text.choices import meant_among
from notifyctl.text.files import read_text

SMS_REMINDERS = "sms_reminders"


@dataclass(frozen=True, slots=True)
class Plan:
    key: str
    name: str
    features: frozenset[str]
    stripe: frozenset[str] = field(default_factory=frozenset)
    """Stripe price ids, product ids and lookup keys that mean this plan."""


@dataclass(frozen=True, slots=True)
class PlanRegistry:
    plans: dict[str, Plan]
    source: str

    def has_feature(self, plan: str | None, feature: str) -> bool:
        return plan in self.plans and feature in self.plans[plan].features

    def for_stripe(self, *references: str | None) -> Plan | None:
        """The plan that names any of a price's id, its product's id or its lookup key."""
        return next((plan for plan in self.plans.values() if plan.stripe.intersection(references)), None)


SHIPPED = PlanRegistry(
    {
        "SOLO": Plan("SOLO", "Solo", frozenset(), frozenset({"solo", "solo_monthly", "solo_yearly"})),
        "PRO": Plan("PRO", "Pro", frozenset({SMS_REMINDERS}), frozenset({"pro", "pro_monthly", "pro_yearly"})),
    },
    source="shipped",
)


def load_plans(path: Path | None) -> PlanRegistry:
    """The shipped plans, or those of a TOML file. Raises InvalidInput naming the file, the entry and the mend.

    [plans.PRO]
    name = "Pro"
    features = ["sms_reminders"]
    stripe = ["price_1Abc", "prod_9Xyz", "pro_monthly"]
    """
    if path is None:
        return SHIPPED
    try:
        document = tomllib.loads(read_text(path))
    except InvalidInput as error:
        raise InvalidInput(f"NOTIFICATION_PLAN_REGISTRY {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"NOTIFICATION_PLAN_REGISTRY {path} is not TOML: {error}") from error
    entries = document.get("plans")
    if not isinstance(entries, dict) or not entries:
        raise InvalidInput(f"NOTIFICATION_PLAN_REGISTRY {path} has no [plans.NAME] table; add at least one")
    plans = {key: _plan(path, key, entry) for key, entry in entries.items()}
    _refuse_shared_references(path, plans)
    return PlanRegistry(plans, source=str(path))


_ENTRIES = ("name", "features", "stripe")


def _plan(path: Path, key: str, entry: object) -> Plan:
    where = f"NOTIFICATION_PLAN_REGISTRY {path} [plans.{key}]"
    if not isinstance(entry, dict):
        raise InvalidInput(f"{where} must be a table")
    if unknown := sorted(set(entry) - set(_ENTRIES)):
        known = meant_among(unknown[0], _ENTRIES, f"known: {', '.join(_ENTRIES)}")
        raise InvalidInput(f"{where} has unknown entries {', '.join(unknown)}{known}")
    for name in ("features", "stripe"):
        values = entry.get(name, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise InvalidInput(f"{where} {name} must be a list of strings, got {values!r}")
    return Plan(
        key, str(entry.get("name", key)), frozenset(entry.get("features", [])), frozenset(entry.get("stripe", []))
    )


def _refuse_shared_references(path: Path, plans: dict[str, Plan]) -> None:
    owner: dict[str, str] = {}
    for plan in plans.values():
        for reference in sorted(plan.stripe):
            if reference in owner:
                raise InvalidInput(
                    f"NOTIFICATION_PLAN_REGISTRY {path}: {reference} stands for {owner[reference]} and {plan.key};"
                    " keep one"
                )
            owner[reference] = plan.key
