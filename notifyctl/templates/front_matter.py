"""The head of a template file: TOML between +++ lines, checked field by field."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import StrictBool as Bool
from pydantic import StrictFloat as Float
from pydantic import StrictInt as Int
from pydantic import StrictStr as Text
from pydantic_core import ErrorDetails

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import CHANNELS, Audience, AuditAction, Channel, Lane, OnDoubt, VariableType
from notifyctl.templates.render import syntax_fault
from notifyctl.text.choices import is_none_of
from notifyctl.text.files import read_text
from notifyctl.text.locales import is_normal

FENCE = "+++"
_SUBJECT = "subject_"

_Key = Annotated[Text, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,79}$")]
_Name = Annotated[Text, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
_Positive = Annotated[Int, Field(ge=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeclaredVariable(_Table):
    type: VariableType
    optional: Bool = False
    description: Text
    example: Text | Int | Float


class FrontMatter(_Table):
    template_key: _Key
    description: Text
    channel: Channel
    audience: Audience
    lane: Lane
    billing: Bool = False
    requires_provisioned: Bool = False
    requires_active_subscription: Bool = False
    plan_required_feature_key: Text | None = None
    rate_limit_window_seconds: _Positive | None = None
    rate_limit_max_sends: _Positive = 1
    rate_limit_by: tuple[Text, ...] = ()
    sensitive: Bool = False
    expires_after_seconds: _Positive | None = None
    on_doubt: OnDoubt
    audit_sent: AuditAction | None = None
    enabled: Bool = True
    subject: Text | None = None
    subjects: dict[Text, Text] = Field(default_factory=dict)
    """By language, from fields named subject_de."""
    language: Text = "en"
    """Of the files that name none."""
    variables: dict[_Name, DeclaredVariable] = Field(default_factory=dict)

    def flags(self) -> dict[str, object]:
        """What goes to the template's row, as JSON values."""
        return self.model_dump(mode="json", exclude={"template_key", "subject", "subjects", "language", "variables"})


def read(path: Path) -> str:
    """A file of words, or a part that several share. Raises InvalidInput that names the file and its line."""
    text = read_text(path)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InvalidInput(f"{path} has a NUL character in line {line}, which no database takes; remove it")
    body = parts[1] if (parts := split(text)) else text
    above = "\n" * (text.count("\n") - body.count("\n"))
    if fault := syntax_fault(str(path), above + body):
        raise InvalidInput(fault)
    return text


def split(text: str) -> tuple[str, str] | None:
    """(front matter, body), or None when the file does not begin with a fenced head."""
    opening, _, rest = text.partition("\n")
    head, fence, body = f"\n{rest}".partition(f"\n{FENCE}\n")
    return (head, body) if opening.rstrip() == FENCE and fence else None


def parse(head: str) -> tuple[FrontMatter | None, list[str]]:
    """The front matter, or what is wrong with it: field, value and mend, a sentence each."""
    try:
        table = tomllib.loads(head)
    except tomllib.TOMLDecodeError as error:
        return None, [f"front matter is not TOML: {error}"]
    subjects = {name: table.pop(name) for name in list(table) if name.startswith(_SUBJECT)}
    try:
        front = FrontMatter.model_validate(
            {**table, "subjects": {name.removeprefix(_SUBJECT): text for name, text in subjects.items()}}
        )
    except ValidationError as error:
        return None, [_fault(item) for item in error.errors()]
    faults = _contradictions(front)
    return (None if faults else front), faults


def _contradictions(front: FrontMatter) -> list[str]:
    faults = [
        f"{name} names no language that is known; write it as de, de-AT or zh-Hant-TW"
        for name, tag in {"language": front.language, **{f"{_SUBJECT}{tag}": tag for tag in front.subjects}}.items()
        if not is_normal(tag)
    ]
    if front.language in front.subjects:
        faults.append(f"{_SUBJECT}{front.language} is that of the language of subject itself; remove it")
    if CHANNELS[front.channel].has_subject and not (front.subject or "").strip():
        faults.append("subject is missing; an email needs one")
    if not CHANNELS[front.channel].has_subject and front.subject is not None:
        faults.append("subject is set, but an SMS has none; remove it")
    if not CHANNELS[front.channel].has_subject and front.subjects:
        faults.append(f"{_SUBJECT}{min(front.subjects)} is set, but an SMS has none; remove it")
    for name in front.rate_limit_by:
        if name not in front.variables:
            faults.append(f"rate_limit_by names {name!r}, which is no variable; declare [variables.{name}]")
        elif front.variables[name].optional:
            faults.append(f"rate_limit_by names {name!r}, which is optional; make it required")
    if front.rate_limit_by and front.rate_limit_window_seconds is None:
        faults.append("rate_limit_by is set without rate_limit_window_seconds; set both or neither")
    return faults


def _fault(item: ErrorDetails) -> str:
    # A union (example) is reported once a member, with the member's name at the end of the path.
    place = item["loc"][1:] if item["loc"][0] == "subjects" else item["loc"]
    path = [str(part) for part in place if part not in ("str", "int", "float", "[key]")]
    name = ".".join(path)
    match item["type"]:
        case "missing":
            return f"{name} is missing; add it"
        case "extra_forbidden":
            known = DeclaredVariable if len(path) > 1 else FrontMatter
            return f"{name} {is_none_of(path[-1], known.model_fields)}"
        case "string_pattern_mismatch":
            return f"{name} must match {item['ctx']['pattern']}, got {item['input']!r}"
    message = item["msg"].removeprefix("Input ").replace("should be", "must be")
    return f"{name} {message[0].lower()}{message[1:]}, got {item['input']!r}"


def misplaced(front: FrontMatter, channel: Channel, name: str) -> list[str]:
    """What does not fit the place of its file."""
    placed = {"template_key": (front.template_key, name), "channel": (front.channel.value, channel.value)}
    return [
        f"{field} {value!r} does not fit the file's place; it must be {expected!r}"
        for field, (value, expected) in placed.items()
        if value != expected
    ]
