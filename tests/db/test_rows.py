"""What is read by position is declared in the order of its columns, and what is written exists."""

import pytest

from notifyctl.delivery.result_store import RECORDED
from notifyctl.models.columns import table
from notifyctl.models.message import MessageLog
from notifyctl.models.operations import JobRun, Pause, ProviderBreaker, WorkerHeartbeat
from notifyctl.operations.breakers import BreakerRow
from notifyctl.operations.heartbeats import WorkerRow
from notifyctl.operations.job_runs import RunRow
from notifyctl.operations.pauses import PauseRow
from notifyctl.orchestrator.message_store import MessageRow

ROWS = [
    (MessageRow, MessageLog),
    (PauseRow, Pause),
    (BreakerRow, ProviderBreaker),
    (RunRow, JobRun),
    (WorkerRow, WorkerHeartbeat),
]


@pytest.mark.parametrize(("row", "model"), ROWS)
def test_a_row_has_the_columns_of_its_table_in_their_order(row, model) -> None:
    assert row._fields == tuple(table(model).c.keys())


def test_the_fields_of_a_result_are_columns() -> None:
    assert set(RECORDED) < set(table(MessageLog).c.keys())
