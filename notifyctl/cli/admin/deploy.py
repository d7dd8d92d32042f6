"""`notifyctl deploy`: the files that run an installation and watch it. docs/deploy/ has the same ones."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import notifyctl
from notifyctl.cli import output
from notifyctl.errors import NotifyctlError
from notifyctl.text.files import write_new

app = typer.Typer()


class Deployment(StrEnum):
    SYSTEMD = "systemd"
    CRON = "cron"
    COMPOSE = "compose"
    PROMETHEUS = "prometheus"
    GRAFANA = "grafana"


NEXT = {
    Deployment.SYSTEMD: "systemctl daemon-reload && systemctl enable --now notifyctl notifyctl-http"
    " notifyctl-monitor.timer",
    Deployment.CRON: "cron takes it from /etc/cron.d within a minute",
    Deployment.COMPOSE: "notifyctl init --env-file notifyctl.env, POSTGRES_PASSWORD into .env, docker compose up -d",
    Deployment.PROMETHEUS: "name it in rule_files of prometheus.yml; its head says how to scrape",
    Deployment.GRAFANA: "Grafana's Dashboards, New, Import takes it",
}


def files_of(what: Deployment) -> Mapping[str, str]:
    """Texts by name; from inside an installed wheel, or from docs/ of a checkout."""
    package = Path(notifyctl.__file__).parent
    packed = package / "_deploy"
    folder = (packed if packed.is_dir() else package.parent / "docs" / "deploy") / what
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.iterdir())}


@app.command()
def deploy(
    what: Annotated[Deployment, typer.Argument(case_sensitive=False, help="What is to run or to watch it.")],
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", help="Write the files there; one that is there and differs is left."),
    ] = None,
) -> None:
    """Print files to run it with: for systemd, cron, Compose, Prometheus and Grafana.

    systemd has hardened units for the worker and the HTTP API, and timers for the monitor and the jobs; cron does all
    of it on a host where no worker stays; compose brings a PostgreSQL along. They take the program from /opt/notifyctl
    and its settings from /etc/notifyctl/env; docs/install.md goes through it.
    """
    files = files_of(what)
    if write is not None:
        _write(files, write)
        output.say(f"Next: {NEXT[what]}")
        return
    for name, text in files.items():
        print(text if len(files) == 1 else f"# {name}\n{text}", end="" if len(files) == 1 else "\n")


def _write(files: Mapping[str, str], folder: Path) -> None:
    """All or nothing, as far as what is there already goes. Raises NotifyctlError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {name: (folder / name).read_text(encoding="utf-8") for name in files if (folder / name).exists()}
        if changed := [str(folder / name) for name, text in there.items() if text != files[name]]:
            raise NotifyctlError(
                f"{', '.join(changed)} differ{'s' * (len(changed) == 1)} from what would be written; nothing was;"
                " write to another folder and compare"
            )
        for name in files.keys() - there.keys():
            write_new(folder / name, files[name].encode())
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "a file in it is no text"
        raise NotifyctlError(f"{folder} cannot be written to: {cause}; give another folder") from error
    for name in files:
        output.say(f"{'Left as it is' if name in there else 'Wrote'}: {folder / name}")
