"""The tables' models."""

import sys

from notifyctl.models.columns import StoreModel
from notifyctl.models.tables import metadata
from tests.support.processes import Processes


def test_every_table_has_a_model_of_ours() -> None:
    assert {model.__tablename__ for model in StoreModel.__subclasses__()} == set(metadata.tables)


def test_importing_the_tables_makes_no_validator(processes: Processes) -> None:
    code = (
        "from notifyctl.models import columns, tables\n"
        "print([model for model in columns.StoreModel.__subclasses__() if model.__pydantic_complete__])"
    )
    ran = processes.run(sys.executable, "-c", code)
    assert (ran.returncode, ran.stdout) == (0, "[]\n")
