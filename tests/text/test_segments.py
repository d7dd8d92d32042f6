import pytest

from notifyctl.text.sms_segments import SmsEncoding, SmsSize, measure

GSM, UCS = SmsEncoding.GSM_7, SmsEncoding.UCS_2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("", SmsSize(GSM, 0, 0), id="nothing costs nothing"),
        pytest.param("a" * 160, SmsSize(GSM, 160, 1), id="160 fit in one"),
        pytest.param("a" * 161, SmsSize(GSM, 161, 2), id="one more makes two"),
        pytest.param("a" * 306, SmsSize(GSM, 306, 2), id="two of 153"),
        pytest.param("a" * 307, SmsSize(GSM, 307, 3), id="three of 153"),
        pytest.param("Größe: 5 £ à Δ\n", SmsSize(GSM, 15, 1), id="accents and Greek of the basic table"),
        pytest.param("€[]{}", SmsSize(GSM, 10, 1), id="the extension table counts twice"),
        pytest.param("€" * 80, SmsSize(GSM, 160, 1), id="80 euro signs fill one"),
        pytest.param("€" * 81, SmsSize(GSM, 162, 2), id="81 euro signs do not fit"),
        pytest.param("ж" * 70, SmsSize(UCS, 70, 1), id="70 in UCS-2 fit in one"),
        pytest.param("ж" * 71, SmsSize(UCS, 71, 2), id="71 in UCS-2 make two"),
        pytest.param("ж" * 135, SmsSize(UCS, 135, 3), id="67 a part in UCS-2"),
        pytest.param("🔥" * 35, SmsSize(UCS, 70, 1), id="an emoji counts twice"),
    ],
)
def test_a_text_is_measured_as_networks_count_it(text: str, size: SmsSize) -> None:
    assert measure(text) == size


def test_one_curly_quote_more_than_doubles_the_cost_of_a_long_text() -> None:
    assert measure("It's " + "a" * 150).segments == 1
    assert measure("It’s " + "a" * 150).segments == 3


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        # 306 characters are two full parts of 153, unless a pair would straddle the cut.
        pytest.param("a" * 152 + "€" + "a" * 152, 3, id="an escaped character"),
        pytest.param("a" * 151 + "€" + "a" * 153, 2, id="an escaped character before the cut"),
        # 134 are two full parts of 67.
        pytest.param("ж" * 66 + "🔥" + "ж" * 66, 3, id="a surrogate pair"),
        pytest.param("ж" * 66 + "e\u0301" + "ж" * 66, 3, id="a letter and its accent"),
        pytest.param("ж" * 66 + "नि" + "ж" * 66, 3, id="a consonant and its vowel"),
        pytest.param("ж" * 66 + "가".translate({0xAC00: "ᄀ\u1161"}) + "ж" * 66, 3, id="a Hangul syllable"),
        pytest.param("ж" * 65 + "🇩🇪" + "ж" * 65, 3, id="a flag"),
        pytest.param("ж" * 65 + "👍🏽" + "ж" * 65, 3, id="an emoji and its colour"),
        pytest.param("ж" * 60 + "👩‍👩‍👧‍👦" + "ж" * 63, 3, id="a family"),
        pytest.param("ж" * 65 + "1️⃣" + "ж" * 66, 3, id="a keycap"),
        # 134 are two full parts all the same:
        pytest.param("ж" * 66 + "\r\n" + "ж" * 66, 2, id="a line end may be cut"),
        pytest.param("ж" * 67 + "🇩🇪" + "ж" * 63, 2, id="a flag after the cut"),
        pytest.param("ж" * 65 + "👍🏽"[0] + "👍🏽"[0] + "ж" * 65, 2, id="two emoji"),
    ],
)
def test_what_is_read_as_one_never_straddles_two_parts(text: str, segments: int) -> None:
    assert measure(text).segments == segments


def test_letters_that_only_look_like_the_basic_table_need_ucs2() -> None:
    # ç in lower case and á are not in the table, though Ç and à are.
    assert measure("façade").encoding is UCS
    assert measure("á").encoding is UCS
    assert measure("`").encoding is UCS
