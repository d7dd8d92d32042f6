"""API keys: only their hashes are kept."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from notifyctl.models.columns import UtcDateTime, json_column


class PageSession(SQLModel, table=True):
    """Somebody who has signed in on the page, and not out again. The cookie names it, and is worth nothing without."""

    __tablename__ = "page_session"

    id: str = Field(primary_key=True)
    key_id: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)


class ApiKey(SQLModel, table=True):
    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    name: str
    key_hash: str = Field(unique=True)
    scopes: list[str] = Field(sa_column=json_column())
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
