"""Types of what comes in and goes out, with what a reader of the OpenAPI document needs to know about them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, StringConstraints, WithJsonSchema

from notifyctl.orchestrator.words import iso

FIRST, LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)
"""Nothing happened before or will after. At the very ends of the calendar, another zone is beyond it."""
STORABLE = r"^[^\x00]*$"
"""PostgreSQL keeps no NUL."""


def _read(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError("must be a time in ISO 8601, as 2026-03-01T12:00:00Z") from None
    if moment.year <= FIRST.year:
        return FIRST
    return LAST if moment.year >= LAST.year else moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


Moment = Annotated[
    datetime, PlainSerializer(iso, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""In an answer: 2026-03-01T12:00:00.000Z."""
QueryMoment = Annotated[datetime, BeforeValidator(_read), WithJsonSchema({"type": "string", "format": "date-time"})]
"""In a query: UTC where it names no zone."""

Text64 = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=STORABLE)]
Text128 = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=STORABLE)]
Text255 = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=STORABLE)]
Text1000 = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=STORABLE)]
