"""Column types that mean the same on SQLite and PostgreSQL."""

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, Enum, Integer, String, Table, TypeDecorator, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import SQLModel
from uuid_utils import uuid7


class StoreModel(SQLModel):
    """Of every table. A table's model validates nothing: without `defer_build` each process would make a validator of
    each at its start, a twentieth of the time to the first call.
    """

    model_config = {"defer_build": True}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite has no zones, so it is stored there as naive UTC text.

    Raises ValueError for a naive datetime: guessing its zone is how reminders go out a day late.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: give it a time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


MESSAGE_ID = Uuid(as_uuid=False).with_variant(String(36), "sqlite")
JSON_VALUE = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
ROW_NUMBER = BigInteger().with_variant(Integer(), "sqlite")


def enum_column(enum: type[StrEnum], *, primary_key: bool = False, constraint: str | None = None) -> Column[object]:
    """Stores the member's value, guarded by a CHECK constraint on both databases.

    The second column of an enum in one table needs a name for its constraint.
    """
    kind = Enum(
        enum,
        native_enum=False,
        create_constraint=True,
        validate_strings=True,
        length=32,
        name=constraint or f"{enum.__name__.lower()}_known",
        values_callable=lambda members: [member.value for member in members],
    )
    return Column(kind, nullable=False, primary_key=primary_key)


def json_column(name: str | None = None, *, nullable: bool = False) -> Column[object]:
    return Column(name, JSON_VALUE, nullable=nullable) if name else Column(JSON_VALUE, nullable=nullable)


def table(model: type[SQLModel]) -> Table:
    """The table behind a model, for statements without objects."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def oldest_message_id(moment: datetime) -> str:
    """No id that was made since `moment` sorts before it."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-0000-0000-000000000000"


def new_message_id() -> str:
    """A UUID of version 7 (RFC 9562): its text sorts by the time it was made."""
    return str(uuid7())
