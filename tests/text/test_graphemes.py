import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyctl.text.sms_segments import graphemes

CUT = {
    "letters": "a|b|ж|é",
    "accents": "e\u0301\u0323|x",
    "line ends": "\r|\n|a|\r|\u0301",
    "a control character": "a|\u00ad|\u0301",
    "flags": "🇩🇪|🇫🇷|🇩|a",
    "three halves": "🇩🇪|🇩",
    "colours of skin": "👍🏽|👍|👍🏽",
    "a colour on what takes none": "a|🏽",
    "a family": "👩‍👩‍👧‍👦|👩",
    "an astronaut": "👩🏽‍🚀|x",
    "hearts": "❤️|❤️",
    "a runner": "🏃🏽‍♀️|🏃",
    "the rainbow's flag": "🏳️‍🌈|a",
    "the flag of Scotland": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f|a",
    "a keycap": "1️⃣|2",
    "Hangul": "각|가|ᄀ\u1161\u11a8|ᄀ",
    "Devanagari": "नि|क्|षि",
    "Thai": "กำ|ไ|ท",
    "Burmese": "မ|ာ",
    "what is put before": "\u06005|5",
    "a joiner alone": "a\u200d|b",
}


@pytest.mark.parametrize("marked", CUT.values(), ids=CUT)
def test_a_text_is_cut_only_between_what_is_read_as_one(marked: str) -> None:
    assert list(graphemes(marked.replace("|", ""))) == marked.split("|")


@given(st.text())
def test_nothing_is_lost_or_empty(text: str) -> None:
    pieces = list(graphemes(text))
    assert "".join(pieces) == text
    assert "" not in pieces
