"""A check of `notifyctl doctor`: what it looks at, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from sqlmodel import Session

from notifyctl.db.database import Database, open_database
from notifyctl.health import upkeep
from notifyctl.health.installation import read_installation
from notifyctl.operations.problem import Gravity, Problem
from notifyctl.settings import Settings


class CheckStatus(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class CheckContext:
    settings: Settings
    env_file: Path

    @cached_property
    def database(self) -> Database:
        return open_database(self.settings)

    @cached_property
    def beside_the_traffic(self) -> list[Problem]:
        """What health says of the installation."""
        now = self.database.clock()
        with self.database.read() as session:
            installation = read_installation(session, self.settings, now)
        return [*upkeep.problems(installation), *upkeep.untold(installation), *upkeep.sandbox(installation)]

    def close(self) -> None:
        if "database" in self.__dict__:
            self.database.close()

    @property
    def database_file(self) -> Path | None:
        """None on PostgreSQL."""
        _, is_sqlite, path = self.settings.database_url.partition("sqlite:///")
        return Path(path) if is_sqlite else None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`mend` does what `remedy` says; only what is safe by rule has one."""

    status: CheckStatus = CheckStatus.OK
    problem: str = ""
    remedy: str = ""
    mend: Callable[[Session], None] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> "CheckResult":
        """As grave as the gravest; a note is no more than said."""
        gravities = {problem.gravity for problem in problems}
        status = CheckStatus.FAIL if Gravity.CRITICAL in gravities else CheckStatus.WARN
        return cls(
            status if gravities - {Gravity.NOTE} else CheckStatus.OK,
            "; ".join(problem.text for problem in problems),
            "; ".join(dict.fromkeys(problem.remedy for problem in problems if problem.remedy)),
        )


Check = Callable[[CheckContext], CheckResult]
