"""What `notifyctl audit verify` has found, for people and for programs."""

from dataclasses import asdict
from datetime import datetime

from notifyctl.orchestrator.audit_chain import ChainHead
from notifyctl.orchestrator.audit_seal import is_late
from notifyctl.orchestrator.audit_verify import VerifyReport
from notifyctl.orchestrator.words import age
from notifyctl.text.wording import plural, printable


def print_report(report: VerifyReport, now: datetime, expected: ChainHead | None) -> None:
    lines = [
        ("verified", f"{plural(report.rows, 'row')} in {plural(report.seals, 'seal')}"),
        ("not sealed", _unsealed(report, now)),
        ("head", str(report.head)),
    ]
    if expected is not None and report.is_good:
        lines.append(("expected", f"seal {expected.number} is in the chain"))
    if report.checkpoint is not None:
        removed = plural(report.checkpoint.rows_removed or 0, "row")
        lines.append(("removed", f"{removed} by retention, up to seal {report.checkpoint.seal_id}"))
    lines += [("problem", problem.text) for problem in report.problems]
    if report.dated_back:
        lines.append(("dated back", f"row {report.dated_back[0]} says that it is older than the seal before its own"))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(printable(f"{name:<{width}}  {text}"))


def _unsealed(report: VerifyReport, now: datetime) -> str:
    if not report.unsealed.rows:
        return "0 rows"
    oldest = f", the oldest {age(report.unsealed.oldest_at, now)} old" if report.unsealed.oldest_at else ""
    rows = f"{plural(report.unsealed.rows, 'row')}{oldest}"
    return f"WARN: {rows}; is `notifyctl worker` running?" if is_late(report.unsealed, now) else rows


def report_fields(report: VerifyReport, now: datetime, expected: ChainHead | None) -> dict[str, object]:
    oldest, checkpoint = report.unsealed.oldest_at, report.checkpoint
    return {
        "ok": report.is_good,
        "rows": report.rows,
        "seals": report.seals,
        "head": str(report.head),
        "expected_head": str(expected) if expected else None,
        "first_problem": report.problems[0].text if report.problems else None,
        "problems": [asdict(problem) for problem in report.problems],
        "problem_count": report.problem_count,
        "unsealed": {
            "rows": report.unsealed.rows,
            "oldest_at": oldest,
            "oldest_seconds": max(0, int((now - oldest).total_seconds())) if oldest else None,
            "status": "warn" if is_late(report.unsealed, now) else "ok",
        },
        "removed": {"rows": checkpoint.rows_removed, "up_to_seal": checkpoint.seal_id} if checkpoint else None,
        "dated_back": report.dated_back,
    }
