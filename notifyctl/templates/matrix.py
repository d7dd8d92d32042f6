"""docs/NOTIFICATION_TEMPLATE_MATRIX.md, made from the template files."""

from collections.abc import Sequence

from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.templates.files import TemplateFile
from notifyctl.templates.front_matter import FrontMatter
from notifyctl.text.durations import exact_duration

_HEAD = """\
# Notification templates

Generated from the files under templates/ by `notifyctl templates matrix --write`; do not edit. A message that
has not been sent by its send-by time is never sent. "On doubt" says what happens to a message that may have
gone out when the provider cannot tell: RESEND, or HOLD for an operator. A variable with ? is optional.
"""
_GATES = ("billing", "requires_provisioned", "requires_active_subscription")


def matrix_markdown(files: Sequence[TemplateFile]) -> str:
    """Ends with a newline, so that it can be written and compared as it is."""
    tables = [
        _table(
            ("template_key", "channel", "audience", "lane", "gates", "rate", "send-by", "on doubt", "notes"),
            [_rules(file.front) for file in files],
        ),
        _table(
            ("template_key", "what it says", "languages", "variables"),
            [
                (_code(file.template_key), file.front.description, ", ".join(file.languages), _variables(file.front))
                for file in files
            ],
        ),
    ]
    return "\n".join([_HEAD, "## Rules\n", tables[0], "## Contents\n", tables[1]]).rstrip() + "\n"


def _rules(front: FrontMatter) -> tuple[str, ...]:
    return (
        _code(front.template_key),
        front.channel.value,
        front.audience.value,
        front.lane.value,
        _gates(front),
        _rate(front),
        "OTP_TTL_SECONDS" if front.template_key == OTP_TEMPLATE else _span(front.expires_after_seconds),
        front.on_doubt.value,
        _notes(front),
    )


def _gates(front: FrontMatter) -> str:
    names = [name for name in _GATES if getattr(front, name)]
    if front.plan_required_feature_key:
        names.append(f"plan has {front.plan_required_feature_key}")
    return ", ".join(names) or "-"


def _rate(front: FrontMatter) -> str:
    if front.template_key == OTP_TEMPLATE:
        return "OTP_SEND_RATE_LIMIT"
    if front.rate_limit_window_seconds is None:
        return "-"
    by = f" by {', '.join(front.rate_limit_by)}" if front.rate_limit_by else ""
    return f"{front.rate_limit_max_sends} in {_span(front.rate_limit_window_seconds)}{by}"


def _notes(front: FrontMatter) -> str:
    notes = ["sensitive"] if front.sensitive else []
    if front.audit_sent:
        notes.append(f"audits {front.audit_sent.value}")
    if not front.enabled:
        notes.append("off by default")
    return ", ".join(notes) or "-"


def _variables(front: FrontMatter) -> str:
    return ", ".join(
        f"{_code(name)}{'?' if variable.optional else ''} {variable.type.value}"
        for name, variable in front.variables.items()
    )


def _span(seconds: int | None) -> str:
    return "-" if seconds is None else exact_duration(seconds)


def _code(text: str) -> str:
    return f"`{text}`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
