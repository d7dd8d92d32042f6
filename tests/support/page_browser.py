"""A browser without scripts, as far as the pages need one."""

import re
from typing import Any

import requests

from notifyctl.http.pages.sessions import COOKIE, SIGN_IN
from tests.support.api import Api

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Browser:
    """Follows no redirect by itself, keeps cookies, and names its origin with every form."""

    def __init__(self, api: Api) -> None:
        self.url = api.url
        self._session = requests.Session()

    def get(self, path: str, **headers: str) -> requests.Response:
        return self._session.get(f"{self.url}{path}", headers=BROWSER | headers, allow_redirects=False, timeout=30)

    def post(self, path: str, data: Any = None, origin: str | None = "", **headers: str) -> requests.Response:
        named = {} if origin is None else {"Origin": origin or self.url}
        return self._session.post(
            f"{self.url}{path}", data, headers=BROWSER | named | headers, allow_redirects=False, timeout=30
        )

    def submit(self, page: str, path: str = "", **fields: str) -> requests.Response:
        """The form of a page that is sent to `path`, or to the page itself, with what is hidden in it."""
        forms = re.findall(r'<form([^>]*method="post"[^>]*)>(.*?)</form>', self.get(page).text, re.DOTALL)
        ours = (body for head, body in forms if (f'action="{path}"' in head if path else "action" not in head))
        hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', next(ours))
        return self.post(path or page, dict(hidden) | fields)

    def sign_in(self, key: str, **more: str) -> requests.Response:
        return self.post(SIGN_IN, {"key": key, **more})

    @property
    def cookie(self) -> str:
        return self._session.cookies[COOKIE]

    @cookie.setter
    def cookie(self, value: str) -> None:
        self._session.cookies.clear()
        self._session.cookies.set(COOKIE, value, path="/")

    def add_cookie(self, name: str, value: str) -> None:
        self._session.cookies.set(name, value, path="/")
