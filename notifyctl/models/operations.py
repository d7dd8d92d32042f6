"""What operators set and workers report: limits, job runs, heartbeats."""

from datetime import datetime
from enum import StrEnum

from sqlmodel import Field, SQLModel

from notifyctl.models.columns import UtcDateTime, enum_column
from notifyctl.models.template import Channel


class OutboundLimit(SQLModel, table=True):
    __tablename__ = "notification_outbound_limits"

    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    per_minute_limit: int
    updated_at: datetime = Field(sa_type=UtcDateTime)
    updated_by: str


class JobOutcome(StrEnum):
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class JobRun(SQLModel, table=True):
    __tablename__ = "job_run"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True)
    worker: str
    outcome: JobOutcome = Field(sa_column=enum_column(JobOutcome))
    summary: str | None = None
    started_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class WorkerHeartbeat(SQLModel, table=True):
    __tablename__ = "worker_heartbeat"

    worker: str = Field(primary_key=True)
    host: str
    pid: int
    version: str
    started_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    stopping: bool = False
