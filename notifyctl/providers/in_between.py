"""Answers that are not the provider's own: a redirect, a login page, a filter, a proxy. What they prove, in words."""

import re
from urllib.parse import urljoin, urlsplit

from notifyctl.models.enums import FailureReason
from notifyctl.providers.base import Rejected, Unavailable, Unknown
from notifyctl.providers.curl import HttpAnswer

UNREADABLE = "UNREADABLE_ANSWER"

_REASON_OF_STATUS = {
    400: FailureReason.CONTENT_REJECTED,
    413: FailureReason.CONTENT_REJECTED,
    422: FailureReason.CONTENT_REJECTED,
}
_OF_THE_WAY = frozenset({401, 402, 403, 404, 405, 407, 410, 421, 451})
"""Whoever answers so lets nobody through, or is not the provider: every message would fare alike."""
_COME_AGAIN = frozenset({429, 503, 511})
"""The last is a network that wants a login first (RFC 6585, section 6)."""
_TITLE = re.compile(rb"<title[^>]*>(.{0,200})", re.IGNORECASE | re.DOTALL)
_LONGEST_WORD = 20
MAX_URL = 200


def verdict(answer: HttpAnswer, setting: str) -> Rejected | Unavailable | Unknown:
    """What an answer proves that has no error of the provider's own in it. `setting` has the provider's URL.

    A redirect asks for another request before this one is fulfilled (RFC 9110, section 15.4), and a 4xx is a refusal:
    nothing was accepted. A 2xx or 5xx may stand in the place of the provider's answer, which nobody knows then.
    """
    status, who = answer.status, described(answer)
    code = f"HTTP_{status}"
    advice = f"; check {setting}, and any proxy on the way"
    if 300 <= status < 400:
        words = f"{who}: nothing was accepted; set {setting} to the provider's own URL"
        return Rejected(FailureReason.ACCOUNT_PROBLEM, code, words, is_ours=True)
    if status in _COME_AGAIN:
        return Unavailable(code, f"{who}: nothing was accepted", is_ours=True)
    if status in _OF_THE_WAY:
        return Rejected(FailureReason.ACCOUNT_PROBLEM, code, f"{who}: nothing was accepted{advice}", is_ours=True)
    if 400 <= status < 500:
        reason = _REASON_OF_STATUS.get(status, FailureReason.UNKNOWN)
        return Rejected(reason, code, f"{who}: nothing was accepted{advice}", is_ours=True)
    unknown = f"{who}: the provider may have got it or not"
    if answer.is_success:
        return Unknown(UNREADABLE, f"{unknown}{advice}", is_ours=True)
    return Unknown(code, unknown, is_ours=True)


def described(answer: HttpAnswer) -> str:
    """Who answered, and with what."""
    if 300 <= answer.status < 400:
        where = answer.header("Location")
        to = _shown(answer.url, where) if where else "nowhere"
        return f"{answer.site} redirects to {to} (HTTP {answer.status})"
    what = "with nothing that can be read" if answer.is_success else "without an error of the provider's own"
    return f"HTTP {answer.status} from {answer.site} {what}{_title(answer.body)}"


def _shown(base: str, location: str) -> str:
    """Scheme, host, port and path: without what may be secret."""
    try:
        parts = urlsplit(urljoin(base, location))
    except ValueError:
        return "another place"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return "".join(letter for letter in shown[:MAX_URL] if letter.isprintable())


def _title(body: bytes) -> str:
    """A page's own words, so that one can tell what it is. Only short words of letters: it may quote what was sent."""
    title = _TITLE.search(body[:10_000])
    text = title[1].partition(b"<")[0].decode("utf-8", "replace") if title else ""
    words = [word for word in re.findall(r"[^\W\d_]+", text) if len(word) <= _LONGEST_WORD]
    return f" (a page titled '{' '.join(words[:8])}')" if words else ""
