"""The enums can be had without the library that the tables are made with."""

import sys

from tests.support.processes import Processes


def test_importing_the_enums_imports_no_library(processes: Processes) -> None:
    code = "import sys, notifyctl.models.enums; print({'sqlalchemy', 'sqlmodel', 'pydantic'} & set(sys.modules))"
    ran = processes.run(sys.executable, "-c", code)
    assert (ran.returncode, ran.stdout) == (0, "set()\n")
