"""How the failure-spike monitor last found each channel, and what it has told."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from notifyctl.models.columns import UtcDateTime, enum_column
from notifyctl.models.enums import Channel, SpikeLevel


class SpikeState(SQLModel, table=True):
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
