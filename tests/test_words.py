"""What people read is said in one way, wherever it stands in the package."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from notifyctl import errors
from tests import figures
from tests.figures import Module

PROVIDERS = {"Postmark", "Stripe", "Twilio"}
OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
A_NAME = re.compile(r"[A-Z][a-z]*[A-Z_0-9]")
"""Of a setting, a field or a code: DATABASE_URL, MessageSid."""

JOINING = r"(?:as|has|no|of|with)\b"
"""Behind them another thing is told of than the number before."""
VERBS = {"answers", "checks"}
"""As well as nouns."""


def error_classes(modules: list[Module]) -> set[str]:
    """Those of errors.py, and those that other modules make of them."""
    found, before = set(OURS), 0
    while len(found) > before:
        before = len(found)
        for module in modules:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & found:
                    found.add(node.name)
    return found


def beginnings(module: Module, classes: set[str]) -> Iterator[str]:
    """How the messages of errors begin, as far as that is written in the code."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in classes and node.args:
            message = node.args[0]
            for part in message.elts if isinstance(message, ast.List) else [message]:
                if isinstance(part, ast.JoinedStr) and part.values:
                    part = part.values[0]
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def has_a_capital_for_no_reason(text: str) -> bool:
    word = text.split(" ")[0]
    return word[:1].isupper() and word not in PROVIDERS and A_NAME.match(word) is None


def test_messages_of_errors_begin_in_lower_case() -> None:
    """They stand behind `notifyctl: ` and in the middle of lines; where a sentence is wanted, `sentence` makes one."""
    modules = figures.modules()
    classes = error_classes(modules)
    assert {"SealError", "MalformedReceipt"} < classes
    found = [(module.path, text) for module in modules for text in beginnings(module, classes)]
    assert len(found) > 120
    assert [(path, text) for path, text in found if has_a_capital_for_no_reason(text)] == []


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("raise InvalidInput('The body is empty')", True),
        ("raise NotFound(f'Nothing like {name}')", True),
        ("fault = DatabaseError(f'Database {name} is gone')", True),
        ("raise ConfigurationError(['One is missing', *more])", True),
        ("raise InvalidInput('the body is empty')", False),
        ("raise InvalidInput('MessageSid is missing')", False),
        ("raise InvalidInput('HTTP_PORT is a name')", False),
        ("raise ProviderError(f'Stripe has no {path}')", False),
        ("raise ValueError('Not shown to anybody')", False),
    ],
)
def test_which_beginnings_are_found(code: str, is_found: bool) -> None:
    texts = beginnings(Module("notifyctl/x.py", code), OURS)
    assert any(has_a_capital_for_no_reason(text) for text in texts) == is_found


def counted_nouns(modules: list[Module]) -> set[str]:
    """What `plural` is asked to count somewhere, in the plural: `message waits` is of messages."""
    calls = (node for module in modules for node in ast.walk(module.tree) if isinstance(node, ast.Call))
    of_plural = (call for call in calls if ast.unparse(call.func).split(".")[-1] == "plural" and len(call.args) > 1)
    nouns = (call.args[1].value for call in of_plural if isinstance(call.args[1], ast.Constant))
    return {f"{word}s" for noun in nouns for word in str(noun).split() if not word.endswith("s")}


def may_be_one(value: ast.FormattedValue) -> bool:
    """No count by `plural` or name of a command, nothing with decimals, and no constant of the code: these are seen."""
    words = ast.unparse(value.value)
    has_decimals = value.format_spec is not None and "." in ast.unparse(value.format_spec)
    is_fixed = any(name.isupper() for name in re.findall(r"\w+", words))
    return not (words.startswith(("plural(", "program(")) or has_decimals or is_fixed)


def bare_counts(module: Module, nouns: set[str]) -> Iterator[str]:
    """`{count} messages`, which says `1 messages` one day; the noun may have two words before it."""
    counted = re.compile(rf" (?:(?!{JOINING})[a-z]+ ){{0,2}}?({'|'.join(nouns)})\b")
    for node in ast.walk(module.tree):
        for value, behind in pairwise(node.values if isinstance(node, ast.JoinedStr) else []):
            if not isinstance(value, ast.FormattedValue) or not isinstance(behind, ast.Constant):
                continue
            if may_be_one(value) and counted.match(str(behind.value)):
                yield f"{module.path}:{node.lineno} {{{ast.unparse(value.value)}}}{behind.value}"


def test_a_number_before_a_noun_is_written_by_plural() -> None:
    modules = figures.modules()
    nouns = counted_nouns(modules) - VERBS
    assert {"messages", "rows", "events", "clients", "characters"} < nouns
    assert [found for module in modules for found in bare_counts(module, nouns)] == []


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("f'{count} messages wait'", True),
        ("f'{len(rows):,} audit rows'", True),
        ("f'{count} more audit rows'", True),
        ("f'at most {MAX_ROWS} rows'", False),
        ("f'within {KEYS_END_WITHIN.days} rows'", False),
        ("f'{plural(count, \"row\")} are left'", False),
        ("f'{count} of them'", False),
        ("f'{database} has rows'", False),
    ],
)
def test_which_numbers_are_found(code: str, is_found: bool) -> None:
    assert bool(list(bare_counts(Module("notifyctl/x.py", code), {"messages", "rows"}))) == is_found
