"""Settings as they are written: in the environment, and in a .env file.

The file is read as a systemd EnvironmentFile and as Docker's --env-file are (systemd.exec(5); docker run, "Set
environment variables"), so that one file means the same to all three: nothing is expanded, and a # begins a comment
only at the beginning of a line. What the two would take in different ways is refused or told.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from notifyctl.errors import ConfigurationError, InvalidInput
from notifyctl.text.files import read_text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMMENT = ("#", ";")
_QUOTES = ("'", '"')
_EXPORT = re.compile(r"export\s+")
_COMMENT_BEHIND = re.compile(r"\s#")
_EXPANSION = re.compile(r"\$\{\w")
_OURS = re.compile(rb"^(export\s+)?NOTIFICATION_SECRET_KEY\s*=", re.MULTILINE)
_ESCAPED = re.compile(r'\\(["\\`$])')
"""What a backslash takes the meaning from in double quotes; before anything else it stands for itself."""


def env_file_path(named: Path | None = None) -> Path:
    """`named`, else NOTIFYCTL_ENV_FILE, else .env in the working directory; whether it is there or not."""
    return Path(os.path.expanduser(named or os.environ.get("NOTIFYCTL_ENV_FILE") or ".env"))


def env_file_in_force(named: Path | None = None) -> Path:
    """As env_file_path; but where nothing is named and the working directory has no .env, that of an installation in
    the nearest folder above.
    """
    file = env_file_path(named)
    try:
        if named or os.environ.get("NOTIFYCTL_ENV_FILE") or file.exists():
            return file
        above = (folder / ".env" for folder in Path.cwd().parents)
        return next((other for other in above if _is_of_an_installation(other)), file)
    except OSError:
        return file


def _is_of_an_installation(file: Path) -> bool:
    """Of notifyctl, and written by this user or root: .env is what others call their files, too, and whoever may write
    to a folder above us must not choose our settings.
    """
    try:
        return file.is_file() and file.stat().st_uid in (os.geteuid(), 0) and bool(_OURS.search(file.read_bytes()))
    except OSError:
        return False


def find_env_file(named: Path | None = None) -> Path | None:
    """The file to read, None when there is no .env. Raises ConfigurationError when one was named and is not there."""
    by = "--env-file" if named else "NOTIFYCTL_ENV_FILE" if os.environ.get("NOTIFYCTL_ENV_FILE") else None
    file = env_file_in_force(named)
    is_there = False
    try:
        if file.is_file():
            return file
        is_there = file.exists()
    except OSError as error:
        # A working directory that is not ours to look into has no .env for us.
        if by is not None:
            raise ConfigurationError(
                [f"{by} {file} cannot be read: {error.strerror}; let this user read it"]
            ) from error
    if by is None:
        return None
    if is_there:
        not_twice = "is no file that can be read twice; write it to a file of its own"
        fault = "is a folder; name the file in it" if file.is_dir() else not_twice
        raise ConfigurationError([f"{by} {file} {fault}"])
    raise ConfigurationError([f"{by} {file}: no such file; `notifyctl init --env-file {file}` writes one"])


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Values by name, in capitals. An empty value counts as not set, and the last of two lines counts."""

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[int, str] = field(default_factory=dict)
    """By line: what others would read differently."""
    is_there: bool = False

    def place(self, name: str) -> str:
        return f"{self.path} line {self.lines[name]}"


@dataclass(frozen=True, slots=True)
class RawSettings:
    """What was written, before anything of it is checked, and which names there are."""

    environment: Mapping[str, str]
    file: EnvFile
    names: Sequence[str]

    @classmethod
    def read(cls, file: Path | None, names: Sequence[str]) -> "RawSettings":
        """Raises ConfigurationError for a file with lines that are none, and for values that are still in quotes."""
        raw = cls(environment(), read(file) if file else EnvFile(Path(".env")), names)
        quoted = [name for name in names if _is_quoted(raw.environment.get(name, ""))]
        if quoted:
            raise ConfigurationError([f"{name} {_QUOTED}" for name in quoted])
        return raw

    @property
    def known(self) -> dict[str, str]:
        """The environment wins."""
        both = {**self.file.values, **self.environment}
        return {name: both[name] for name in self.names if name in both}

    def place(self, name: str) -> str:
        """Where in the file a value stands, for the end of a line; empty for one of the environment."""
        in_file = name in self.file.values and name not in self.environment
        return f" ({self.file.place(name)})" if in_file else ""

    def absent(self, names: Sequence[str]) -> str:
        """What to say of settings that must be there and are not.

        Fresh secrets are no remedy for an installation that has others: what these have encrypted could not be opened,
        and who has opted out would not be known.
        """
        several = len(names) > 1
        are_not = f"{' and '.join(names)} {'are' if several else 'is'} not set"
        it = "them" if several else "it"
        if self.file.is_there:
            return (
                f"{are_not} in {self.file.path}; take {it} from where your installation has {it}, or, for a new"
                " one, from what `notifyctl init --env-file NEW` writes"
            )
        return (
            f"{are_not}: there is no .env in {_working_directory()}, nor one of notifyctl above; go to the"
            " folder of your installation, or name its file with --env-file or NOTIFYCTL_ENV_FILE; for a new one,"
            f" `notifyctl init` writes {it}"
        )

    def remarks(self) -> list[str]:
        """What is passed over in silence: names that are no settings, lines that others read differently."""
        in_file = [f"{self.file.path} line {line}: {text}" for line, text in self.file.remarks.items()]
        return [*self._unknown(), *in_file]

    def misspelt(self) -> list[str]:
        """Of the remarks, those on names that are almost the names of settings."""
        return [text for text in self._unknown() if _MEANT in text]

    def _unknown(self) -> list[str]:
        in_file = [
            f"{self.file.place(name)}: {name} is no setting of notifyctl and has no effect{self._meant(name)}"
            for name in self.file.lines
            if name not in self.names
        ]
        # Others' variables are there as well: only what can hardly be anything else.
        in_environment = [
            f"{name} in the environment is no setting of notifyctl{meant}"
            for name in self.environment
            if name not in self.names and name not in self.file.lines and (meant := self._meant(name, alike=0.9))
        ]
        return [*in_file, *in_environment]

    def _meant(self, name: str, alike: float = 0.75) -> str:
        close = get_close_matches(name, self.names, n=1, cutoff=alike)
        return f"{_MEANT}{close[0]}?" if close else ""


_QUOTED = "is in quotes, and they are part of the value: Docker's --env-file and -e keep them; write it without"
_MEANT = "; did you mean "


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "this folder, which is no more"


def environment() -> dict[str, str]:
    """The variables of this process, by name in capitals; those that are empty are not among them.

    Their bytes are UTF-8, as in the file, whatever the locale. Bytes that are not come as halves of surrogate pairs.
    """
    variables: dict[str, str] = {}
    for name, value in os.environb.items():
        text = value.decode(errors="surrogateescape").strip()
        if text and (name.isupper() or name.upper() not in os.environb):
            variables[name.decode(errors="surrogateescape").upper()] = text
    return variables


def read(path: Path) -> EnvFile:
    """Raises ConfigurationError that lists every line that is no NAME=VALUE, and never shows a value."""
    try:
        text = read_text(path)
    except InvalidInput as error:
        raise ConfigurationError([str(error)]) from error
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    remarks: dict[int, str] = {}
    faults: list[str] = []
    for number, line in _statements(text):
        try:
            name, value, remark = _assignment(line)
        except ValueError as error:
            faults.append(f"{path} line {number} {error}")
            continue
        values.pop(name, None)
        lines[name] = number
        if value:
            values[name] = value
        if remark:
            remarks[number] = f"{name} {remark}"
    if faults:
        raise ConfigurationError(faults)
    return EnvFile(path, values, lines, remarks, is_there=True)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Not by splitlines: it would also split at characters that may stand in a value."""
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith(_COMMENT):
            yield number, stripped


def _assignment(line: str) -> tuple[str, str, str | None]:
    """Name, value and remark. Raises ValueError."""
    exported = _EXPORT.match(line)
    name, equals, written = line[exported.end() if exported else 0 :].partition("=")
    name = name.strip()
    if not equals or not _NAME.fullmatch(name):
        raise ValueError("is not NAME=VALUE; mend it, or begin it with # if it is a comment")
    value, remark = _value(name, written.strip())
    if exported:
        remark = "begins with export: systemd passes over such a line, and Docker refuses it; take that word off"
    return name.upper(), value, remark


def _value(name: str, written: str) -> tuple[str, str | None]:
    quote = written[:1]
    if quote in _QUOTES:
        return _unquoted(name, written, quote), None
    if _COMMENT_BEHIND.search(written):
        raise ValueError(
            f"has a comment behind the value of {name}, which systemd and Docker take for part of it; give the comment"
            " a line of its own, or put the value in single quotes if the # belongs to it"
        )
    if _EXPANSION.search(written):
        return written, "has a ${…}, which is taken as it stands: nothing is put in its place"
    if "\\" in written:
        return written, r"has a \, which is taken as it stands here and by Docker; systemd takes it off"
    return written, None


def _unquoted(name: str, written: str, quote: str) -> str:
    """Single quotes keep everything as it is; within double quotes a backslash goes before " \\ ` and $."""
    pattern = r"'([^']*)'" if quote == "'" else r'"((?:[^"\\]|\\.)*)"'
    quoted = re.match(pattern, written)
    if quoted is None:
        raise ValueError(f"begins the value of {name} with a quote that is not closed; close it on the same line")
    if quoted.end() != len(written):
        raise ValueError(
            f"has text behind the closing quote of {name}; put the whole value in single quotes, or take these off"
        )
    return quoted[1] if quote == "'" else _ESCAPED.sub(r"\1", quoted[1])


def _is_quoted(value: str) -> bool:
    """As `"value"` is: where Docker or a shell's -e handed it on, the quotes are part of it."""
    return len(value) > 1 and value[0] in _QUOTES and value[-1] == value[0] and value[0] not in value[1:-1]
