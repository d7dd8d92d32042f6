"""Examining an installation: every check is asked, whatever became of the others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from sqlmodel import Session

from notifyctl.errors import NotifyctlError
from notifyctl.models.audit import AuditAction
from notifyctl.orchestrator import upkeep
from notifyctl.orchestrator.installation import look
from notifyctl.orchestrator.problem import Gravity, Problem
from notifyctl.settings import Settings
from notifyctl.store import audit
from notifyctl.store.database import Database


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Installation:
    settings: Settings
    env_file: Path

    @cached_property
    def database(self) -> Database:
        return Database(self.settings.database_url, create=False)

    @cached_property
    def beside_the_traffic(self) -> list[Problem]:
        """What health says of the installation."""
        now = self.database.clock()
        with self.database.read() as session:
            found = look(session, self.settings, now)
        return [*upkeep.problems(found), *upkeep.untold(found), *upkeep.sandbox(found)]

    def close(self) -> None:
        if "database" in self.__dict__:
            self.database.close()

    @property
    def database_file(self) -> Path | None:
        """None on PostgreSQL."""
        _, is_sqlite, path = self.settings.database_url.partition("sqlite:///")
        return Path(path) if is_sqlite else None


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` does what `remedy` says; only what is safe by rule has one."""

    status: Status = Status.OK
    problem: str = ""
    remedy: str = ""
    mend: Callable[[Session], None] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> "Finding":
        """As grave as the gravest; a note is no more than said."""
        gravities = {problem.gravity for problem in problems}
        status = Status.FAIL if Gravity.CRITICAL in gravities else Status.WARN
        return cls(
            status if gravities - {Gravity.NOTE} else Status.OK,
            "; ".join(problem.text for problem in problems),
            "; ".join(dict.fromkeys(problem.remedy for problem in problems if problem.remedy)),
        )


Check = Callable[[Installation], Finding]


@dataclass(frozen=True, slots=True)
class Examined:
    check: str
    finding: Finding


def examine(
    installation: Installation, *, offline: Sequence[Check], schema: Sequence[Check], stored: Sequence[Check]
) -> Iterator[Examined]:
    """`offline` checks need no database; `stored` ones are asked only when all of `schema` are ok."""
    for check in offline:
        yield _ask(check, installation)
    usable = True
    for check in schema:
        examined = _ask(check, installation) if usable else _not_asked(check)
        usable = examined.finding.status is Status.OK
        yield examined
    for check in stored:
        yield _ask(check, installation) if usable else _not_asked(check)


def mend(installation: Installation, examined: Examined, *, actor: str, now: datetime) -> Examined:
    """Does what the remedy says and audits it, where that is safe; otherwise returns what was found."""
    finding = examined.finding
    if finding.mend is None:
        return examined
    details = {"command": "doctor --fix", "check": examined.check, "done": finding.remedy}
    try:
        with installation.database.transaction() as session:
            audit.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, details=details)
            finding.mend(session)
    except NotifyctlError as error:
        return replace(examined, finding=replace(finding, problem=f"{finding.problem}; not mended: {error}"))
    done = replace(finding, status=Status.OK, remedy=f"mended: {finding.remedy}", mend=None)
    return replace(examined, finding=done)


def _ask(check: Check, installation: Installation) -> Examined:
    try:
        return Examined(_name(check), check(installation))
    except NotifyctlError as error:
        return Examined(_name(check), Finding(Status.FAIL, str(error)))
    except Exception as error:  # noqa: BLE001  a check that breaks is itself a finding, and the others go on
        cause = " ".join(str(error).split())
        return Examined(_name(check), Finding(Status.FAIL, f"unexpected {type(error).__name__}: {cause}"))


def _not_asked(check: Check) -> Examined:
    return Examined(_name(check), Finding(Status.WARN, "not checked", "mend the database first"))


def _name(check: Check) -> str:
    return getattr(check, "__name__", "check").replace("_", " ")
