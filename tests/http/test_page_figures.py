from datetime import UTC, datetime, timedelta

import pytest

from notifyctl.health.reports import BucketView, Counts
from notifyctl.http.pages.charts import LEAST, PLOT, STRIP, Chart, round_up, traffic_chart
from notifyctl.http.pages.page import count, marked_sentence, share, span
from notifyctl.http.pages.sessions import HOME, safe_next
from notifyctl.models.enums import Channel

FIVE_MINUTES = timedelta(minutes=5)


def chart(*counts: tuple[int, int, int]) -> Chart:
    first = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    buckets = [
        BucketView(first + number * FIVE_MINUTES, EMAIL=Counts(9, 9, 9), SMS=Counts(*one))
        for number, one in enumerate(counts)
    ]
    return traffic_chart(buckets, Channel.SMS, FIVE_MINUTES)


@pytest.mark.parametrize(
    ("number", "top"), [(0, 1), (1, 1), (3, 4), (9, 10), (11, 20), (60, 60), (61, 80), (999_999, 1_000_000)]
)
def test_a_scale_ends_at_the_next_number_that_is_easy_to_read(number: int, top: int) -> None:
    assert round_up(number) == top


def test_one_failure_among_a_million_is_seen_and_nothing_leaves_the_plot() -> None:
    drawn = chart((1_000_000, 1, 0), (0, 0, 3), (0, 5, 400_000)).columns

    assert drawn[0].bars["failed"].height == LEAST
    assert drawn[1].bars["throttled"].height == LEAST
    assert "sent" not in drawn[1].bars
    for column in drawn:
        for part, bar in column.bars.items():
            assert bar.y >= 0, part
            assert bar.y + bar.height <= (STRIP if part == "throttled" else PLOT)


def test_failed_stands_on_sent() -> None:
    bars = chart((30, 10, 0)).columns[0].bars

    assert (bars["sent"].height, bars["failed"].height) == (PLOT * 30 / 40, PLOT * 10 / 40)
    assert bars["failed"].y + bars["failed"].height == bars["sent"].y


def test_columns_fill_the_width_in_order() -> None:
    drawn = chart(*[(1, 0, 0)] * 48)

    assert drawn.pitch * 48 == pytest.approx(100)
    assert all(drawn.pitch * number < column.x for number, column in enumerate(drawn.columns))
    assert drawn.columns[-1].x + drawn.columns[-1].width < 100


def test_a_chart_is_told_in_words() -> None:
    assert chart((2, 1, 0), (1_200, 0, 7)).alternative == (
        "1,202 sent, 1 failed, 7 throttled. Most were sent from 12:05 on Monday: 1,200."
    )
    assert chart((0, 0, 0)).is_empty


def test_numbers_are_grouped() -> None:
    assert count(1_234_567) == "1,234,567"


@pytest.mark.parametrize(
    ("part", "words"),
    [(0, "0%"), (0.00001, "< 0.1%"), (0.123, "12.3%"), (0.02, "2%"), (0.99999, "> 99.9%"), (1, "100%")],
)
def test_a_share_is_never_rounded_to_nothing_or_all(part: float, words: str) -> None:
    assert share(part) == words
    assert share(1, 0) == "–"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0, "0 ms"), (0.34, "340 ms"), (1.24, "1.2 s"), (240, "4 min"), (12_600, "3.5 h"), (864_000, "10 d")],
)
def test_a_span_has_the_unit_that_fits(seconds: float | None, words: str) -> None:
    assert span(seconds) == words


def test_a_sentence_is_escaped_and_marks_what_to_type() -> None:
    assert marked_sentence("no <b>worker</b>; start `notifyctl worker`") == (
        "No &lt;b&gt;worker&lt;/b&gt;; start <code>notifyctl worker</code>."
    )
    assert marked_sentence("odd ` tick") == "Odd ` tick."


def test_only_our_own_pages_are_gone_on_to() -> None:
    assert safe_next(f"{HOME}?status=FAILED&client_id=a%2Fb") == f"{HOME}?status=FAILED&client_id=a%2Fb"
    assert {safe_next(bad) for bad in ("//x", "https://x", f"{HOME}\n", f"{HOME}x", "/admin/login")} == {HOME}
