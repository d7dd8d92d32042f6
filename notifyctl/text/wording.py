"""Counts with their nouns, and text of others made safe to print."""


def plural(count: int, noun: str) -> str:
    """`1 message`, `1,234 messages`."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def printable(text: str) -> str:
    """With a blank in the place of each character that a terminal would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def one_line(text: str) -> str:
    """The same without runs of blanks, and without any at either end."""
    return " ".join(printable(text).split())
