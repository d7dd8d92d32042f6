"""Amounts as clients read them, from the minor units that Stripe counts in."""

WHOLE = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
"""Stripe counts these in their one and only unit."""
THREE_DECIMALS = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
COUNTED_IN_HUNDREDTHS = frozenset(("isk", "ugx"))
"""Have no decimals, but Stripe goes on counting them as if they had two."""


def money(amount: int | None, currency: str | None) -> str | None:
    """`49.00 USD`, `500 JPY`, `1.250 KWD`; None for nothing, less than nothing, and an amount without a currency."""
    if amount is None or amount <= 0 or currency is None:
        return None
    places = _places(currency)
    whole, part = divmod(amount, 10**places)
    is_whole = places == 0 or (currency in COUNTED_IN_HUNDREDTHS and part == 0)
    return f"{whole} {currency.upper()}" if is_whole else f"{whole}.{part:0{places}} {currency.upper()}"


def _places(currency: str) -> int:
    if currency in WHOLE:
        return 0
    return 3 if currency in THREE_DECIMALS else 2
