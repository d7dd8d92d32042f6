"""Template and context become the words that go out. Strict, sandboxed, compiled once a version."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import cast

import jinja2
from jinja2 import meta, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.models.enums import CHANNELS
from notifyctl.models.template import UNBRANDED, TemplateSource
from notifyctl.templates.context import MAX_VALUE_CHARACTERS
from notifyctl.text import locales
from notifyctl.text.choices import is_none_of
from notifyctl.text.durations import plural

_HTML_VALUES = ("html", "html_2", "html_3")
_BREAKS_A_HEADER = frozenset("\r\n\0")

# What a template's own code can raise. Values may stand in these errors' texts: only their kind is passed on.
_TEMPLATE_FAULTS = (
    jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError,
)  # fmt: skip


class RenderError(NotifyctlError):
    """The template cannot be rendered with this context. The text never shows a value."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the recipient reads; kept out of repr, since it may hold secrets. An SMS is `text` alone."""

    subject: str | None = field(repr=False)
    text: str = field(repr=False)
    html: str | None = field(repr=False)


ABOUT = "@"
"""Where the values of a message hold what else its words depend on. No variable has such a name."""


def about(language: str, locale: str) -> dict[str, object]:
    """For the values of a message whose words are in another language than its template's default."""
    return {ABOUT: {"language": language, "locale": locale}}


@dataclass(frozen=True, slots=True)
class Language:
    """What a part may say of its own language, as `mail.language` and so on."""

    language: str
    locale: str
    direction: str
    start: str
    """The side at which lines begin."""
    end: str
    is_sms: bool

    def written(self, text: str) -> str:
        return locales.plain_blanks(text) if self.is_sms else text


@lru_cache(maxsize=256)
def _language(language: str, locale: str, is_sms: bool) -> Language:
    start, end = ("right", "left") if locales.is_right_to_left(language) else ("left", "right")
    return Language(language, locale, "ltr" if start == "left" else "rtl", start, end, is_sms)


@jinja2.pass_context
def _long_date(context: Context, value: str) -> str:
    mail: Language = context["mail"]
    return mail.written(locales.long_date(value, mail.locale))


@jinja2.pass_context
def _thousands(context: Context, value: float) -> str:
    mail: Language = context["mail"]
    return mail.written(locales.number(value, mail.locale))


@jinja2.pass_context
def _money(context: Context, value: str) -> str:
    mail: Language = context["mail"]
    return mail.written(locales.money(value, mail.locale))


@jinja2.pass_context
def _plural(context: Context, value: float, **forms: str) -> str:
    """`{{ n|plural(one="day", other="days") }}`: `3 days`, by the rules of the language."""
    mail: Language = context["mail"]
    return mail.written(f"{locales.number(value, mail.locale)} {locales.plural(value, forms, mail.locale)}")


@jinja2.pass_eval_context
def _breakable(context: nodes.EvalContext, value: object) -> str:
    """In HTML a line may end behind each underscore: a phone has no room for PROVIDER_UNAVAILABLE."""
    return escape(value).replace("_", Markup("_<wbr>")) if context.autoescape else str(value)


def as_values(template_key: str, content: Content) -> dict[str, object]:
    """For the template of tests, which says them. Raises InvalidInput for a page that does not fit into its values."""
    html = content.html or ""
    parts = [html[at : at + MAX_VALUE_CHARACTERS] for at in range(0, len(html), MAX_VALUE_CHARACTERS)]
    if len(parts) > len(_HTML_VALUES):
        most = f"at most {len(_HTML_VALUES) * MAX_VALUE_CHARACTERS:,} can be sent as a test"
        raise InvalidInput(
            f"{template_key} has {plural(len(html), 'character')} of HTML, {most}; `templates render` shows it"
        )
    values: dict[str, object] = {"text": content.text, **dict(zip(_HTML_VALUES, parts, strict=False))}
    return values if content.subject is None else {**values, "subject": content.subject}


def jinja(*, autoescape: bool) -> ImmutableSandboxedEnvironment:
    """The dialect of our templates: no loader, no undefined names, tags that leave no blank line."""
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        cache_size=0,
    )
    environment.filters |= {
        "breakable": _breakable,
        "long_date": _long_date,
        "money": _money,
        "plural": _plural,
        "thousands": _thousands,
    }
    return environment


def names_in(body: str) -> set[str]:
    """The variables that a part uses. Raises jinja2.TemplateSyntaxError."""
    return meta.find_undeclared_variables(PLAIN.parse(body)) - GIVEN


def syntax_fault(part: str, body: str | None) -> str | None:
    """Why no message could be made of it, whatever its values are: with its line, and the name that was meant."""
    try:
        tree = PLAIN.parse(body or "")
    except jinja2.TemplateSyntaxError as error:
        return f"{part} is not Jinja2: line {error.lineno}: {error.message}"
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        kind, known = ("filter", PLAIN.filters) if isinstance(node, nodes.Filter) else ("test", PLAIN.tests)
        if node.name not in known:
            return f"{part} line {node.lineno}: {kind} {node.name!r} {is_none_of(node.name, known)}"
    for taken in tree.find_all(nodes.Getattr):
        owner = taken.node.name if isinstance(taken.node, nodes.Name) else ""
        if owner in _GIVEN and taken.attr not in _GIVEN[owner]:
            return f"{part} line {taken.lineno}: {owner}.{taken.attr} {is_none_of(taken.attr, _GIVEN[owner])}"
    return None


_GIVEN: Mapping[str, Iterable[str]] = {"brand": UNBRANDED, "mail": [field.name for field in fields(Language)]}
GIVEN = _GIVEN.keys()
"""What every part may use beside the variables of its template."""
PLAIN = jinja(autoescape=False)
HTML = jinja(autoescape=True)

_Part = Callable[[Mapping[str, object]], str]


@dataclass(frozen=True, slots=True)
class _Compiled:
    subject: _Part | None
    text: _Part
    html: _Part | None


class Renderer:
    """Keeps every compiled version: there are few, and they never change. May be shared by threads."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, int, str], _Compiled] = {}

    def render(self, source: TemplateSource, context: Mapping[str, object]) -> Content:
        """Raises RenderError, in one line: what failed, in which part of which version."""
        language, locale = _chosen(source, context)
        compiled = self._compiled.get((source.template_key, source.version, language))
        if compiled is None:
            compiled = self._compile(source.in_language(language), language)
        mail = _language(language, locale, not CHANNELS[source.channel].has_subject)
        values = {**context, "brand": source.brand or {}, "mail": mail}
        part = "subject"
        try:
            subject = compiled.subject(values) if compiled.subject else None
            part = "text"
            text = compiled.text(values)
            part = "HTML"
            html = compiled.html(values) if compiled.html else None
        except _TEMPLATE_FAULTS as error:
            raise RenderError(f"{_name(source, part)} cannot be rendered: {_cause(error)}") from None
        return _checked(source, subject, text, html)

    def _compile(self, source: TemplateSource, language: str) -> _Compiled:
        compiled = _Compiled(
            subject=_part(PLAIN, source, "subject", source.subject),
            text=_required(source, _part(PLAIN, source, "text", source.text_body)),
            html=_part(HTML, source, "HTML", source.html_body),
        )
        self._compiled[source.template_key, source.version, language] = compiled
        return compiled


def _chosen(source: TemplateSource, context: Mapping[str, object]) -> tuple[str, str]:
    """Language and locale, as they were chosen when the message was accepted."""
    match context.get(ABOUT):
        case {"language": str(language), "locale": str(locale)} if language in source.all_languages:
            return language, locale
    default = source.all_languages[0]
    return default, default


def _part(environment: jinja2.Environment, source: TemplateSource, part: str, body: str | None) -> _Part | None:
    if body is None:
        return None
    try:
        template = environment.from_string(body)
    except jinja2.TemplateSyntaxError as error:
        cause = f"line {error.lineno}: {error.message}"
        raise RenderError(f"{_name(source, part)} is not Jinja2: {cause}") from None
    return _fast(template)


def _fast(template: jinja2.Template) -> _Part:
    """As template.render, without the traceback rewriting and keyword copying that take half of its time."""
    root: Callable[[Context], Iterable[str]] = template.root_render_func
    environment, name, blocks = template.environment, template.name, template.blocks

    def render(values: Mapping[str, object]) -> str:
        # The values are looked up where they are, not copied for each of the three parts.
        return "".join(root(Context(environment, cast(dict[str, object], values), name, blocks)))

    return render


def _required(source: TemplateSource, part: _Part | None) -> _Part:
    if part is None:
        raise RenderError(f"{_name(source, 'text')} is missing")
    return part


def _checked(source: TemplateSource, subject: str | None, text: str, html: str | None) -> Content:
    if not CHANNELS[source.channel].has_subject:
        text = text.strip()
    elif subject is None or not subject.strip():
        raise RenderError(f"{_name(source, 'subject')} is empty once rendered")
    if subject is not None and not _BREAKS_A_HEADER.isdisjoint(subject):
        raise RenderError(f"{_name(source, 'subject')} has a line break or NUL once rendered")
    if not text or text.isspace():
        raise RenderError(f"{_name(source, 'text')} is empty once rendered")
    return Content(subject, text, html)


def _name(source: TemplateSource, part: str) -> str:
    version = f" version {source.version}" if source.version else ""  # that of the files is none yet
    return f"The {part} of {source.template_key}{version}"


def _cause(error: Exception) -> str:
    """Jinja's undefined errors name the variable; any other text could carry a value."""
    return str(error) if isinstance(error, jinja2.UndefinedError) else type(error).__name__
