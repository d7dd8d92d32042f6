"""The template files: found, read and checked, all faults at once; an email's HTML as mail clients need it.

The HTML is made once, when a file is read: it is still Jinja2 then, and needs no other file to be rendered.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import css_inline

from notifyctl.errors import InvalidInput, TemplateError
from notifyctl.models.enums import Channel
from notifyctl.models.template import UNBRANDED, TemplateSource, Variable
from notifyctl.templates import front_matter
from notifyctl.templates.context import context_faults
from notifyctl.templates.front_matter import FENCE, FrontMatter
from notifyctl.templates.render import GIVEN, names_in, syntax_fault
from notifyctl.text.locales import fallbacks, is_normal

Words = dict[str, str | None]
"""subject, text_body and html_body."""
Read = Callable[[str], str]
"""Name of a shared file -> its text. Raises OSError."""

SHIPPED = "shipped"
"""The origin of what comes with notifyctl."""
SHIPPED_WITH_PARTS = "shipped, with parts of "
"""Before the folder that a layout, say, is taken from."""
_OF_NO_USE = "names a file that is of no use: "
_EXTENDS = re.compile(r'\s*\{%\s*extends\s+"([^"]+)"\s*%\}')
_BLOCK = re.compile(r"\{%\s*block\s+(\w+)\s*%\}(.*?)\{%\s*endblock(?:\s+\w+)?\s*%\}", re.DOTALL)
_INCLUDE = re.compile(r'\{%\s*include\s+"([^"]+)"\s*%\}')
_LEFT_OVER = re.compile(r"\{%-?\s*(extends|block|endblock|include|import|from)\b[^%]*%\}")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)

_STATEMENT_OR_EXPRESSION = re.compile(r"\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
_TOKEN = re.compile(r"<!--(jinja[se]\d+z)-->|(jinja[se]\d+z)")
_MARKUP_OR_STATEMENT = re.compile(r"<!--.*?-->|<(title|style)\b.*?</\1>|<[^>]*>|(jinjas\d+z)", re.DOTALL)


class HtmlError(ValueError):
    """The parts of a page do not fit together."""


def flatten(body: str, read: Read) -> str:
    """Puts the blocks of `body` into the layout it extends, and the included files where they are named."""
    page = _COMMENT.sub("", _with_layout(body, read))
    page = _COMMENT.sub("", _INCLUDE.sub(lambda match: read(match[1]), page))
    if left := _LEFT_OVER.search(page):
        raise HtmlError(f"{left[0]} does not fit here: blocks and included files cannot be nested")
    return page


def inline(page: str) -> str:
    """Copies the rules of <style> into style attributes. What has no attribute (@media) stays.

    An HTML parser moves text between two table rows out of the table, so there Jinja's statements travel as
    comments; inside tags and titles, where a comment cannot stand, they travel as words.
    """
    pieces: list[str] = []

    def hide(match: re.Match[str]) -> str:
        pieces.append(match[0])
        return f"jinja{'s' if match[0].startswith('{%') else 'e'}{len(pieces) - 1}z"

    def as_comment(match: re.Match[str]) -> str:
        return f"<!--{match[2]}-->" if match[2] else match[0]

    def show(match: re.Match[str]) -> str:
        return pieces[int((match[1] or match[2])[6:-1])]

    if "<" not in _STATEMENT_OR_EXPRESSION.sub("", page):
        return page  # it is a value that is a page itself
    hidden = _MARKUP_OR_STATEMENT.sub(as_comment, _STATEMENT_OR_EXPRESSION.sub(hide, page))
    inliner = css_inline.CSSInliner(keep_style_tags=True, remove_inlined_selectors=True, load_remote_stylesheets=False)
    inlined = inliner.inline(hidden)
    if "<tbody" not in page:
        # The parser begins one at the first row, which may be inside of a condition or a loop.
        inlined = inlined.replace("<tbody>", "").replace("</tbody>", "")
    return _TOKEN.sub(show, inlined)


def _with_layout(body: str, read: Read) -> str:
    extends = _EXTENDS.match(body)
    if extends is None:
        return body
    layout = read(extends[1])
    rest = body[extends.end() :]
    if stray := _BLOCK.sub("", _COMMENT.sub("", rest)).strip():
        raise HtmlError(f"{stray.splitlines()[0]!r} stands outside of every block and would be lost")
    blocks = {match[1]: match[2] for match in _BLOCK.finditer(rest)}
    places = {match[1] for match in _BLOCK.finditer(layout)}
    if strange := sorted(blocks.keys() - places):
        known = ", ".join(sorted(places))
        raise HtmlError(f"block {', '.join(strange)} is not in {extends[1]}, which has {known}")
    return _BLOCK.sub(lambda match: blocks.get(match[1], match[2]), layout)


_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """One template as its files say it. `html_body` is self-contained; None for SMS."""

    path: str
    """Of the file with the front matter, from the top of the catalogue."""
    front: FrontMatter
    text_body: str
    html_body: str | None
    company: Mapping[str, str] = field(default_factory=lambda: UNBRANDED)
    origin: str = field(default=SHIPPED, compare=False)
    """The folder that it comes from; or SHIPPED, or that with parts of a folder."""
    translations: Mapping[str, Words] = field(default_factory=dict)
    """By language."""

    @property
    def template_key(self) -> str:
        return self.front.template_key

    @property
    def example(self) -> dict[str, object]:
        return {name: variable.example for name, variable in self.front.variables.items()}

    @property
    def variables(self) -> dict[str, Variable]:
        subjects = [self.front.subject, *(words["subject"] for words in self.translations.values())]
        in_subject = set().union(*(names_in(subject or "") for subject in subjects))
        return {
            name: Variable(declared.type, declared.optional, declared.description, name in in_subject)
            for name, declared in self.front.variables.items()
        }

    @property
    def brand(self) -> dict[str, str]:
        """Of the company, what one of its parts shows: whatever else changes makes no new version of it."""
        translated = (part for words in self.translations.values() for part in words.values())
        parts = "\n".join(filter(None, (self.front.subject, self.text_body, self.html_body, *translated)))
        return {name: value for name, value in self.company.items() if re.search(rf"\bbrand\.{name}\b", parts)}

    @property
    def languages(self) -> tuple[str, ...]:
        return (self.front.language, *self.translations)

    @property
    def source(self) -> TemplateSource:
        """As version 0, which no stored version is."""
        front, words = self.front, (self.text_body, self.html_body, self.brand)
        about = (self.languages, self.translations)
        return TemplateSource(self.template_key, 0, front.channel, front.subject, *words, *about)


def templates_dir() -> Path:
    """Inside an installed wheel, or at the top of a checkout."""
    packed = _PACKAGE / "_templates"
    return packed if packed.is_dir() else _PACKAGE.parent / "templates"


def load(directory: Path, company: Mapping[str, str] = UNBRANDED, *, beside: Path | None = None) -> list[TemplateFile]:
    """Every template under email/<KEY>/ and sms/<KEY>.txt, by key; it shows `company`.

    A template that `directory` does not have is taken from `beside`, and so is a part that several share.
    Raises TemplateError with every fault of every file: which file, which field, which value, and what to do.
    """
    roots = (directory, beside) if beside else (directory,)
    reading = _Reading(roots, company)
    all(map(reading.all_of, roots))
    if reading.faults:
        # A fault of a shared part is told once.
        told = {fault.partition(_OF_NO_USE)[2] or fault: fault for fault in reversed(reading.faults)}
        raise TemplateError(*reversed(told.values()))
    return sorted(reading.files.values(), key=lambda file: file.template_key)


def _listed(folder: Path) -> list[Path]:
    """What is in it, without what is shared or hidden. Raises OSError."""
    return sorted(path for path in folder.iterdir() if path.name[0] not in "_.") if folder.exists() else []


@dataclass
class _Reading:
    roots: Sequence[Path]
    """The first has the say."""
    company: Mapping[str, str]
    files: dict[str, TemplateFile] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    used: set[Path] = field(default_factory=set)
    """The folders that the template at hand comes from."""

    def all_of(self, root: Path) -> bool:
        """False where there is no looking for single files."""
        try:
            if not root.is_dir():
                mend = f"mend NOTIFICATION_TEMPLATES, or `notifyctl templates export {root}`"
                self.faults.append(f"{root} is no folder; {mend}")
                return False
            emails = [path for path in _listed(root / "email") if path.is_dir()]
            texts = [path for path in _listed(root / "sms") if path.suffix == ".txt" and "." not in path.stem]
            is_empty = not emails and not texts and not any((root / "email").glob("_*"))
        except OSError as error:
            self.faults.append(f"{error.filename or root} cannot be read: {error.strerror}; let this user read it")
            return False
        if is_empty:
            self.faults.append(f"{root} has no templates; expected email/KEY/body.txt and sms/KEY.txt")
        theirs = set(self.files)
        for folder in emails:
            if folder.name not in theirs:
                self._email(root, folder)
        for path in texts:
            if path.stem not in theirs:
                self._sms(root, path)
        return True

    def _email(self, root: Path, folder: Path) -> None:
        self.used = {root}
        head = self._head(root, folder / "body.txt", Channel.EMAIL, folder.name)
        html = self._html(root, folder / "body.html", head[0].language if head else "")
        if not head or html is None:
            return
        translations: dict[str, Words] = {}
        for language in self._languages(root, folder.glob("body.*.*"), head[0]):
            subject = head[0].subjects.get(language)
            if subject is None:
                missing = f"subject_{language} is missing; body.{language}.txt needs one"
                self._blame((folder / "body.txt").relative_to(root).as_posix(), [missing])
            text = self._text(root, folder / f"body.{language}.txt", Channel.EMAIL, language)
            in_html = self._html(root, folder / f"body.{language}.html", language)
            translations[language] = Words(subject=subject, text_body=text, html_body=in_html)
        self._keep(root, folder / "body.txt", head, html, translations)

    def _sms(self, root: Path, path: Path) -> None:
        self.used = {root}
        if head := self._head(root, path, Channel.SMS, path.stem):
            languages = self._languages(root, path.parent.glob(f"{path.stem}.*.txt"), head[0])
            texts = {tag: self._text(root, path.with_suffix(f".{tag}.txt"), Channel.SMS, tag) for tag in languages}
            words = {tag: Words(subject=None, text_body=text, html_body=None) for tag, text in texts.items()}
            self._keep(root, path, head, None, words)

    def _languages(self, root: Path, paths: Iterable[Path], front: FrontMatter) -> list[str]:
        """Those that the files beside the one of the default, or its subjects, are in."""
        found = set(front.subjects)
        for path in (path for path in paths if path.suffix in (".txt", ".html")):
            language = path.name.split(".")[-2]
            found.add(language)
            if language == front.language or not is_normal(language):
                why = "that of the default" if language == front.language else "none that is known"
                fault = f"has a language in its name, {language}, that is {why}; write it as de, de-AT or zh-Hant-TW"
                self._blame(path.relative_to(root).as_posix(), [fault])
        return sorted(language for language in found if is_normal(language) and language != front.language)

    def _text(self, root: Path, path: Path, channel: Channel, language: str) -> str | None:
        name_of_file = path.relative_to(root).as_posix()
        text = self._read(path, name_of_file, "a language needs every part")
        if text is None:
            return None
        body, faults = self._with_includes(text.strip(), channel, language)
        if front_matter.split(text):
            faults.append("has front matter; that of the default language holds for all, take it out")
        if not body:
            faults.append("is empty; write what it says")
        self._blame(name_of_file, faults)
        return body

    def _origin(self, root: Path) -> str:
        if root != templates_dir():
            return str(root.absolute())
        others = self.used - {root}
        return f"{SHIPPED_WITH_PARTS}{others.pop().absolute()}" if others else SHIPPED

    def _keep(
        self,
        root: Path,
        path: Path,
        head: tuple[FrontMatter, str],
        html: str | None,
        translations: Mapping[str, Words],
    ) -> None:
        place = path.relative_to(root).as_posix()
        file = TemplateFile(place, *head, html, self.company, self._origin(root), translations)
        parts = {"subject": file.front.subject, "text": file.text_body, "HTML": file.html_body}
        for language, words in translations.items():
            bodies = (path.with_suffix(f".{language}.{suffix}").name for suffix in ("txt", "html"))
            parts |= dict(zip((f"subject_{language}", *bodies), words.values(), strict=True))
        faults = [fault for part, body in parts.items() if (fault := syntax_fault(part, body))]
        if not faults:
            faults = [f"example: {fault}" for fault in context_faults(file.variables, file.example)]
        if given := sorted(GIVEN & file.variables.keys()):
            faults.append(f"[variables.{given[0]}] has a name that every template has already; choose another")
        if other := self.files.get(file.template_key):
            faults.append(f"template_key {file.template_key!r} is also that of {other.path}; keep one")
        self._blame(file.path, faults)
        self.files.setdefault(file.template_key, file)

    def _head(self, root: Path, path: Path, channel: Channel, name: str) -> tuple[FrontMatter, str] | None:
        name_of_file = path.relative_to(root).as_posix()
        text = self._read(path, name_of_file, "an email needs a text part and its front matter there")
        if text is None:
            return None
        parts = front_matter.split(text)
        if parts is None:
            self._blame(name_of_file, [f"has no front matter; begin it with {FENCE}, TOML, {FENCE}"])
            return None
        front, faults = front_matter.parse(parts[0])
        body, missing = self._with_includes(parts[1].strip(), channel, front.language if front else "")
        faults += missing
        if not body:
            faults.append("text part is missing; write it below the front matter")
        if front:
            faults += front_matter.misplaced(front, channel, name)
        self._blame(name_of_file, faults)
        return (front, body) if front and not faults else None

    def _with_includes(self, body: str, channel: Channel, language: str) -> tuple[str, list[str]]:
        """A text with the shared texts that it names, and what is wrong with those."""
        faults = []

        def included(match: re.Match[str]) -> str:
            try:
                return self._shared(channel, match[1], language).strip("\n")
            except InvalidInput as error:
                faults.append(f"{_OF_NO_USE}{error}")
                return ""

        return _INCLUDE.sub(included, body), faults

    def _shared(self, channel: Channel, name: str, language: str) -> str:
        """A part that several templates have in common: `_link.de.html` for `_link.html`. Raises InvalidInput."""
        stem, _, suffix = name.rpartition(".")
        names = [*(f"{stem}.{tag}.{suffix}" for tag in fallbacks(language)), name]
        places = [(root, root / channel.lower() / each) for each in names for root in self.roots]
        nowhere = (self.roots[0], self.roots[0] / channel.lower() / name)
        root, path = next((place for place in places if _is_there(place[1])), nowhere)
        self.used.add(root)
        return front_matter.read(path)

    def _html(self, root: Path, path: Path, language: str) -> str | None:
        name_of_file = path.relative_to(root).as_posix()
        body = self._read(path, name_of_file, "an email needs an HTML part there")
        if body is None:
            return None
        try:
            return inline(flatten(body, lambda name: self._shared(Channel.EMAIL, name, language)))
        except HtmlError as error:
            fault = str(error)
        except InvalidInput as error:
            fault = f"{_OF_NO_USE}{error}"
        self._blame(name_of_file, [fault])
        return None

    def _read(self, path: Path, name: str, why: str) -> str | None:
        try:
            if _is_there(path):
                return front_matter.read(path)
            self._blame(name, [f"is missing; {why}"])
        except InvalidInput as error:
            self._blame(name, [str(error).removeprefix(f"{path} ")])
        return None

    def _blame(self, name: str, faults: list[str]) -> None:
        self.faults += [f"{name}: {fault}" for fault in faults]


def _is_there(path: Path) -> bool:
    """Also where nobody may look: reading it tells why."""
    try:
        return path.exists()
    except OSError:
        return True
