"""What Twilio's SDK calls over HTTP, on libcurl. Never calls `log_request`, which writes numbers to the log."""

import json
import logging
from base64 import b64encode
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from notifyctl.providers.certificates import Authorities
from notifyctl.providers.curl import HttpAnswer, Transfer, TransferFailure
from notifyctl.providers.results import (
    ErrorFormat,
    NotAccepted,
    OwnError,
    as_number,
    json_object,
    own_error,
    read_json,
    server_time,
)
from notifyctl.providers.twilio.codes import TWILIO_CODES

_log = logging.getLogger("notifyctl.twilio")


class MessageRequests:
    """What the SDK asks of its HTTP client for one message, asked once: for another, only the values differ.

    The SDK takes fifty microseconds to say the same again, and as long to read what is in an answer.
    """

    def __init__(self, account_sid: str, auth_token: str, api_url: str, **message: str) -> None:
        """`message`: the SDK's arguments for any message."""
        client = Client(account_sid, auth_token, http_client=_AskedOnly())  # type: ignore[no-untyped-call]
        requests = _Requests(api_url)
        try:
            client.messages.create(**message)
        except _Asked as asked:
            self._url, self._lines, _ = requests.of(asked.method, asked.uri, **asked.request)
            data = asked.request["data"]
            self._fields = {name: urlencode({name: value}, doseq=True) for name, value in data.items()}
            """Of the form, in the SDK's order."""

    def prepare(self, transfer: Transfer, values: dict[str, str]) -> None:
        """`values`, by the API's names, take the places of those that it was made with."""
        fields = self._fields | {name: f"{name}={form_quoted(value)}" for name, value in values.items()}
        transfer.prepare(self._url, self._lines, "&".join(fields.values()).encode())


def form_quoted(text: str) -> str:
    """As `quote_plus`, which goes through the bytes in Python."""
    return text.translate(_QUOTED) if text.isascii() else quote_plus(text)


_QUOTED = [quote_plus(chr(code)) for code in range(128)]


class _Asked(Exception):
    def __init__(self, method: str, uri: str, request: dict[str, Any]) -> None:
        super().__init__()
        self.method, self.uri, self.request = method, uri, request


class _AskedOnly(HttpClient):
    """Dials nobody."""

    def __init__(self) -> None:
        super().__init__(_log, is_async=False)

    def request(self, method: str, uri: str, **request: Any) -> Response:  # type: ignore[override]
        raise _Asked(method, uri, request)


class BlockingHttpClient(HttpClient):
    """For the SDK's questions about messages. Raises NotAccepted for anything but one, or a list of them."""

    def __init__(self, api_url: str, timeout_seconds: float, authorities: Authorities | None = None) -> None:
        super().__init__(_log, is_async=False)
        self._transfer = Transfer(timeout_seconds, authorities)
        self._timeout_seconds = timeout_seconds
        self._requests = _Requests(api_url)
        self.answered_at: datetime | None = None
        """The moment of the latest answer, by Twilio's clock; None where it did not say."""

    def request(self, method: str, uri: str, **request: Any) -> Response:  # type: ignore[override]
        self.answered_at = None
        self._transfer.prepare(*self._requests.of(method, uri, **request))
        outcome = self._transfer.perform(self._timeout_seconds)
        if isinstance(outcome, TransferFailure) or not _has_messages(outcome):
            raise NotAccepted(outcome)
        self.answered_at = server_time(outcome)
        return _response(outcome)

    def close(self) -> None:
        self._transfer.close()


class _Requests:
    def __init__(self, api_url: str) -> None:
        self._api_url = api_url
        self._lines: tuple[str, ...] = ()
        self._lines_of: tuple[dict[str, str], tuple[str, str]] | None = None

    def of(  # noqa: PLR0913  the SDK's own request
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> tuple[str, tuple[str, ...], bytes | None]:
        """URL, header lines and body. Only the path and the query of `uri` count: nothing that an answer says leads to
        another host.
        """
        if method not in ("GET", "POST"):
            raise NotImplementedError(method)
        body = urlencode(data or {}, doseq=True).encode() if method == "POST" else None
        parts = urlsplit(uri)
        query = parts.query or urlencode(params or {})
        url = self._api_url + parts.path + (f"?{query}" if query else "")
        return url, self._header_lines(headers or {}, auth), body

    def _header_lines(self, headers: dict[str, str], auth: tuple[str, str] | None) -> tuple[str, ...]:
        """The same tuple for the same headers, so that the handles keep theirs."""
        if auth is None:
            raise NotImplementedError("a call without account SID and auth token")
        if self._lines_of != (headers, auth):
            credentials = b64encode(":".join(auth).encode()).decode()
            lines = (f"{name}: {value}" for name, value in headers.items())
            self._lines = (*lines, f"Authorization: Basic {credentials}")
            self._lines_of = (headers, auth)
        return self._lines


def _response(answer: HttpAnswer) -> Response:
    return Response(answer.status, _clean(answer.body))


def _has_messages(answer: HttpAnswer) -> bool:
    """The SDK takes any list for the one that was asked for, and an empty one would say that nothing was sent."""
    body = json_object(answer.body)
    return answer.is_success and (isinstance(body.get("messages"), list) or isinstance(body.get("sid"), str))


def _clean(body: bytes) -> str:
    """The SDK reads JSON itself. Only an escape can stand for what is not to come in: most bodies have none."""
    if b"\\u" in body:
        try:
            return json.dumps(read_json(body))
        except (ValueError, RecursionError):
            pass  # what cannot be read here, the SDK cannot read either
    return body.decode("utf-8", "replace")


LOWEST_CODE = 10_000
"""Of those that Twilio gives to errors of its own. Others' gateways like to repeat the HTTP status as a code."""


def twilio_error(answer: HttpAnswer) -> OwnError | None:
    body = json_object(answer.body)
    # Below 500, and at 503, it makes no difference who says so.
    is_plain = answer.status < 500 or answer.status == 503
    code = as_number(body.get("code")) if is_plain else body.get("code")
    error = own_error(code, body.get("message") or body.get("detail") or body.get("title"))
    return error if error and (error.code >= LOWEST_CODE or is_plain) else None


TWILIO_ERRORS = ErrorFormat(TWILIO_CODES, twilio_error, "TWILIO_API_URL")
