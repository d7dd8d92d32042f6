"""How verdicts and explanations look."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.text import Text

from notifyctl.cli import terminal
from notifyctl.orchestrator.explain import Explanation, Step
from notifyctl.orchestrator.gates import PASSED_WHEN, GateOutcome, Verdict
from notifyctl.orchestrator.message_store import MessageRow
from notifyctl.text.durations import moment, plural, printable

_MARKS = {"passed": ("ok", "green"), "refused": ("no", "bold red"), "not asked": ("--", "dim")}
_WORDS = {"passed": "", "refused": "bold", "not asked": "dim"}


def print_verdicts(verdicts: Iterable[Verdict]) -> None:
    """What had to hold, and the reason that the gate would give for a refusal."""
    terminal.listing(
        [
            (
                _MARKS[verdict.outcome],
                (PASSED_WHEN[verdict.gate], _WORDS[verdict.outcome]),
                (verdict.gate.value, _WORDS[verdict.outcome] or "dim"),
                verdict.detail,
            )
            for verdict in verdicts
        ]
    )


def verdict_rows(verdicts: Iterable[Verdict]) -> list[dict[str, str]]:
    return [
        {"gate": verdict.gate.value, "verdict": verdict.outcome.value, "detail": verdict.detail} for verdict in verdicts
    ]


def print_explanation(message: MessageRow, explanation: Explanation, *, gates: bool) -> None:
    """`gates`: each of them, and every step. Otherwise what was found stays on the screen, whatever its height."""
    console = terminal.console()
    status = (message.status.value, terminal.STATUS_STYLES[message.status])
    head = [
        Text.assemble((message.template_key, "bold"), f" {message.id}  ", status),
        Text(printable(explanation.sentence)),
        *([Text(printable(explanation.next_step), "bold")] if explanation.next_step else []),
    ]
    about = [f"version {message.template_version}", *([f"in {message.language}"] if message.language else [])]
    first = explanation.steps[0].at if explanation.steps else message.created_at
    title = Text(f"\nWhat happened ({', '.join([f'{first:%Y-%m-%d}', *about])})")
    steps = terminal.listed([_step_cells(step, first) for step in explanation.steps])
    short = _gates_in_short(explanation.verdicts)
    room = console.height - terminal.height_of(*head, title, short) - LINES_BESIDE_STEPS
    shown, left_out = (steps, 0) if gates else terminal.that_fit(steps, room)
    for part in head:
        console.print(part)
    if gates and explanation.verdicts:
        console.print("\nGates at acceptance")
        print_verdicts(explanation.verdicts)
    console.print(title)
    for number, line in enumerate(shown):
        console.print(line, soft_wrap=True)
        if left_out and not number:
            console.print(Text(f"  … {plural(left_out, 'step')} more; --gates shows all", "dim"))
    if short and not gates:
        console.print(short)


LINES_BESIDE_STEPS = 2
"""An empty one, and the prompt that follows."""


def _gates_in_short(verdicts: Sequence[Verdict]) -> Text:
    """`Gates: 8 passed, SUPPRESSED refused; --gates shows each`. The sentence has why."""
    if not verdicts:
        return Text()
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    refused = [f"{verdict.gate} refused" for verdict in verdicts if verdict.outcome is GateOutcome.REFUSED]
    not_asked = [f"{outcomes[GateOutcome.NOT_ASKED]} not asked"] if outcomes[GateOutcome.NOT_ASKED] else []
    parts = ", ".join([f"{outcomes[GateOutcome.PASSED]} passed", *refused, *not_asked])
    return Text(f"\nGates: {parts}; --gates shows each")


def _step_cells(step: Step, first: datetime) -> tuple[terminal.Cell, ...]:
    name = step.action.removeprefix("NOTIFICATION_")
    return moment(step.at, beside=first), (name, terminal.STATUS_STYLES.get(name, "")), step.detail


def explanation_fields(message: MessageRow, explanation: Explanation) -> dict[str, object]:
    """For programs."""
    return {
        "id": message.id,
        "template_key": message.template_key,
        "template_version": message.template_version,
        "language": message.language,
        "status": message.status,
        "explanation": explanation.sentence,
        "next_step": explanation.next_step or None,
        "gates": verdict_rows(explanation.verdicts),
        "timeline": [
            {"at": step.at, "action": step.action, "actor": step.actor, "detail": step.detail}
            for step in explanation.steps
        ],
    }
