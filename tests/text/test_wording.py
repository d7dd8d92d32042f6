import pytest

from notifyctl.text.durations import one_line, plural, printable


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (999, "999 rows"), (12345, "12,345 rows")]
)
def test_a_count_has_its_noun_in_the_right_number(count: int, text: str) -> None:
    assert plural(count, "row") == text


def test_a_count_may_have_its_verb() -> None:
    assert [plural(count, "job is", "jobs are") for count in (0, 1, 2)] == ["0 jobs are", "1 job is", "2 jobs are"]


@pytest.mark.parametrize("sly", ["\x1b[2J", "\x07", "\r\n", "\u2028", "\x9b", "\ud800", "\u202e", "\0"])
def test_nothing_that_a_terminal_obeys_is_left(sly: str) -> None:
    assert printable(f"a{sly}b") == "a" + "".join(" " if not char.isprintable() else char for char in sly) + "b"
    assert one_line(f"a{sly}b").isprintable()


def test_printable_text_keeps_its_columns_and_one_line_does_not() -> None:
    assert printable("rows   12\tß 例") == "rows   12 ß 例"
    assert one_line("  rows   12\t\n ß 例 ") == "rows 12 ß 例"
