"""`notifyctl audit`: what was decided and done, and the proof that nobody has changed the record of it."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, TextIO
from uuid import UUID

import typer
from sqlmodel import Session

from notifyctl.audit import export as audit_export
from notifyctl.audit import row_store, seal_store
from notifyctl.audit.chain import ChainHead, SealKeys, parse_head
from notifyctl.audit.export import row_fields
from notifyctl.audit.row_store import AuditFilter, StoredRow
from notifyctl.audit.seal import current_head, is_late, tip_in
from notifyctl.audit.verify import VerifyReport, verify_all
from notifyctl.bootstrap import Runtime
from notifyctl.cli import completion, options, output, streams
from notifyctl.cli.listing import ListedRows, lists, nothing_matches
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.clients import store as client_store
from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.models.enums import AuditAction
from notifyctl.orchestrator.explain import SHORT
from notifyctl.orchestrator.filters import find_message
from notifyctl.text.choices import chosen
from notifyctl.text.durations import age, plural, printable
from notifyctl.text.masking import mask

app = typer.Typer(name="audit", no_args_is_help=True)
COLUMNS = ("id", "created_at", "action", "actor", "client_id", "message_id", "sealed", "metadata")
OF_MESSAGE = "NOTIFICATION_"
"""How the actions begin that a terminal shows without it."""
SHOWN = (
    named("id", whole=True),
    Shown("when", lambda row: str(row["created_at"])[5:19].replace("T", " ") + "Z", whole=True),
    Shown("action", lambda row: str(row["action"]).removeprefix(OF_MESSAGE)),
    named("actor"),
    Shown("about", lambda row: _about(row)),
    Shown("details", lambda row: _in_words(row["metadata"]), from_width=70),
)
"""What fits a terminal."""
_NUMBER = re.compile(r"\+[1-9]\d{6,14}")
Since = Annotated[str | None, typer.Option("--since", help="Written since: 2h, 7d, or 2026-03-01T12:00Z.")]
Until = Annotated[str | None, typer.Option("--until", help="Written before: 2h, 7d, or 2026-03-01T12:00Z.")]


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


@app.command("list")
@lists
def list_rows(
    action: Annotated[
        str | None,
        typer.Option("--action", help="As OTP_SENT or OPERATOR_ACTION.", autocompletion=completion.among(AuditAction)),
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Only by this actor, as cli:anna.")] = None,
    client: Annotated[
        str | None, typer.Option("--client", help="Only about this client.", autocompletion=completion.clients)
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", help="Only about the message of this id, or part of it.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: options.Limit = 50,
) -> ListedRows:
    """List audit rows, the newest first, and whether each is sealed."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        criteria = _filter(
            session,
            runtime.clock(),
            action=action,
            actor=actor,
            client=client,
            message=message,
            since=since,
            until=until,
        )
        rows = row_store.find(session, criteria, limit=limit)
        last_sealed = tip_in(session).last_id
        why = "" if rows else client_store.absence(session, client)
    return ListedRows(
        rows=(_row(row, last_sealed) for row in rows),
        columns=COLUMNS,
        shown=SHOWN,
        nothing=nothing_matches("audit row", why),
    )


@app.command()
def verify(
    expect_head: Annotated[
        str | None, typer.Option("--expect-head", help="A head that the chain must contain, as NUMBER:DIGEST.")
    ] = None,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Look at every sealed row, and name the first that was changed, deleted or inserted. Exit 1 if there is one.

    Seals are checked as well: one that was altered, forged, reordered or deleted is named. A tail that was cut off
    shows only against a head that was kept elsewhere: --expect-head.
    """
    expected = parse_head(expect_head) if expect_head else None
    with opened_runtime() as runtime, runtime.database.read() as session:
        report = verify_all(
            session,
            _keys(runtime),
            expected=expected,
            tracked=lambda seals, count: output.track(seals, "Verifying", count),
        )
        now = runtime.clock()
    if form is OutputFormat.TABLE:
        print_report(report, now, expected)
    else:
        output.document(report_fields(report, now, expected), form)
    if not report.is_good:
        more = f", and {report.problem_count - 1} more" if report.problem_count > 1 else ""
        raise NotifyctlError(f"the audit log does not verify: {report.problems[0].text}{more}")


@app.command()
def export(
    since: Annotated[
        str | None, typer.Option("--since", help="Begin with the seal of that time: 30d, or 2026-03-01T12:00Z.")
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="Print only the head of the chain, for --expect-head of `audit verify`.")
    ] = False,
    file: Annotated[
        str | None, typer.Option("--output", "-o", help="Write to this new file, that only you can read; else stdout.")
    ] = None,
) -> None:
    """Export audit rows and seals as lines of JSON, which can be verified without this database.

    docs/audit.md says how. The last line is of type end: without it the export is not whole.
    """
    with opened_runtime() as runtime:
        if head:
            print(current_head(runtime.database))
            return
        now = runtime.clock()
        span = audit_export.span(runtime.database, options.moment("--since", since, now))
        lines = audit_export.lines(runtime.database, span, now)
        with _opened(file) as stream:
            for line in output.track(lines, "Exporting", max(1, span.end.last_id - span.start.last_id)):
                print(line, file=stream)
                if streams.lost(stream):
                    break


@contextmanager
def _opened(file: str | None) -> Iterator[TextIO]:
    """Raises InvalidInput for a file that is there or cannot be made."""
    if file is None:
        yield sys.stdout
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(f"{file} is there already; name a new file") from None
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}; name another file") from error
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise NotifyctlError(f"{file} cannot be written: {error.strerror}; what is in it is not whole") from error


def _filter(
    session: Session,
    now: "datetime",
    *,
    action: str | None,
    actor: str | None,
    client: str | None,
    message: str | None,
    since: str | None,
    until: str | None,
) -> AuditFilter:
    first, last = options.moment("--since", since, now), options.moment("--until", until, now)
    options.in_order(first, last)
    before = seal_store.newest_before(session, first) if first else None
    return AuditFilter(
        action=_action(action),
        actor=actor,
        client_id=client,
        message_id=_message_id(session, message) if message else None,
        since=first,
        until=last,
        # What was sealed before is older: there is an index over ids, and none over times.
        after_id=before.last_audit_id if before else None,
    )


def _action(text: str | None) -> AuditAction | None:
    """Also as a terminal shows it."""
    as_shown = chosen(f"{OF_MESSAGE}{text}", AuditAction) if text else None
    return as_shown or options.one_of(AuditAction, "--action", text)


def _message_id(session: Session, text: str) -> str:
    """A whole id may be that of a message which retention has removed."""
    try:
        return str(UUID(text))
    except ValueError:
        return find_message(session, text).id


def _row(row: StoredRow, last_sealed: int) -> dict[str, object]:
    fields = row_fields(row)
    hidden = {name: _without_numbers(fields[name]) for name in ("actor", "metadata")}
    return fields | hidden | {"sealed": row.id <= last_sealed}


def _without_numbers(value: object) -> object:
    """None is written into an audit row; but callers choose their own names and keys."""
    match value:
        case str():
            return _NUMBER.sub(lambda number: mask(number[0]), value)
        case list():
            return [_without_numbers(item) for item in value]
        case dict():
            return {name: _without_numbers(item) for name, item in value.items()}
    return value


def _about(row: output.Row) -> str:
    return " ".join(filter(None, ((row["message_id"] or "")[-SHORT:], row["client_id"])))


def _in_words(details: object) -> str:
    """Without the verdicts of the gates, which `messages explain` has."""
    if not isinstance(details, dict):
        return output.flat(details)
    shown = {name: value for name, value in details.items() if name not in ("gates", "refusals")}
    return ", ".join(f"{name.replace('_', ' ')} {output.flat(value)}" for name, value in shown.items())


def _keys(runtime: Runtime) -> SealKeys:
    return SealKeys(runtime.settings.notification_secret_key)
