"""Whether an SMS that Twilio shows is one of ours: it replaces characters that would cost a message more parts.

https://www.twilio.com/docs/messaging/services/smart-encoding-char-list
"""

from unicodedata import category, normalize

_TRIAL = "Sent from your Twilio trial account - "

# Compatibility forms (fullwidth, small, ligatures) are left to Unicode's own normalisation.
_LOOKALIKES = {
    '"': "«»“”„‟ʺˮ❝❞〝〞",
    "'": "‘’‛`´ʹʻʼʽˈˊˋ❛❜\u0313\u0314︐︑",
    "-": "‐‒–—―⁃•⎼⎽",
    "/": "÷⁄∕⧸\u0337\u0338",
    "\\": "⧵⧹\u20e5",
    "|": "∣⎸⎹⏐⎜⎟\u20d2\u20d3",
    "_": "‗\u0332",
    ",": "‚、\u0326",
    ".": "。",
    ":": "ːˑ˸⦂꞉",
    ";": "⁏",
    "!": "ǃ",
    "(": "❨❪⟮⦅",
    ")": "❩❫⟯⦆",
    "{": "❴",
    "}": "❵",
    # Either side of the pair: the published list crosses them over.
    "<": "‹›>",
    "=": "꞊\u0347",
    "*": "⁎∗⊛✢✣✤✥✱✲✳✺✻✼✽❃❉❊❋⧆",
    "+": "˖",
    "^": "ˆ\u0302\u1dcd",
    "~": "˜˷∼\u0303\u0330\u0334",
}
_SMALL_CAPITALS = ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "ABCDEFGHIJKLMNOPRSTUVWYZ")
_TABLE = {ord(lookalike): plain for plain, lookalikes in _LOOKALIKES.items() for lookalike in lookalikes}
_TABLE |= dict(zip(map(ord, _SMALL_CAPITALS[0]), _SMALL_CAPITALS[1], strict=True))
_UNSEEN = frozenset({"Cc", "Cf"})


def may_be_the_same(sent: str, shown: str) -> bool:
    """White space does not count: Twilio trims it, and makes one or two blanks of the rarer kinds."""
    return _plain(sent) == _plain(shown.removeprefix(_TRIAL))


def _plain(text: str) -> str:
    # Twice, as normalisation brings forth some that are in the table, and would itself compose others away.
    replaced = normalize("NFKC", text.translate(_TABLE)).translate(_TABLE)
    return "".join(letter for letter in replaced if not letter.isspace() and category(letter) not in _UNSEEN)
