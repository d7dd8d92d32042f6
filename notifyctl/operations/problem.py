"""A problem as every face tells it: the terminal, HTTP, the page, Prometheus, the monitor and doctor."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from shlex import quote
from typing import Annotated

from pydantic import Field

from notifyctl.models.enums import Channel


class Gravity(StrEnum):
    """The order of the members is that in which an operator wants to hear of them."""

    CRITICAL = "CRITICAL"
    WARNING = "WARNING"
    NOTE = "NOTE"


class Code(StrEnum):
    """What kind of problem it is, for programs. docs/health.md explains each."""

    NOT_WRITABLE = "NOT_WRITABLE"
    RECOVERY_NEEDED = "RECOVERY_NEEDED"
    PROVIDER_DOWN = "PROVIDER_DOWN"
    FAILING = "FAILING"
    RECOVERING = "RECOVERING"
    STANDSTILL = "STANDSTILL"
    NO_WORKER = "NO_WORKER"
    JOB_OVERDUE = "JOB_OVERDUE"
    JOB_FAILED = "JOB_FAILED"
    JOB_STUCK = "JOB_STUCK"
    TEMPLATES_NOT_SEEDED = "TEMPLATES_NOT_SEEDED"
    SUPPRESSIONS_LOST = "SUPPRESSIONS_LOST"
    ALERT_ADDRESS_SUPPRESSED = "ALERT_ADDRESS_SUPPRESSED"
    ALERT_NOT_DELIVERED = "ALERT_NOT_DELIVERED"
    STRIPE_UNMATCHED = "STRIPE_UNMATCHED"
    STRIPE_FAILED = "STRIPE_FAILED"
    STRIPE_WAITING = "STRIPE_WAITING"
    SCHEMA_DIFFERS = "SCHEMA_DIFFERS"
    CLEANING_HELD_BACK = "CLEANING_HELD_BACK"
    BACKLOG_SLOW = "BACKLOG_SLOW"
    SANDBOX = "SANDBOX"
    IN_DOUBT = "IN_DOUBT"
    PAUSED = "PAUSED"
    NO_RECEIPTS = "NO_RECEIPTS"
    NO_FIGURES = "NO_FIGURES"
    """Only where figures are kept up to date, and the database is away."""


@dataclass(frozen=True, slots=True)
class ProblemView:
    level: Gravity
    code: Code
    channel: Channel | None
    since: datetime | None
    text: str
    remedy: Annotated[str | None, Field(description="What to do; null where there is nothing to do but wait.")]


@dataclass(frozen=True, slots=True)
class Problem:
    gravity: Gravity
    text: str
    """What is wrong now, in one sentence without an end. One a cause: what follows from it stands in the same."""
    code: Code
    remedy: str = ""
    """What to do, or where to look; empty where there is nothing to do but wait."""
    channel: Channel | None = None
    since: datetime | None = None

    @property
    def sentence(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text

    @property
    def view(self) -> ProblemView:
        """What programs are told."""
        return ProblemView(self.gravity, self.code, self.channel, self.since, self.text, self.remedy or None)


def ordered(problems: list[Problem]) -> list[Problem]:
    """The gravest first."""
    return sorted(problems, key=lambda problem: list(Gravity).index(problem.gravity))


def how_to_match(customer_id: str | None, named_client: str | None, event_id: str) -> str:
    """For an event that is about nobody we know."""
    if customer_id is None and named_client is not None:
        link = f"{quote(named_client)} --name NAME"
    else:
        link = f"ID --stripe-customer {quote(customer_id or 'CUS')}"
    return f"notifyctl clients set {link}, then notifyctl stripe replay {quote(event_id)}"
