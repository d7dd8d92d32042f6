"""Takes the pictures in docs/images: `notifyctl demo` on a terminal, inbox, health page, mails. `make pictures`."""

import contextlib
import io
import os
import pty
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from notifyctl.bootstrap import Runtime
    from tests.browser.chromium import Tab

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
COLUMNS, PAGE = 124, "1100,400"
THEME = TerminalTheme(
    (24, 26, 32),
    (214, 217, 224),
    [(40, 44, 52), (240, 113, 120), (130, 200, 120), (232, 190, 100),
     (110, 160, 235), (200, 140, 225), (95, 195, 205), (214, 217, 224)],
    [(110, 116, 128), (250, 130, 136), (150, 215, 140), (245, 205, 120),
     (130, 175, 245), (215, 160, 235), (115, 210, 220), (255, 255, 255)],
)  # fmt: skip
INBOX = re.compile(r"Inbox: +(http://[\d.:]+)")
"""Where `demo --stay` says that its mails are to be seen."""
_WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def picture_of_terminal(path: Path) -> None:
    screen = Text.from_ansi("\n".join(line.rstrip() for line in _demo_on_a_terminal()))
    _draw_terminal(path, "notifyctl demo", screen)


def _draw_terminal(path: Path, title: str, screen: "RenderableType") -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen)
    svg = console.export_svg(title=title, theme=THEME)
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
                *(
                    f"--user-data-dir={profile}",
                    f"--window-size={PAGE}",
                    f"--screenshot={path}",
                    f"{url}/?to=e.example",
                ),  # past the backlog
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
        stderr=subprocess.STDOUT,  # where it says what is meant for a person
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if found := INBOX.search(line):
                yield found[1]
                break
        else:
            sys.exit("notifyctl demo --stay named no inbox")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(30)


def pictures_of_health(images: Path, chromium: str) -> None:
    """A bad hour, as the terminal shows it, as the page shows it by day and by night, and one message."""
    # What the tests of the page know: how to drive a browser, and how traffic looks.
    sys.path.insert(0, str(ROOT))
    from notifyctl.cli.health.view import overview
    from notifyctl.health import summary
    from tests.browser.chromium import Chromium
    from tests.browser.scenes import a_bad_hour, a_story
    from tests.browser.signing_in import HOME, sign_in

    # From inside of it, since the pictures show the path of the database.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), _served() as (url, runtime, key):
        a_bad_hour(runtime)
        message_id = a_story(runtime)
        with runtime.database.read() as session:
            found = summary.read_health(session, runtime.settings, runtime.clock(), 60 * summary.MINUTE)
        _draw_terminal(images / "health.svg", "notifyctl health", overview(found))
        (profile := Path(folder) / "profile").mkdir()
        browser = Chromium(chromium, profile)
        with browser.tab(width=1280, height=1130) as tab:
            sign_in(tab, f"{url}{HOME}?window_minutes=240", key)
            _end_below(tab, ".causes", 1280)
            tab.picture(images / "health.png", whole=False)
            tab.prefer(color_scheme="dark")
            tab.picture(images / "health-dark.png", whole=False)
            tab.prefer(color_scheme="light")
            tab.open(f"{url}{HOME}/messages/{message_id}")
            _end_below(tab, ".two", 1280)
            tab.picture(images / "message.png", whole=False)
        browser.close()


def _end_below(tab: "Tab", selector: str, width: int) -> None:
    """So that the picture ends between two cards, and not within one."""
    tab.resize(width, int(tab.js(f"document.querySelector('{selector}').getBoundingClientRect().bottom + scrollY")))


def pictures_of_mails(images: Path, chromium: str) -> None:
    """One mail of a company in two languages: by day, by night, and on a phone."""
    sys.path.insert(0, str(ROOT))
    from tests.browser.chromium import Chromium
    from tests.browser.mails import BRAND, mails, page

    file = mails(**BRAND)["PAYMENT_FAILED"]
    with tempfile.TemporaryDirectory() as folder:
        (profile := Path(folder) / "profile").mkdir()
        browser = Chromium(chromium, profile)
        with browser.tab(width=680, height=900) as tab:
            for picture, language, scheme, width in (
                ("mail.png", "en", "light", 680),
                ("mail-dark.png", "de", "dark", 680),
                ("mail-phone.png", "de", "light", 375),
            ):
                (mail := Path(folder) / "mail.html").write_text(page(file, language), encoding="utf-8")
                tab.prefer(color_scheme=scheme)
                tab.resize(width, 740)
                tab.open(mail.as_uri())
                tab.picture(images / picture)
        browser.close()


def sheets_of_mails(images: Path, chromium: str) -> None:
    """Every mail there is on three sheets, by day, by night and on a phone: those of clients in two languages."""
    sys.path.insert(0, str(ROOT))
    from notifyctl.models.enums import Audience
    from tests.browser.chromium import Chromium
    from tests.browser.mails import BRAND, mails, page

    files = mails(**BRAND).values()
    ours = {audience: [file for file in files if file.front.audience is audience] for audience in Audience}
    cells = [(file, language) for language in ("en", "de") for file in ours[Audience.CLIENT]]
    cells += [(file, "en") for file in ours[Audience.ADMIN]]
    columns = len(ours[Audience.CLIENT])
    with tempfile.TemporaryDirectory() as name:
        (profile := (folder := Path(name)) / "profile").mkdir()
        browser = Chromium(chromium, profile)
        with browser.tab() as tab:
            for sheet, scheme, width, column in (
                ("light", "light", 680, 260),
                ("dark", "dark", 680, 260),
                ("phone", "light", 375, 180),
            ):
                tab.prefer(color_scheme=scheme)
                tab.resize(width, 400)
                for file, language in cells:
                    (folder / "mail.html").write_text(page(file, language), encoding="utf-8")
                    tab.open((folder / "mail.html").as_uri())
                    tab.picture(folder / f"{file.template_key}-{language}.png")
                shown = ((file.template_key, language) for file, language in cells)
                (folder / "sheet.html").write_text(_sheet(shown, columns), encoding="utf-8")
                tab.resize(columns * column, 400)
                tab.open((folder / "sheet.html").as_uri())
                tab.picture(images / f"mails-{sheet}.webp")
        browser.close()


def _sheet(cells: Iterable[tuple[str, str]], columns: int) -> str:
    """Pictures that lie beside it, each with its name."""
    figures = "".join(
        f'<figure><img src="{key}-{language}.png"><figcaption>{name}, {language}</figcaption></figure>'
        for key, language in cells
        for name in [key.replace("_", "_<wbr>")]
    )
    return (
        f"<style>body {{ margin: 0; padding: 12px; background: #868e99; display: grid; gap: 12px; align-items: start;"
        f" grid-template-columns: repeat({columns}, minmax(0, 1fr)); font: 10px sans-serif; color: #fff }}"
        f"figure {{ margin: 0 }} img {{ width: 100%; display: block; margin-bottom: 4px }}</style>{figures}"
    )


@contextmanager
def _served() -> Iterator[tuple[str, "Runtime", str]]:
    """The pages over a fresh database in the working directory: their address, what is behind them, an admin key."""
    from notifyctl.bootstrap import open_runtime
    from notifyctl.db import migrations
    from notifyctl.db.database import Database
    from notifyctl.http import api_keys
    from notifyctl.http.server import create_app
    from notifyctl.models.enums import Scope
    from notifyctl.settings import Settings
    from tests.support.api import serving
    from tests.support.templates import seed_templates

    own = {"notification_secret_key": secrets.token_hex(32), "otp_pepper": secrets.token_hex(32)}
    settings = Settings(_env_file=None, database_url="sqlite:///notifyctl.db", **own)
    runtime = open_runtime(settings, database=Database(settings.database_url))
    migrations.upgrade(runtime.database)
    seed_templates(runtime)
    with runtime.database.transaction() as session:
        now = runtime.clock()
        key = api_keys.create(session, "operations", [Scope.ADMIN], expires_at=None, actor="docs", now=now)
    with serving(create_app(runtime)) as url:
        yield url, runtime, key
    runtime.close()


def main() -> None:
    picture_of_terminal(IMAGES / "demo.svg")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("No Chromium was found: the pictures of pages are left as they are.", file=sys.stderr)
        return
    picture_of_inbox(IMAGES / "inbox.png", chromium)
    pictures_of_health(IMAGES, chromium)
    pictures_of_mails(IMAGES, chromium)
    sheets_of_mails(IMAGES, chromium)


if __name__ == "__main__":
    main()
