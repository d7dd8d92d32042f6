"""What operators set and workers report: limits, pauses, keys, job runs, heartbeats."""

from datetime import datetime

from sqlalchemy import Boolean, Column, Index, Integer, false, text
from sqlmodel import Field

from notifyctl.models.columns import StoreModel, UtcDateTime, enum_column, json_column
from notifyctl.models.enums import BreakerState, Channel, JobOutcome


class OutboundLimit(StoreModel, table=True):
    __tablename__ = "notification_outbound_limits"

    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    per_minute_limit: int
    updated_at: datetime = Field(sa_type=UtcDateTime)
    updated_by: str


class OutboundBudget(StoreModel, table=True):
    """What of a channel's minute is used, shared by all workers. Only delivery.pace.throttle reads `state`."""

    __tablename__ = "notification_outbound_budget"

    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    state: dict[str, object] = Field(sa_column=json_column())


class Pause(StoreModel, table=True):
    """Holds every message that fits all of channel, template and client; None fits any."""

    __tablename__ = "pause"

    id: int | None = Field(default=None, primary_key=True)
    channel: str | None = None
    template_key: str | None = None
    client_id: str | None = None
    reason: str
    actor: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class ProviderBreaker(StoreModel, table=True):
    __tablename__ = "provider_breaker"

    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    state: BreakerState = Field(sa_column=enum_column(BreakerState))
    reason: str | None = None
    opened_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    probe_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    failed_probes: int = 0


IS_RUNNING = text("outcome = 'RUNNING'")


class JobRun(StoreModel, table=True):
    """A run, or one more attempt at it where an earlier one FAILED. No two of a job are RUNNING at the same time."""

    __tablename__ = "job_run"
    __table_args__ = (
        Index("ux_job_run_slot", "name", "due_at", "attempt", unique=True),
        Index("ux_job_run_running", "name", unique=True, sqlite_where=IS_RUNNING, postgresql_where=IS_RUNNING),
    )

    id: int | None = Field(default=None, primary_key=True)
    name: str
    due_at: datetime = Field(sa_type=UtcDateTime)
    """When it should have begun: the same moment for every worker."""
    attempt: int = 1
    worker: str
    outcome: JobOutcome = Field(sa_column=enum_column(JobOutcome))
    summary: str | None = None
    started_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Renewed while it is RUNNING; once past, whoever ran it is gone."""


class WorkerHeartbeat(StoreModel, table=True):
    __tablename__ = "worker_heartbeat"

    worker: str = Field(primary_key=True)
    host: str
    pid: int
    version: str
    started_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    stopping: bool = False
    once: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))
    """It was to send what was due and to end: cron starts such."""
    left_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it ended in good order. Such rows are kept for a while, to say when somebody was last at work."""
    revision: str | None = None
    """The newest of the schema that its code knows; None of one from before revision 0014."""
    store_generation: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default=text("0")))
    """Up to which generation of the store it has written again what it knows."""


class StoreState(StoreModel, table=True):
    """The store about itself. There is one row at most."""

    __tablename__ = "store_state"

    id: int = Field(default=1, primary_key=True)
    store_id: str
    generation: int = 0
    """How often it was found to have gone back in time."""
    system_identifier: str | None = None
    timeline: str | None = None
    """Of PostgreSQL's server when the store was last known to be whole."""
    recovery_needed_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """What happened after this moment may be forgotten. None when nothing is to be recovered."""
    found_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    cause: str | None = None
    is_proven: bool = False
    recovered_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """From when on the last recovery has asked the providers."""
    recovered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    held_by: str | None = None
    """Who recovers it, and up to when it is left to him."""
    held_until: datetime | None = Field(default=None, sa_type=UtcDateTime)


class PageSession(StoreModel, table=True):
    """Somebody who has signed in on the page, and not out again. The cookie names it, and is worth nothing without."""

    __tablename__ = "page_session"

    id: str = Field(primary_key=True)
    key_id: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)


class ApiKey(StoreModel, table=True):
    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    name: str
    key_hash: str = Field(unique=True)
    scopes: list[str] = Field(sa_column=json_column())
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
