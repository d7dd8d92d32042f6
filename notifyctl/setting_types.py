"""The kinds of value that several settings have: how a text becomes one, and by which rule."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import ErrorDetails

from notifyctl import setting_rules


def split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def each(rule: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda texts: tuple(rule(text) for text in texts))


def hidden(rule: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda secret: SecretStr(rule(secret.get_secret_value())))


def strong(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not secrets:
        raise ValueError("is empty; `notifyctl init` writes a fresh one")
    return tuple(SecretStr(setting_rules.strong_secret(secret.get_secret_value())) for secret in secrets)


def words(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    return tuple(SecretStr(setting_rules.word(secret.get_secret_value())) for secret in secrets)


def path(value: object) -> object:
    return setting_rules.path(value) if isinstance(value, str) else value


def days(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(setting_rules.days(text) for text in texts or ("",))


FilePath = Annotated[Path, BeforeValidator(path)]
CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(split)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(split)]
Word = Annotated[str, AfterValidator(setting_rules.word)]
SecretWord = Annotated[SecretStr, hidden(setting_rules.word)]
BaseUrl = Annotated[str, AfterValidator(setting_rules.base_url)]
EmailAddress = Annotated[str, AfterValidator(setting_rules.email_address)]
Line = Annotated[str, AfterValidator(setting_rules.line)]
HttpsUrl = Annotated[str, AfterValidator(setting_rules.https_link)]


def words_of(item: ErrorDetails) -> str:
    """Pydantic's own words speak of parsing."""
    match item["type"]:
        case "int_parsing" | "int_parsing_size" | "int_from_float" | "int_type":
            return "must be a whole number, without a unit"
        case "float_parsing" | "float_type":
            return "must be a number, without a unit"
        case "bool_parsing" | "bool_type":
            return "must be true or false"
        case "greater_than_equal":
            return f"must be at least {item['ctx']['ge']}"
        case "less_than_equal":
            return f"must be at most {item['ctx']['le']}"
    return str(item["msg"]).removeprefix("Value error, ")
