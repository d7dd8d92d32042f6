"""Takes the pictures in docs/images: a terminal with `notifyctl demo`, and its inbox. See `make pictures`."""

import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

IMAGES = Path(__file__).resolve().parent / "images"
COLUMNS, PAGE = 124, "1100,400"
THEME = TerminalTheme(
    (24, 26, 32),
    (214, 217, 224),
    [(40, 44, 52), (240, 113, 120), (130, 200, 120), (232, 190, 100),
     (110, 160, 235), (200, 140, 225), (95, 195, 205), (214, 217, 224)],
    [(110, 116, 128), (250, 130, 136), (150, 215, 140), (245, 205, 120),
     (130, 175, 245), (215, 160, 235), (115, 210, 220), (255, 255, 255)],
)  # fmt: skip
_WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def picture_of_terminal(path: Path) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("\n".join(line.rstrip() for line in _demo_on_a_terminal())))
    svg = console.export_svg(title="notifyctl demo", theme=THEME)
    # No web font: a picture in a page may not load anything, and every machine has a monospaced face.
    path.write_text(_WEB_FONT.sub("", svg).replace("Fira Code,", "ui-monospace, Menlo, Consolas,"), encoding="utf-8")


def _demo_on_a_terminal() -> list[str]:
    """The lines of the demo as a person sees them, without the last one, which speaks to who runs it."""
    terminal, its_end = pty.openpty()
    env = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    demo = subprocess.Popen([sys.executable, "-m", "notifyctl", "demo"], stdout=its_end, stderr=its_end, env=env)
    os.close(its_end)
    parts = list(_read(terminal))
    os.close(terminal)
    if demo.wait():
        sys.exit(f"notifyctl demo ended with {demo.returncode}")
    lines = b"".join(parts).decode().replace("\r\n", "\n").strip("\n").split("\n")
    return lines[:-1] if "demo --stay" in lines[-1] else lines


def _read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            return
        if not part:
            return
        yield part


def picture_of_inbox(path: Path, chromium: str) -> None:
    with _staying_demo() as url, tempfile.TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603  our own page, by a browser from PATH
            [
                chromium,
                *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={profile}", f"--window-size={PAGE}", f"--screenshot={path}", url),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


@contextmanager
def _staying_demo() -> Iterator[str]:
    """The address of its inbox, once everything has arrived in it."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "notifyctl", "demo", "--stay"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if found := re.search(r"Inbox at (http://[\d.:]+)", line):
                yield found[1]
                break
        else:
            sys.exit("notifyctl demo --stay named no inbox")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(30)


def main() -> None:
    picture_of_terminal(IMAGES / "demo.svg")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("No Chromium was found: docs/images/inbox.png is left as it is.", file=sys.stderr)
        return
    picture_of_inbox(IMAGES / "inbox.png", chromium)


if __name__ == "__main__":
    main()
