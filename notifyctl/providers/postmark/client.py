"""postmarker's client over libcurl."""

import json
from urllib.parse import urlencode

from postmarker.core import USER_AGENT, PostmarkClient

from notifyctl.providers.certificates import Authorities
from notifyctl.providers.curl import HttpAnswer, Transfer, TransferFailure
from notifyctl.providers.postmark.codes import POSTMARK_CODES
from notifyctl.providers.results import ErrorFormat, NotAccepted, OwnError, as_number, json_object, own_error, read_json


class CurlPostmarkClient(PostmarkClient):
    """With libcurl in the place of requests: no retries, no redirects, no log of bodies. Used by one thread."""

    def __init__(
        self, server_token: str, api_url: str, timeout_seconds: float, authorities: Authorities | None = None
    ) -> None:
        super().__init__(server_token=server_token, root_api_url=api_url)  # type: ignore[no-untyped-call]
        self._headers = (
            "Accept: application/json",
            "Content-Type: application/json",
            f"User-Agent: {USER_AGENT}",
            f"X-Postmark-Server-Token: {server_token}",
        )
        self._transfer = Transfer(timeout_seconds, authorities)
        self._timeout_seconds = timeout_seconds
        self._send_by: float | None = None
        self.has_dialled = False
        """Whether the latest call got as far as the network."""

    def send_batch(self, emails: list[dict[str, object]], timeout_seconds: float, send_by: float | None) -> object:
        """The answers. Raises NotAccepted, and whatever postmarker stumbles over."""
        self._timeout_seconds, self._send_by = timeout_seconds, send_by
        self.has_dialled = False
        return self.emails.send_batch(*emails)  # type: ignore[attr-defined]

    def call(
        self,
        method: str,
        endpoint: str,
        token_type: str = "server",  # noqa: S107  a kind, no secret
        data: object = None,
        **query: object,
    ) -> object:
        """What every manager of postmarker calls. Raises NotAccepted for anything but a 2xx with JSON."""
        if method not in ("GET", "POST") or token_type != "server":  # noqa: S105  a kind
            raise NotImplementedError(f"{method} with the {token_type} token")
        url = self.root_api_url + endpoint + (f"?{urlencode(query)}" if query else "")
        body = json.dumps(data).encode() if method == "POST" else None
        self._transfer.prepare(url, self._headers, body)
        self._transfer.send_by = self._send_by
        self.has_dialled = True
        outcome = self._transfer.perform(self._timeout_seconds)
        if isinstance(outcome, TransferFailure) or not outcome.is_success:
            raise NotAccepted(outcome)
        try:
            value = read_json(outcome.body)
        except (ValueError, RecursionError):
            raise NotAccepted(outcome) from None
        if method == "GET" or isinstance(value, list):
            return value
        if not isinstance(value, dict):
            raise NotAccepted(outcome)
        error = postmark_error(outcome)
        if error and error.code:
            raise NotAccepted(outcome)  # one refusal for all of the batch
        return [value]

    def close(self) -> None:
        self._transfer.close()


def postmark_error(answer: HttpAnswer) -> OwnError | None:
    body = json_object(answer.body)
    return own_error(as_number(body.get("ErrorCode")), body.get("Message"))


POSTMARK_ERRORS = ErrorFormat(POSTMARK_CODES, postmark_error, "POSTMARK_API_URL")
