"""Things of a client's that expire, and what the failure-spike monitor remembers of a channel."""

from datetime import date, datetime

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from notifyctl.models.columns import StoreModel, UtcDateTime, enum_column
from notifyctl.models.enums import Channel, SpikeLevel


class ComplianceItem(StoreModel, table=True):
    __tablename__ = "compliance_item"
    __table_args__ = (UniqueConstraint("client_id", "reference"),)

    id: int | None = Field(default=None, primary_key=True)
    client_id: str = Field(foreign_key="client.id")
    name: str
    reference: str
    expires_on: date = Field(index=True)
    """The last day on which it is valid."""
    asked_for: date | None = None
    """The expiry date that the last reminder was about, and its window below: neither is asked for twice."""
    asked_window: int | None = None
    asked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    reminded: bool = False
    """Whether that reminder was accepted. A refused one is asked for again when its client has changed."""
    overdue_for: date | None = None
    """The expiry date that an SLA alert has named."""
    overdue_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class SpikeState(StoreModel, table=True):
    """One row a channel, locked by whoever weighs a measurement. Makes no figure: the messages themselves do."""

    __tablename__ = "spike_state"

    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    level: SpikeLevel = Field(sa_column=enum_column(SpikeLevel))
    """The worst since the spike was raised; OK when there is none."""
    told: SpikeLevel = Field(sa_column=enum_column(SpikeLevel, constraint="told_known"))
    """What those who are alerted were last told."""
    problem: str = ""
    """What was found last while the spike lasted, in words."""
    raised_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    told_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When they were last told that it is raised or has become worse: the cool-down begins here."""
    measured_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
