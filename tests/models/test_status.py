import pytest

from notifyctl.models.enums import MessageStatus
from notifyctl.models.message import FINAL, FOLLOWERS, WAITING, may_become, predecessors

QUEUED, SENDING, SENT = MessageStatus.QUEUED, MessageStatus.SENDING, MessageStatus.SENT


def test_every_status_has_a_row() -> None:
    assert set(FOLLOWERS) == set(MessageStatus)


@pytest.mark.parametrize("status", [MessageStatus.BLOCKED, MessageStatus.EXPIRED, MessageStatus.CANCELED])
def test_what_is_final_stays(status: MessageStatus) -> None:
    assert FOLLOWERS[status] == frozenset()
    assert status in FINAL


def test_only_what_waits_can_be_claimed() -> None:
    assert set(predecessors(SENDING)) == set(WAITING)


def test_a_receipt_never_goes_backwards() -> None:
    assert may_become(SENT, MessageStatus.DELIVERED)
    assert may_become(MessageStatus.DELIVERED, MessageStatus.BOUNCED)
    assert not may_become(MessageStatus.BOUNCED, MessageStatus.DELIVERED)
    assert not may_become(MessageStatus.DELIVERED, SENT)


def test_a_failed_message_comes_back_by_an_operator_or_a_late_receipt_only() -> None:
    late = {MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.BOUNCED}
    assert FOLLOWERS[MessageStatus.FAILED] == {QUEUED} | late
