"""What a template file says that it should not, or does not say that it should."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from notifyctl.errors import TemplateError
from notifyctl.models.enums import Channel
from notifyctl.templates import front_matter
from notifyctl.templates.files import SHIPPED, TemplateFile, Words, templates_dir
from notifyctl.templates.front_matter import FrontMatter
from notifyctl.templates.render import Content, Renderer, RenderError, about, names_in
from notifyctl.text import colors
from notifyctl.text.durations import plural
from notifyctl.text.files import read_text
from notifyctl.text.locales import is_right_to_left
from notifyctl.text.sms_segments import SmsEncoding, beyond_gsm_7, measure

MAX_SUBJECT_CHARACTERS = 78
"""A line of RFC 5322; inboxes cut off sooner."""

_XML_NAMESPACE = re.compile(r'\bxmlns(:\w+)?="[^"]*"')
_INSECURE_LINK = re.compile(r"\bhttp://([^/\s\"'<>]+)")
_IMAGE_WITHOUT_ALT = re.compile(r"<img(?![^>]*\balt=)[^>]*>", re.IGNORECASE)
_STYLE = re.compile(r'\bstyle="([^"]*)"')
_COLOR = re.compile(r"(?:^|;)\s*(color|background-color)\s*:\s*(#[0-9a-fA-F]{3,6})\b")
_MARKUP_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_MARKUP = re.compile(r"<(style|title)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.DOTALL)


class Severity(StrEnum):
    ERROR = "ERROR"
    """It cannot be sent as it should."""
    WARNING = "WARNING"


@dataclass(frozen=True, slots=True)
class LintFinding:
    template_key: str
    severity: Severity
    rule: str
    detail: str


_WORDS = frozenset((".txt", ".html", ".htm"))
_READ = re.compile(
    r"email/[^/_.][^/]*/body(\.[^./]+)?\.(txt|html)|sms/[^/_.][^/.]*(\.[^./]+)?\.txt|(email|sms)/_[^/]+\.(txt|html)"
)

_Findings = Iterator[tuple[Severity, str, str]]


def lint_file(file: TemplateFile) -> list[LintFinding]:
    """Renders with the example, without each optional variable, and without all of them."""
    findings = dict.fromkeys([*unlike_shipped(file), *_variables(file), *_render_findings(file)])
    return [LintFinding(file.template_key, *finding) for finding in findings]


_RELIED_ON = ("channel", "audience", "billing", "sensitive", "audit_sent")


def unlike_shipped(file: TemplateFile) -> _Findings:
    """Where an own template no longer takes what is put into the shipped one: such a message would be refused."""
    shipped = _replaced(file)
    if shipped is None:
        return
    for name in _RELIED_ON:
        ours, own_one = getattr(shipped, name), getattr(file.front, name)
        # Whoever has more sealed and erased than we do has no message refused for it.
        if ours != own_one and (ours or name != "sensitive"):
            yield Severity.ERROR, "shipped", f"{name} is not as in the shipped one, which has {ours}; put that back"
    own = file.front.variables
    for name, variable in shipped.variables.items():
        if name not in own:
            detail = f"{name} is no longer declared, and messages bring it: all would be refused"
            yield Severity.ERROR, "shipped", f"{detail}; put [variables.{name}] back, used or not"
        elif own[name].type is not variable.type:
            yield Severity.ERROR, "shipped", f"{name} is brought as {variable.type.value}; declare it as that"
        elif variable.optional and not own[name].optional:
            yield Severity.ERROR, "shipped", f"{name} is not always brought; put its optional = true back"
    for name in sorted(own.keys() - shipped.variables.keys()):
        if not own[name].optional:
            detail = f"{name} is unknown to notifyctl: what it sends by itself would be refused"
            yield Severity.WARNING, "shipped", f"{detail}; give it optional = true"


def _replaced(file: TemplateFile) -> FrontMatter | None:
    """What is shipped under its key, where the file is a company's own."""
    if file.origin.startswith(SHIPPED):
        return None
    places = (f"email/{file.template_key}/body.txt", f"sms/{file.template_key}.txt")
    path = next((templates_dir() / place for place in places if (templates_dir() / place).is_file()), None)
    parts = front_matter.split(read_text(path)) if path else None
    return front_matter.parse(parts[0])[0] if parts else None


def unread(directory: Path, shipped: Path) -> list[LintFinding]:
    """What lies in a company's folder as if it were words of a mail, and goes into none: mostly a misspelt name."""
    paths = [path for path in directory.rglob("*") if path.suffix.lower() in _WORDS and path.is_file()]
    by_name = {path.relative_to(directory).as_posix(): path for path in sorted(paths)}
    texts = [
        path.read_text(encoding="utf-8", errors="replace") for name, path in by_name.items() if _READ.fullmatch(name)
    ]
    findings = []
    for name, path in by_name.items():
        stem, _, kind = path.name.partition(".")
        base = f"{stem}.{kind.rpartition('.')[2]}"
        if not _READ.fullmatch(name):
            why = "expected are email/KEY/body.txt, body.html, sms/KEY.txt, and body.de.txt for a language"
        elif stem.startswith("_") and not (shipped / path.parent.name / base).exists():
            why = "" if any(base in text for text in texts) else "no template includes a part of this name"
        else:
            alone = path.parent.name == "sms" and not stem.startswith("_") and f"sms/{base}" not in by_name
            why = f"it is beside no sms/{base}; copy that with `notifyctl templates export`" if alone else ""
        if why and not any(part.startswith(".") for part in name.split("/")):
            findings.append(LintFinding("", Severity.WARNING, "unread", f"{name} is read by nothing: {why}"))
    return findings


def refuse_errors(files: Iterable[TemplateFile]) -> None:
    """Raises TemplateError with every finding that is an error."""
    errors = [finding for file in files for finding in lint_file(file) if finding.severity is Severity.ERROR]
    if errors:
        raise TemplateError(*(f"{finding.template_key}: {finding.detail}" for finding in errors))


def _variables(file: TemplateFile) -> _Findings:
    parts = {"subject": file.front.subject, "text": file.text_body, "HTML": file.html_body}
    used = {part: names_in(body) for part, body in parts.items() if body is not None}
    for language, words in file.translations.items():
        yield from _differences(language, words, used)
        used |= {f"{language} {_PARTS[field]}": names_in(body) for field, body in words.items() if body is not None}
    declared = set(file.front.variables)
    for part, names in used.items():
        for name in sorted(names - declared):
            detail = f"the {part} uses {name}; declare [variables.{name}] or remove it"
            yield Severity.ERROR, "undeclared", detail
    shipped = _replaced(file)
    brought = shipped.variables if shipped else {}
    for name in sorted(declared.difference(brought, *used.values())):
        yield Severity.ERROR, "unused", f"{name} is used nowhere; use it or remove [variables.{name}]"
    for name in sorted(declared & used.get("HTML", set()) - used["text"]):
        if name.startswith("html"):
            continue  # markup is nothing for readers of the text
        yield Severity.WARNING, "text-part", f"{name} is in the HTML only; readers of the text miss it"


_PARTS = {"subject": "subject", "text_body": "text", "html_body": "HTML"}


def _differences(language: str, words: Words, used: Mapping[str, set[str]]) -> _Findings:
    """A language that leaves out what another says. Greetings differ: a name may be no part of one."""
    for field, part in _PARTS.items():
        missing = used.get(part, set()) - names_in(words[field] or "")
        for name in sorted(missing - {"client_name"}):
            yield Severity.WARNING, "language", f"the {language} {part} leaves out {name}, which the other has"


def _render_findings(file: TemplateFile) -> _Findings:
    renderer = Renderer()
    for language in file.languages:
        told: set[tuple[str, str]] = set()
        for names in _left_out(file):
            with_what = f"without {', '.join(names)}" if names else "with its example"
            if language != file.languages[0]:
                with_what = f"in {language}, {with_what}"
            for severity, rule, detail in _case(renderer, file, language, names):
                # The first case tells it, and what an SMS costs without one of its values is nothing new.
                what = (rule, "" if rule.startswith("sms-") else detail)
                if what not in told:
                    yield severity, rule, f"{with_what}: {detail}"
                told.add(what)


def _case(renderer: Renderer, file: TemplateFile, language: str, left_out: Collection[str]) -> _Findings:
    context = {name: value for name, value in file.example.items() if name not in left_out}
    if language != file.languages[0]:
        context |= about(language, language)
    try:
        content = renderer.render(file.source, context)
    except RenderError as error:
        yield Severity.ERROR, "render", str(error)
        return
    yield from _sms(content) if file.front.channel is Channel.SMS else _email(content)
    yield from _direction(language, content.html)


def _direction(language: str, html: str | None) -> _Findings:
    if html and is_right_to_left(language) and not re.search(r"<html\b[^>]*\bdir=.rtl", html):
        detail = f'the {language} HTML runs from left to right; write dir="{{{{ mail.direction }}}}" into its <html>'
        yield Severity.WARNING, "direction", detail


def _left_out(file: TemplateFile) -> list[tuple[str, ...]]:
    optional = tuple(name for name, variable in file.front.variables.items() if variable.optional)
    return list(dict.fromkeys([(), *((name,) for name in optional), optional]))


def _sms(content: Content) -> _Findings:
    size = measure(content.text)
    if size.encoding is not SmsEncoding.GSM_7:
        shown = " ".join(beyond_gsm_7(content.text)[:5])
        yield (
            Severity.WARNING,
            "sms-encoding",
            f"needs {size.encoding}, which halves the room for text, because of {shown}",
        )
    if size.segments > 1:
        detail = (
            f"takes {plural(size.segments, 'segment')} with {plural(size.characters, 'character')}; shorten it to one"
        )
        yield Severity.WARNING, "sms-segments", detail


def _email(content: Content) -> _Findings:
    subject, html = content.subject or "", content.html or ""
    if len(subject) > MAX_SUBJECT_CHARACTERS:
        detail = f"the subject has {plural(len(subject), 'character')}; keep it under {MAX_SUBJECT_CHARACTERS + 1}"
        yield Severity.WARNING, "subject", detail
    if not _MARKUP.sub("", html).strip():
        yield Severity.ERROR, "empty", "the HTML shows no text"
    for part, body in {"text": content.text, "HTML": _XML_NAMESPACE.sub("", html)}.items():
        for host in sorted(set(_INSECURE_LINK.findall(body))):
            yield Severity.WARNING, "http-link", f"the {part} links to http://{host}; use https"
    for color, background in sorted(_hard_to_read(html)):
        contrast = colors.contrast(color, background)
        detail = (
            f"the HTML writes {color} on {background}, a contrast of {contrast:.1f}; {colors.READABLE} is the least"
        )
        yield Severity.WARNING, "contrast", detail
    for image in _IMAGE_WITHOUT_ALT.findall(html):
        yield Severity.WARNING, "alt", f"{image[:60]} has no alt text"


def _hard_to_read(html: str) -> set[tuple[str, str]]:
    """Of what has both colours in a style of its own, as a button has."""
    found = set()
    for style in _STYLE.findall(_MARKUP_COMMENT.sub("", html)):
        named = {name: colors.parse(value) for name, value in _COLOR.findall(style)}
        color, background = named.get("color"), named.get("background-color")
        if (
            color
            and background
            and "display: none" not in style
            and colors.contrast(color, background) < colors.READABLE
        ):
            found.add((color, background))
    return found
