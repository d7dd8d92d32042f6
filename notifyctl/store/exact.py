"""Columns as they are stored, to the byte: whoever looks for tampering must not stumble over what he finds.

SQLite keeps anything in any column: numbers in texts, no time in a time, bytes at which its driver gives up. Values are
read as UTF-8; one that is of another kind begins with ODD instead, which no text does.
"""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, LargeBinary, Text, case, cast, func, literal_column

ODD = b"\xff"


def text_of(column: ColumnElement[object], dialect: str) -> ColumnElement[object]:
    """For `as_bytes`."""
    if dialect != "sqlite":
        return cast(column, Text)
    kind = func.typeof(column)
    odd = literal_column("x'ff'").op("||")(kind).op("||")(func.hex(column))
    return case((kind.in_(("text", "null")), cast(column, LargeBinary)), else_=cast(odd, LargeBinary))


def moment_of(column: ColumnElement[object], dialect: str) -> ColumnElement[object]:
    """For `moment_as_bytes`."""
    if dialect == "sqlite":
        return text_of(column, dialect)
    in_utc = func.timezone(literal_column("'UTC'"), column)
    return func.to_char(in_utc, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"BC', type_=Text)


def as_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode(errors="surrogatepass") if isinstance(value, str) else value


def moment_as_bytes(value: str | bytes | None, dialect: str) -> bytes | None:
    """As 2026-03-02T12:00:00.123456Z."""
    stored = as_bytes(value)
    if stored is None:
        return None
    if dialect == "sqlite":
        return stored[:10] + b"T" + stored[11:] + b"Z" if stored[10:11] == b" " else ODD + stored
    return stored[:-2] if stored.endswith(b"AD") else ODD + stored


def as_moment(stored: bytes | None) -> datetime | None:
    """None for what is no time."""
    try:
        moment = datetime.fromisoformat((stored or b"").decode())
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None


def stored_moment(moment: datetime) -> bytes:
    """What `moment_as_bytes` gives once it was written: microseconds are what both databases keep."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds").encode() + b"Z"
