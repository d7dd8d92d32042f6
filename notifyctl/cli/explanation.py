"""How verdicts and explanations look."""

from collections.abc import Iterable

from rich.text import Text

from notifyctl.cli import terminal
from notifyctl.orchestrator.explain import Explanation, Step
from notifyctl.orchestrator.gates import PASSED_WHEN, Verdict
from notifyctl.orchestrator.words import moment
from notifyctl.store.messages import MessageRow
from notifyctl.text.wording import printable

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


def print_explanation(message: MessageRow, explanation: Explanation) -> None:
    console = terminal.console()
    status = (message.status.value, terminal.STATUS_STYLES[message.status])
    console.print(Text.assemble((message.template_key, "bold"), f" {message.id}  ", status))
    console.print(printable(explanation.sentence), markup=False)
    if explanation.verdicts:
        console.print("\nGates at acceptance")
        print_verdicts(explanation.verdicts)
    console.print("\nWhat happened")
    terminal.listing([_step_cells(step) for step in explanation.steps])


def _step_cells(step: Step) -> tuple[terminal.Cell, ...]:
    style = terminal.STATUS_STYLES.get(step.action.removeprefix("NOTIFICATION_"), "")
    return moment(step.at), (step.action.value, style), step.detail


def explanation_fields(message: MessageRow, explanation: Explanation) -> dict[str, object]:
    """For programs."""
    return {
        "id": message.id,
        "template_key": message.template_key,
        "status": message.status,
        "explanation": explanation.sentence,
        "gates": verdict_rows(explanation.verdicts),
        "timeline": [
            {"at": step.at, "action": step.action, "actor": step.actor, "detail": step.detail}
            for step in explanation.steps
        ],
    }
