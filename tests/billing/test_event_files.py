"""Events in files: whatever shape they come in, and what is said of those that are none."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from notifyctl.billing.replay.event_files import FileEvent, FileFault, read_events
from notifyctl.errors import InvalidInput

Json = dict[str, Any]


def an_event(number: int, **more: Any) -> Json:
    return {"id": f"evt_{number}", "object": "event", "type": "invoice.paid", "data": {"object": {"name": "Ü"}}} | more


def read(text: str | bytes) -> tuple[list[str], list[FileFault]]:
    """The ids that were found, and the faults."""
    raw = text.encode() if isinstance(text, str) else text
    entries = list(read_events(io.BytesIO(raw), "f.json"))
    ids = [str(json.loads(one.raw)["id"]) for one in entries if isinstance(one, FileEvent)]
    return ids, [one for one in entries if isinstance(one, FileFault)]


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


TWO = [an_event(1), an_event(2)]


@pytest.mark.parametrize(
    "text",
    [
        lines(*TWO),
        lines(*TWO).replace("\n", "\r\n"),
        "\n\n" + lines(*TWO) + "\n",
        "".join(json.dumps(event, indent=2) for event in TWO),
        json.dumps(TWO),
        json.dumps(TWO, indent=4),
        json.dumps({"object": "list", "data": TWO, "has_more": False, "url": "/v1/events"}),
        json.dumps({"object": "list", "url": "/v1/events", "data": TWO}, indent=1),
        lines({"object": "list", "data": TWO[:1]}, {"object": "list", "data": TWO[1:]}),
        lines([TWO[0]], [TWO[1]]),
        json.dumps([{"object": "list", "data": TWO}]),
        lines({"detail-type": "invoice.paid", "detail": TWO[0]}, {"eventType": "invoice.paid", "data": TWO[1]}),
        "\ufeff" + lines(*TWO),
    ],
    ids=[
        "JSON lines", "lines of Windows", "blank lines between", "indented, one after the other", "array",
        "indented array", "page", "indented page", "a page a line", "an array a line", "array of pages",
        "wrapped by an event bus", "byte order mark",
    ],
)  # fmt: skip
def test_events_are_found_in(text: str) -> None:
    ids, faults = read(text)
    assert (sorted(ids), faults) == (["evt_1", "evt_2"], [])


def test_a_page_of_stripes_list_is_turned_round() -> None:
    ids, _ = read(json.dumps({"object": "list", "data": TWO[::-1]}))
    assert ids == ["evt_1", "evt_2"]


def test_one_event_alone_is_kept_byte_for_byte() -> None:
    raw = json.dumps(an_event(1, amount=1.10), indent=2).encode()
    (entry,) = read_events(io.BytesIO(raw + b"\n"), "f.json")
    assert entry == FileEvent(1, raw)


def test_an_event_without_object_is_one_and_a_price_is_none() -> None:
    old = {"id": "evt_1", "type": "invoice.paid", "data": {}}
    price = {"id": "price_1", "object": "price", "type": "recurring"}
    ids, faults = read(lines(old, price))
    assert (ids, [fault.line for fault in faults]) == (["evt_1"], [2])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda line: line[: len(line) // 2], "is not JSON"),
        (lambda line: b"nonsense", "is not JSON"),
        (lambda line: b"{}", "is no Stripe event"),
        (lambda line: b"7", "is no Stripe event"),
        (lambda line: b"null", "is no Stripe event"),
        (lambda line: line.replace(b"invoice", b"\xff\xfe"), "is not UTF-8"),
        (lambda line: b'{"a":' * 100_000, "is nested too deeply"),
    ],
    ids=["cut off", "no JSON", "an empty object", "a number", "null", "no UTF-8", "too deep"],
)
@pytest.mark.parametrize("bad", [1, 2, 3])
def test_a_bad_line_is_named_and_the_others_are_read(bad: int, spoil: Callable[[bytes], bytes], why: str) -> None:
    good = [json.dumps(an_event(number)).encode() for number in (1, 2, 3)]
    text = b"\n".join(spoil(line) if number == bad else line for number, line in enumerate(good, start=1))
    ids, (fault,) = read(text)
    assert ids == [f"evt_{number}" for number in (1, 2, 3) if number != bad]
    assert fault.line == bad
    assert fault.text.startswith(why)


def test_after_a_broken_element_of_an_array_nothing_is_guessed() -> None:
    text = json.dumps([an_event(1), an_event(2)], indent=2).replace('"evt_2",', "")
    ids, (fault,) = read(text)
    assert ids == ["evt_1"]
    assert text.splitlines()[fault.line - 1].strip() == '"object": "event",'
    assert "what comes after it was not read" in fault.text


@pytest.mark.parametrize("text", ["", "\n \n", "[]", '{"object": "list", "data": []}'])
def test_a_file_without_events_is_no_fault(text: str) -> None:
    assert read(text) == ([], [])


def test_another_encoding_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidInput, match=r"f\.json is UTF-16; save it as UTF-8"):
        read(lines(*TWO).encode("utf-16"))


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        lambda events: json.dumps(events, indent=1),
        lambda events: json.dumps({"object": "list", "data": events}),
    ],
    ids=["array", "indented array", "page"],
)
def test_a_file_longer_than_what_is_read_at_once(write: Callable[[Any], str]) -> None:
    events = [an_event(number, padding="ü" * 2_000) for number in range(1, 1_500)]
    events[700]["padding"] = "x" * 5_000_000
    ids, faults = read(write(events))
    assert (sorted(ids), faults) == (sorted(event["id"] for event in events), [])
