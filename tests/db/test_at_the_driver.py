"""What goes to the driver itself comes and goes as it does by SQLAlchemy, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import bindparam, column, event, insert, select, update
from sqlalchemy import table as sql_table
from sqlalchemy.exc import IntegrityError

from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.errors import DatabaseError
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, MessageStatus
from notifyctl.models.message import MessageLog, MessagePayload
from notifyctl.models.operations import OutboundBudget, OutboundLimit
from tests.support.clients import a_client
from tests.support.messages import CODE, WELCOME, send

_message, _limit, _budget = table(MessageLog), table(OutboundLimit), table(OutboundBudget)
LIMIT = {
    "channel": Channel.SMS,
    "per_minute_limit": 7,
    "updated_by": "ops",
    "updated_at": datetime(2026, 3, 2, 12, tzinfo=UTC),
}


def test_rows_are_those_that_sqlalchemy_gives(runtime: Runtime) -> None:
    a_client(runtime, "ada")
    send(runtime, "WELCOME_EMAIL", WELCOME, client_id="ada", metadata={"ticket": 7})
    channel = bindparam("channel", type_=_message.c.channel.type)
    statement = select(_message, table(MessagePayload).c.context).where(
        table(MessagePayload).c.message_id == _message.c.id,
        _message.c.channel == channel,
        _message.c.status == MessageStatus.QUEUED,
        _message.c.created_at > bindparam("since", type_=_message.c.created_at.type),
    )
    values = {"channel": Channel.EMAIL, "since": runtime.clock() - timedelta(hours=1)}
    with runtime.database.read() as session:
        rows = bulk.execute(session, statement, values)
        assert len(rows) == 1
        assert rows == [tuple(row) for row in session.execute(statement, values)]


def test_values_are_written_as_sqlalchemy_writes_them(runtime: Runtime) -> None:
    state, later = {"buckets": [1, 2], "name": "Zoë"}, datetime(2026, 3, 2, 12, tzinfo=UTC) + timedelta(seconds=1)
    typed = {name: bindparam(f"new_{name}", type_=_budget.c[name].type) for name in ("channel", "state")}
    new = insert(_budget).values(typed)
    changed = update(_limit).where(_limit.c.channel == Channel.SMS)
    changed = changed.values(updated_at=bindparam("at", type_=_limit.c.updated_at.type), updated_by="cron")
    with runtime.database.transaction() as session:
        session.execute(insert(_limit).values(LIMIT))
        assert bulk.execute(session, new, {"new_channel": Channel.SMS, "new_state": state}) == []
        assert bulk.execute(session, changed, {"at": later}) == []
    with runtime.database.read() as session:
        assert session.execute(select(_budget.c.state)).scalar_one() == state
        found = session.execute(select(_limit.c.updated_at, _limit.c.updated_by)).one()
    assert tuple(found) == (later, "cron")


def test_what_it_refuses_is_told_as_by_sqlalchemy(runtime: Runtime) -> None:
    with pytest.raises(IntegrityError), runtime.database.transaction() as session:
        bulk.insert_rows(session, _limit, [LIMIT, LIMIT])
    with pytest.raises(DatabaseError, match="gone"), runtime.database.transaction() as session:
        bulk.execute(session, select(column("id")).select_from(sql_table("gone")), {})


def test_who_listens_to_statements_hears_of_it(runtime: Runtime) -> None:
    heard: list[str] = []

    def _hear(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        heard.append(statement)

    for moment in ("before_cursor_execute", "after_cursor_execute"):
        event.listen(runtime.database.engine, moment, _hear)
    with runtime.database.read() as session:
        bulk.execute(session, select(_limit.c.per_minute_limit), {})
    assert ["per_minute_limit" in statement for statement in heard[-2:]] == [True, True]


def test_a_statement_with_a_list_in_it_is_run_as_well(runtime: Runtime) -> None:
    sent = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345000")
    listed = select(_message.c.id).where(_message.c.status.in_(bindparam("statuses", expanding=True)))
    with runtime.database.read() as session:
        assert bulk.execute(session, listed, {"statuses": [MessageStatus.QUEUED]}) == [(sent.message_id,)]
        assert bulk.execute(session, listed, {"statuses": [MessageStatus.SENT, MessageStatus.FAILED]}) == []
