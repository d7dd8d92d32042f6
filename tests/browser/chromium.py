"""A real Chromium without a window, spoken to over a pair of pipes (the DevTools protocol): no driver in between.

Each message is JSON that ends with a NUL byte. Chromium reads from its descriptor 3 and writes to its descriptor 4.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
# Becomes Chromium, with the pipes where Chromium looks for them. They are moved away first: one may be 3 or 4 already.
LAUNCH = """
import fcntl, os, sys
moved = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(moved[0], 3)
os.dup2(moved[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
PATIENCE_SECONDS = 30


def find() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class ChromiumError(Exception):
    """Chromium refused what was asked of it, or did not answer."""


class Chromium:
    def __init__(self, path: str, profile: Path) -> None:
        to_read, self._commands = os.pipe()
        self._answers, to_write = os.pipe()
        switches = [*SWITCHES, f"--user-data-dir={profile}", "about:blank"]
        with (profile.parent / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(to_read), str(to_write), path, *switches],
                pass_fds=(to_read, to_write),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"TZ": "UTC", "LANG": "C.UTF-8"},
            )
        os.close(to_read)
        os.close(to_write)
        self._unread = b""
        self._number = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=10_000)
        # Only now is the process what it will be called from here on, for those who look for what a test leaves behind.
        self.call("Browser.getVersion")

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if session is not None:
            command["sessionId"] = session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            message = self._read(deadline)
            if message is None:
                raise ChromiumError(f"{method}: no answer within {PATIENCE_SECONDS} s")
            if message.get("id") != self._number:
                self._events.append(message)
            elif "error" in message:
                raise ChromiumError(f"{method}: {message['error']['message']}")
            else:
                return message["result"]

    def events(self) -> Iterator[dict[str, Any]]:
        """Those that have come since the last time."""
        while (message := self._read(monotonic())) is not None:
            self._events.append(message)
        while self._events:
            yield self._events.popleft()

    def _read(self, deadline: float) -> dict[str, Any] | None:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0, deadline - monotonic()))
            if not ready:
                return None
            part = os.read(self._answers, 1 << 20)
            if not part:
                raise ChromiumError(f"Chromium has ended with {self._process.wait(5)}")
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    @contextmanager
    def tab(self, *, width: int = 1280, height: int = 900) -> "Iterator[Tab]":
        """With cookies of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        tab.resize(width, height)
        try:
            yield tab
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        try:
            self.call("Browser.close")
        except ChromiumError:
            self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
        os.close(self._commands)
        os.close(self._answers)


class Tab:
    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        """What the console had to say: violations of the policy, errors of scripts."""
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self._document = self.call("Page.getFrameTree")["frameTree"]["frame"]["loaderId"]
        self._whole = [self._document]
        """The documents that have loaded, the last one at the end."""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def resize(self, width: int, height: int, *, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 500,
        )  # fmt: skip

    def prefer(self, **features: str) -> None:
        """`prefer(color_scheme="dark")`."""
        wanted = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=wanted)

    def without_scripts(self) -> None:
        """Those of the page; `js` works all the same."""
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def open(self, url: str) -> None:
        wanted = self.call("Page.navigate", url=url)["loaderId"]
        self.until(lambda: wanted in self._loads(), url)
        self._document = wanted

    def loaded(self) -> None:
        """Waits until another page than the last is there whole. A new tab's empty one loads too, at any time."""
        self.until(lambda: self._loads()[-1] != self._document, "a page")
        self._document = self._whole[-1]

    def _loads(self) -> list[str]:
        self.heard()
        return self._whole

    def _listen(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.lifecycleEvent" and params["name"] == "load":
            self._whole.append(params["loaderId"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(params["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {params['message']}")
            self.call("Page.handleJavaScriptDialog", accept=False)

    def heard(self) -> list[str]:
        for event in self._browser.events():
            self._listen(event["method"], event["params"])
        return self.complaints

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = monotonic() + PATIENCE_SECONDS
        while monotonic() < deadline:
            if found := condition():
                return found
            select.select([], [], [], 0.02)
        raise ChromiumError(f"waited {PATIENCE_SECONDS} s for {what}; the page says: {self.text()[:500]}")

    def js(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise ChromiumError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    @property
    def url(self) -> str:
        return str(self.js("location.href"))

    def text(self, selector: str = "body") -> str:
        return str(self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def fill(self, selector: str, value: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).focus()")
        self.js(f"document.querySelector({json.dumps(selector)}).value = ''")
        self.call("Input.insertText", text=value)

    def click(self, selector: str) -> None:
        """As a person does: where it is on the screen."""
        name = json.dumps(selector)
        self.js(f"document.querySelector({name}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.js(
            f"(() => {{ const box = document.querySelector({name}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        at = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **at)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **at)

    def press(self, key: str) -> None:
        code = {"Tab": 9, "Enter": 13}[key]
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": "\r"} if key == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """In the form that its name ends with: .png, or .webp, which is a fraction of it."""
        form = {"format": path.suffix[1:]} | ({"quality": 80} if path.suffix == ".webp" else {})
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **form, **self._clip(whole))
        path.write_bytes(base64.b64decode(answer["data"]))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
