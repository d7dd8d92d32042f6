"""`notifyctl help`: the help of a command, for who does not know that it takes --help."""

from typing import Annotated

import typer
from typer._click.core import Command
from typer.core import TyperGroup

app = typer.Typer()


def _below(context: typer.Context, incomplete: str) -> list[str]:
    command: Command | None = context.find_root().command
    for word in context.params.get("command") or ():
        if not isinstance(command, TyperGroup) or word not in command.list_commands(context):
            return []
        _, command, _ = command.resolve_command(context, [word])
    names = command.list_commands(context) if isinstance(command, TyperGroup) else []
    return [name for name in names if name.startswith(incomplete)]


@app.command("help")
def show(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="As messages explain.", autocompletion=_below),
    ] = None,
) -> None:
    """Show the help of a command, as --help behind it does."""
    root = context.find_root().command
    root.main([*(command or ()), "--help"], prog_name="notifyctl", standalone_mode=False)
