"""Examining an installation: every check is asked, whatever became of the others."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from notifyctl.audit import log as audit_log
from notifyctl.doctor import settings_checks, store_checks
from notifyctl.doctor.check import Check, CheckContext, CheckResult, CheckStatus
from notifyctl.errors import NotifyctlError
from notifyctl.models.enums import AuditAction
from notifyctl.settings import Settings

UNUSABLE = ("database", "schema")
"""While one of these is not ok, nothing is mended: what is done is audited."""


@dataclass(frozen=True, slots=True)
class NamedResult:
    check: str
    result: CheckResult


def examine_installation(settings: Settings, env_file: Path, *, mend_as: str | None = None) -> list[NamedResult]:
    """Asks every check. `mend_as` names who wants mended what is safe to mend, for the audit log."""
    with closing(CheckContext(settings, env_file)) as context:
        offline = (*settings_checks.OFFLINE, *settings_checks.PROVIDERS)
        results = list(examine(context, offline=offline, schema=store_checks.SCHEMA, stored=store_checks.STORED))
        if mend_as is None or not can_mend(results):
            return results
        now = context.database.clock()
        return [mend(context, result, actor=mend_as, now=now) for result in results]


def can_mend(results: Sequence[NamedResult]) -> bool:
    return all(item.result.status is CheckStatus.OK for item in results if item.check in UNUSABLE)


def examine(
    context: CheckContext, *, offline: Sequence[Check], schema: Sequence[Check], stored: Sequence[Check]
) -> Iterator[NamedResult]:
    """`offline` checks need no database; `stored` ones are asked only when all of `schema` are ok."""
    for check in offline:
        yield _ask(check, context)
    usable = True
    for check in schema:
        examined = _ask(check, context) if usable else _not_asked(check)
        usable = examined.result.status is CheckStatus.OK
        yield examined
    for check in stored:
        yield _ask(check, context) if usable else _not_asked(check)


def mend(context: CheckContext, examined: NamedResult, *, actor: str, now: datetime) -> NamedResult:
    """Does what the remedy says and audits it, where that is safe; otherwise returns what was found."""
    result = examined.result
    if result.mend is None:
        return examined
    details = {"command": "doctor --fix", "check": examined.check, "done": result.remedy}
    try:
        with context.database.transaction() as session:
            audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, details=details)
            result.mend(session)
    except NotifyctlError as error:
        return replace(examined, result=replace(result, problem=f"{result.problem}; not mended: {error}"))
    mended = replace(result, status=CheckStatus.OK, remedy=f"mended: {result.remedy}", mend=None)
    return replace(examined, result=mended)


def _ask(check: Check, context: CheckContext) -> NamedResult:
    try:
        return NamedResult(_name(check), check(context))
    except NotifyctlError as error:
        return NamedResult(_name(check), CheckResult(CheckStatus.FAIL, str(error)))
    except Exception as error:  # noqa: BLE001  a check that breaks is itself a result, and the others go on
        cause = " ".join(str(error).split())
        return NamedResult(_name(check), CheckResult(CheckStatus.FAIL, f"unexpected {type(error).__name__}: {cause}"))


def _not_asked(check: Check) -> NamedResult:
    return NamedResult(_name(check), CheckResult(CheckStatus.WARN, "not checked", "mend the database first"))


def _name(check: Check) -> str:
    return getattr(check, "__name__", "check").replace("_", " ")
