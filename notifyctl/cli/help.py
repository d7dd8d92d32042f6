"""`notifyctl help`: the help of a command, for who does not know that it takes --help."""

from typing import Annotated

import typer

app = typer.Typer()


@app.command("help")
def show(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="As messages explain.")] = None,
) -> None:
    """Show the help of a command, as --help behind it does."""
    root = context.find_root().command
    root.main([*(command or ()), "--help"], prog_name="notifyctl", standalone_mode=False)
