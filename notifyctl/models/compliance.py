"""Things of a client's that expire: licences, certificates, filings."""

from datetime import date, datetime

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from notifyctl.models.columns import UtcDateTime


class ComplianceItem(SQLModel, table=True):
    __tablename__ = "compliance_item"
    __table_args__ = (UniqueConstraint("client_id", "reference"),)

    id: int | None = Field(default=None, primary_key=True)
    client_id: str = Field(foreign_key="client.id")
    name: str
    reference: str
    expires_on: date = Field(index=True)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
