from collections import Counter

from notifyctl.delivery.pace.allowance import Allowance
from notifyctl.models.enums import Channel, Lane

URGENT, NORMAL, BULK = Lane


def test_urgent_messages_take_the_slots_they_need() -> None:
    slots = Allowance(Channel.SMS, 60).slots(10, {URGENT: 8, NORMAL: 50, BULK: 50})
    assert slots[URGENT] == 8
    assert sum(slots.values()) == 10


def test_bulk_gets_a_tenth_of_the_slots_however_few_are_free_at_a_time() -> None:
    for free in (1, 3, 100):
        allowance, given = Allowance(Channel.SMS, 60), Counter[Lane]()
        for _ in range(300):
            given.update(allowance.slots(free, {NORMAL: 500, BULK: 500}))
        assert 0.08 <= given[BULK] / given.total() <= 0.12


def test_bulk_gets_all_that_others_leave() -> None:
    assert Allowance(Channel.SMS, 60).slots(100, {NORMAL: 5, BULK: 500})[BULK] == 95


def test_no_lane_gets_more_than_it_has() -> None:
    assert Allowance(Channel.SMS, 60).slots(100, {URGENT: 1, NORMAL: 2, BULK: 3}) == {URGENT: 1, NORMAL: 2, BULK: 3}
