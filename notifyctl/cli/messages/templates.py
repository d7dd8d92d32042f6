"""`notifyctl templates`: the files, the store, and what a message will look like."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer

from notifyctl.cli import completion, options, output
from notifyctl.cli.invocation import program
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.messages.send import refuse
from notifyctl.cli.messages.send import show as show_decision
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import ExitCode, InvalidInput, NotFound
from notifyctl.models.message import TEST_TEMPLATES
from notifyctl.models.template import Template, TemplateSource, Variable
from notifyctl.orchestrator.orchestrator import ExamplePipe
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.templates import catalogue
from notifyctl.templates import store as template_store
from notifyctl.templates.catalogue import SeedChange, TemplateFile
from notifyctl.templates.context import context_faults, from_text
from notifyctl.templates.lint import lint_file, refuse_errors, unread
from notifyctl.templates.matrix import matrix_markdown
from notifyctl.templates.render import Content, Renderer, about, as_values
from notifyctl.text.choices import is_none_of, no_template
from notifyctl.text.durations import plural
from notifyctl.text.files import read_text
from notifyctl.text.locales import choose, normal_locale

app = typer.Typer(name="templates", no_args_is_help=True)

Key = Annotated[str, typer.Argument(metavar="KEY", help="As WELCOME_EMAIL.", autocompletion=completion.templates)]
Directory = Annotated[
    Path | None,
    typer.Option("--dir", help="Folder of your own templates, in the place of NOTIFICATION_TEMPLATES."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Instead of the example's value; repeatable."),
]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="NAME", help="Leave an optional variable out; repeatable."),
]
CONTENT = (
    "subject", "text_body", "html_body", "languages", "variables", "example", "brand", "origin", "content_hash",
    "created_at",
)  # fmt: skip
WIDE = 140
SHOWN = (
    Shown("template", lambda row: row["template_key"], whole=True),
    named("channel"),
    named("audience", from_width=WIDE),
    named("lane", whole=True),
    named("enabled"),
    named("version"),
    named("description", from_width=WIDE),
)
"""What fits a terminal; a narrow one leaves the description to `show`."""
STYLES = {
    "NEW": "green",
    "CHANGED": "yellow",
    "NOT_IN_FILES": "magenta",
    "KEPT": "cyan",
    "UNCHANGED": "dim",
    "ERROR": "bold red",
}


@app.command()
def seed(
    directory: Directory = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also put shipped templates in the place of your own.")
    ] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Store a new version of each template file that has changed. Safe to run again.

    Where your own folder is not named, what came from it stays as it is.
    """
    files = _files(directory)
    refuse_errors(files)
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        changes = catalogue.seed(
            session, files, settings=runtime.settings, now=runtime.clock(), actor=options.actor(), replace=replace
        )
    _show_changes(changes, form)
    written = sum(change.status in ("NEW", "CHANGED") for change in changes)
    output.say(f"{plural(len(changes), 'template')}, {written} changed.")
    _tell_of_kept(changes)


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made where it is missing.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Only these, as WELCOME_EMAIL or _layout.html; all if not given."),
    ] = None,
) -> None:
    """Copy the shipped templates into a folder of your own, to change them there. Nothing is overwritten."""
    written = catalogue.export(directory, names or ())
    output.say(f"{plural(len(written), 'file')} written to {directory}.")
    output.hint(
        f"Change them, set NOTIFICATION_TEMPLATES={directory.absolute()}, and run `{program()} templates seed`; what"
        " you delete there is taken from the shipped ones."
    )


@app.command("list")
@lists
def list_templates() -> ListedRows:
    """List the stored templates."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        listed = template_store.everything(session)
    columns = ("template_key", "channel", "audience", "lane", "enabled", "version", "description")
    return ListedRows(
        rows=[_flags(template) for template in listed],
        columns=columns,
        key="template_key",
        shown=SHOWN,
        nothing="There is no template; `notifyctl templates seed` stores those of the files.",
    )


@app.command()
def show(
    key: Key,
    version: Annotated[int | None, typer.Option("--version", min=1, help="An earlier version.")] = None,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Show one template: rules, variables, example and words."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        template = template_store.require(session, key)
        key = template.template_key
        history = {row.version: row for row in template_store.history(session, key)}
    number = version or template.version
    if number not in history:
        raise NotFound(f"{key} has no version {number}; it has {', '.join(map(str, sorted(history)))}")
    row = history[number]
    is_current = number == template.version
    flags = _flags(template) if is_current else {"template_key": key, "version": number, **row.flags}
    content = {name: getattr(row, name) for name in CONTENT}
    if form is OutputFormat.TABLE and row.html_body:
        content["html_body"] = f"{plural(len(row.html_body), 'character')}, see `templates render {key} --html`"
    output.document(flags | content | {"versions": sorted(history)}, form)


@app.command()
def render(
    key: Key,
    assignments: Assignments = None,
    without: Without = None,
    locale: options.Locale = None,
    html: Annotated[bool, typer.Option("--html", help="The HTML part alone.")] = False,
    text: Annotated[bool, typer.Option("--text", help="The text part alone.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file.", dir_okay=False)] = None,
    stored: Annotated[bool, typer.Option("--stored", help="As it is in the store, not in the files.")] = False,
    version: Annotated[int | None, typer.Option("--version", min=1, help="An earlier stored version.")] = None,
    directory: Directory = None,
) -> None:
    """Show what a message would say, with the example's values unless told otherwise. Sends nothing."""
    rendered = _stored(key, version) if stored or version else _from_file(key, directory)
    _write(_chosen(_content(key, rendered, assignments, without, locale), html=html, text=text), out)


@app.command()
def send(
    key: Key,
    to: Annotated[str, typer.Option("--to", help="Your address or number.")],
    assignments: Assignments = None,
    without: Without = None,
    locale: options.Locale = None,
    directory: Directory = None,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Send what a template of the files says, with its example, to yourself: marked as a test, whether seeded or not.

    It goes through the same pipe as any message, as TEMPLATE_TEST. Exit 3 when a gate refuses it.
    """
    rendered = _from_file(key, directory)
    content = _content(key, rendered, assignments, without, locale)
    request = SendRequest(
        template_key=TEST_TEMPLATES[rendered[0].channel],
        recipient=to,
        context=as_values(key, content),
        source="cli",
        actor=options.actor(),
        metadata={"template_key": key},
    )
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        pipe = ExamplePipe(settings=runtime.settings, keys=runtime.keys, plans=runtime.plans, clock=runtime.clock)
        decision = pipe.send(session, request)
    show_decision(decision, form)
    refuse(decision)


def _content(
    key: str,
    rendered: "_Rendered",
    assignments: Sequence[str] | None,
    without: Sequence[str] | None,
    locale: str | None,
) -> Content:
    source, variables, example = rendered
    left_out = without or []
    if strange := [name for name in left_out if name not in variables]:
        raise InvalidInput(f"--without {strange[0]!r} {is_none_of(strange[0], variables)}")
    context = {name: value for name, value in example.items() if name not in left_out}
    context |= from_text(variables, options.parse_assignments(list(assignments or ())))
    if faults := context_faults(variables, context):
        raise InvalidInput(*(f"{key}: {fault}" for fault in faults))
    if locale is not None:
        context |= about(*choose(normal_locale(locale), source.all_languages))
    return Renderer().render(source, context)


@app.command()
def lint(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Only these templates.", autocompletion=completion.templates),
    ] = None,
    directory: Directory = None,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Check the template files. Exit 1 when something is found."""
    own, every = directory or options.settings_for_files().notification_templates, _files(directory)
    files = [_file(key, every) for key in keys] if keys else every
    findings = unread(own, catalogue.templates_dir()) if own and not keys else []
    findings += [finding for file in files for finding in lint_file(file)]
    rows = [asdict(finding) for finding in findings]
    if rows or form is not OutputFormat.TABLE:
        output.rows(rows, form, columns=("template_key", "severity", "rule", "detail"), styles=STYLES)
    output.say(f"{plural(len(files), 'template')}, {plural(len(findings), 'finding')}.")
    if findings:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def diff(directory: Directory = None, form: options.Format = OutputFormat.TABLE) -> None:
    """Show what `seed` would change. Exit 1 when files and store differ."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        changes = catalogue.diff(session, _files(directory), settings=runtime.settings)
    differing = [change for change in changes if change.status != "UNCHANGED"]
    if differing or form is not OutputFormat.TABLE:
        _show_changes(differing, form)
    _tell_of_kept(changes)
    if differing:
        raise typer.Exit(ExitCode.FAILED)
    output.say(f"{plural(len(changes), 'template')}, files and store agree.")


@app.command()
def enable(key: Key) -> None:
    """Let messages of this template go out again."""
    _switch(key, enabled=True)


@app.command()
def disable(key: Key) -> None:
    """Refuse messages of this template (TEMPLATE_DISABLED), until `enable`. Seeding does not undo it."""
    _switch(key, enabled=False)


@app.command()
def matrix(
    write: Annotated[bool, typer.Option("--write", help="Write the page instead of printing it.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when the page is stale; write nothing.")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--file", help="The page; docs/NOTIFICATION_TEMPLATE_MATRIX.md if not given."),
    ] = None,
    directory: Directory = None,
) -> None:
    """Print the table of all templates and their rules, as Markdown."""
    document = matrix_markdown(_files(directory))
    path = page or Path("docs/NOTIFICATION_TEMPLATE_MATRIX.md")
    if check:
        if not path.is_file() or read_text(path) != document:
            output.say(f"{path} is stale; run `notifyctl templates matrix --write`")
            raise typer.Exit(ExitCode.FAILED)
        output.say(f"{path} is up to date.")
    else:
        _write(document, path if write else None)


def _files(directory: Path | None) -> list[TemplateFile]:
    return catalogue.files_of(options.settings_for_files(), directory)


def _show_changes(changes: Iterable[SeedChange], form: OutputFormat) -> None:
    rows = (asdict(change) | {"status": change.status.value, "changed": change.fields} for change in changes)
    output.rows(rows, form, columns=("template_key", "status", "version", "changed", "origin"), styles=STYLES)


def _tell_of_kept(changes: Iterable[SeedChange]) -> None:
    if kept := [change for change in changes if change.status == "KEPT"]:
        folders = ", ".join(sorted({change.folder for change in kept}))
        output.say(
            f"{plural(len(kept), 'template')} kept, which came from {folders}: set NOTIFICATION_TEMPLATES to it"
            " and put back what it lacks, or take the shipped ones with `notifyctl templates seed --replace`."
        )


def _flags(template: Template) -> dict[str, object]:
    return {field.name: getattr(template, field.name) for field in fields(template) if field.name != "variables"}


_Rendered = tuple["TemplateSource", "Mapping[str, Variable]", dict[str, object]]


def _from_file(key: str, directory: Path | None) -> _Rendered:
    file = _file(key, _files(directory))
    return file.source, file.variables, file.example


def _stored(key: str, version: int | None) -> _Rendered:
    with opened_runtime() as runtime, runtime.database.read() as session:
        template = template_store.require(session, key)
        key = template.template_key
        number = version or template.version
        source = template_store.sources(session, [(key, number)]).get((key, number))
        row = template_store.version(session, key, number)
    if source is None or row is None:
        raise NotFound(f"{key} has no version {number}; `notifyctl templates show {key}` lists them")
    return source, {name: Variable.from_json(value) for name, value in row.variables.items()}, row.example


def _file(key: str, files: Sequence[TemplateFile]) -> TemplateFile:
    """Raises NotFound."""
    file = next((file for file in files if file.template_key == key.upper()), None)
    if file is None:
        raise no_template(key, [file.template_key for file in files])
    return file


def _chosen(content: Content, *, html: bool, text: bool) -> str:
    if html and text:
        raise InvalidInput("--html and --text are given together; choose one")
    if html:
        if content.html is None:
            raise InvalidInput("--html: an SMS has no HTML part; use --text")
        return content.html
    if text or content.subject is None:
        return content.text
    return f"Subject: {content.subject}\n\n{content.text}"


def _write(document: str, path: Path | None) -> None:
    if path is None:
        print(document.rstrip("\n"))
        return
    try:
        path.write_text(document, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error
    output.say(f"Wrote {path}.")


def _switch(key: str, *, enabled: bool) -> None:
    with opened_runtime() as runtime, runtime.database.transaction() as session:
        changed = catalogue.set_enabled(session, key, enabled, now=runtime.clock(), actor=options.actor())
    word = "enabled" if enabled else "disabled"
    output.say(f"{key} is {word}." if changed else f"{key} was {word} already.")
