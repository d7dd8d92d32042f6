"""Stripe's API (events and subscriptions, as plain JSON), and the signatures of its webhooks.

The SDK makes the calls and names their errors. Its objects stay in here: they are not JSON.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from time import sleep
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import requests
import stripe
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from stripe import SignatureVerificationError, WebhookSignature
from urllib3.util.ssl_ import create_urllib3_context

from notifyctl.errors import InvalidInput, ProviderError
from notifyctl.providers.certificates import ADVICE, Authorities, public_authorities, trusted_authorities
from notifyctl.providers.contract import CONNECT_TIMEOUT
from notifyctl.providers.results import without_recipients
from notifyctl.settings import Settings
from notifyctl.text.durations import plural

EVENTS_KEPT_FOR = timedelta(days=30)
MAX_TYPES = 20
READ_TIMEOUT = timedelta(seconds=20)
RETRIES = 2
"""Of a call that failed on the way, by the SDK itself."""
PAUSES_WHEN_TOO_MANY = (1.0, 2.0, 4.0)
"""Seconds before a call is tried again that came too fast (429), which the SDK leaves to us."""
PAGE = 100
MOST_AT_ONCE = 1_000
"""Events held in memory, unless more were made in one second."""
_FIRST_SLICE, _LONGEST_SLICE = timedelta(days=1), timedelta(days=30)
TOLERANCE_SECONDS = 300
"""Between the time of a signature and ours, either way."""

Json = Mapping[str, Any]


class StripeApi:
    """Used by one thread. Every method raises ProviderError with one line that says what to do."""

    def __init__(
        self,
        api_key: str,
        api_url: str,
        *,
        pause: Callable[[float], None] = sleep,
        authorities: Authorities | None = None,
    ) -> None:
        """`authorities`: the public ones unless others are named."""
        self._api_url = api_url
        self._pause = pause
        self._authorities = authorities or public_authorities()
        timeout = (CONNECT_TIMEOUT.total_seconds(), READ_TIMEOUT.total_seconds())
        self._http = stripe.RequestsClient(timeout=timeout, session=_Session(self._authorities))
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_url},
            max_network_retries=RETRIES,
            http_client=self._http,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()  # type: ignore[no-untyped-call]

    def event(self, event_id: str) -> Json | None:
        """None: Stripe has none by that id, or no longer: events are kept for 30 days."""
        return self._find("/v1/events", event_id)

    def subscription(self, subscription_id: str) -> Json | None:
        return self._find("/v1/subscriptions", subscription_id)

    def events(self, since: datetime, until: datetime, types: Sequence[str] = ()) -> Iterator[Json]:
        """Those made from `since` until before `until`, oldest first.

        Stripe lists the newest first, and the other way only from an event that is known: hence slice by slice of
        time, each as short as it takes to hold few events in memory. Raises InvalidInput for more than 20 types.
        """
        if len(types) > MAX_TYPES:
            raise InvalidInput(f"{plural(len(types), 'type')} of events are too many; Stripe takes {MAX_TYPES} at most")
        start, width = since, _FIRST_SLICE
        while start < until:
            end = min(start + width, until)
            events = self._slice(start, end, types)
            if events is None:
                width = timedelta(seconds=max(1, (end - start).total_seconds() // 2))
                continue
            yield from reversed(events)
            start = end
            if len(events) < MOST_AT_ONCE // 4:
                width = min(width * 2, _LONGEST_SLICE)

    def _slice(self, start: datetime, end: datetime, types: Sequence[str]) -> list[Json] | None:
        """Newest first. None: there are too many, and a shorter slice has fewer."""
        created = {"gte": _seconds(start), "lt": _seconds(end)}
        query = {"created": created} | ({"types": list(types)} if types else {})
        is_shortest = created["lt"] - created["gte"] <= 1
        events: list[Json] = []
        for event in self._all("/v1/events", query):
            events.append(event)
            if len(events) > MOST_AT_ONCE and not is_shortest:
                return None
        return events

    def subscriptions(self) -> Iterator[Json]:
        """All of them, the canceled ones too, newest first."""
        return self._all("/v1/subscriptions", {"status": "all"})

    def _all(self, path: str, query: Mapping[str, object]) -> Iterator[Json]:
        cursor: dict[str, str] = {}
        while True:
            page = self._get(path, {**query, **cursor, "limit": PAGE})
            data = page.get("data")
            if not isinstance(data, list) or not all(isinstance(item, dict) and "id" in item for item in data):
                raise ProviderError(f"Stripe at {self._api_url} answers {path} with no list; check STRIPE_API_URL")
            yield from data
            if not data or page.get("has_more") is not True:
                return
            cursor = {"starting_after": data[-1]["id"]}

    def _find(self, path: str, object_id: str) -> Json | None:
        try:
            return self._get(f"{path}/{quote(object_id, safe='')}", {})
        except _Missing:
            return None

    def _get(self, path: str, query: Mapping[str, object]) -> Json:
        for seconds in PAUSES_WHEN_TOO_MANY:
            try:
                return self._get_once(path, query)
            except stripe.RateLimitError:
                self._pause(seconds)
        try:
            return self._get_once(path, query)
        except stripe.RateLimitError as error:
            raise ProviderError("Stripe takes no more requests for now (429); try again in a minute") from error

    def _get_once(self, path: str, query: Mapping[str, object]) -> Json:
        try:
            answer = self._client.raw_request("get", path, **query)
            value = json.loads(answer.body)
        except stripe.RateLimitError:
            raise
        except stripe.StripeError as error:
            if error.http_status == 404:
                raise _Missing(f"Stripe has no {path}") from error
            raise ProviderError(self._explained(error)) from error
        if not isinstance(value, dict):
            raise ProviderError(f"Stripe at {self._api_url} answers {path} with no object; check STRIPE_API_URL")
        return value

    def _explained(self, error: stripe.StripeError) -> str:
        match error:
            case stripe.AuthenticationError():
                return "Stripe refuses STRIPE_API_KEY (401); take the secret key from Stripe's dashboard"
            case stripe.PermissionError():
                return "STRIPE_API_KEY may not read this (403); a restricted key needs Events and Subscriptions: Read"
            case stripe.APIConnectionError():
                cause = type(error.__cause__ or error).__name__
                if cause == "SSLError":
                    why = f"{_handshake_problem(error.__cause__)}; trusted: {self._authorities}; {ADVICE}"
                    return f"Stripe at {self._api_url} has a certificate that is not trusted: {why}"
                return f"Stripe at {self._api_url} does not answer ({cause}); check the network and STRIPE_API_URL"
        if not isinstance(error.json_body, Mapping) or "error" not in error.json_body:  # its message repeats what came
            return f"Stripe at {self._api_url} answers HTTP {error.http_status} with no JSON; check STRIPE_API_URL"
        return f"Stripe answers HTTP {error.http_status}: {without_recipients(error.user_message or 'no cause told')}"


class _Session(requests.Session):
    """The SDK names a list of authorities for the whole process; this one is told its own."""

    def __init__(self, authorities: Authorities) -> None:
        super().__init__()
        self._path = authorities.paths[0]
        if len(authorities.paths) > 1:
            self.mount("https://", _AuthoritiesAdapter(authorities))

    def request(self, *arguments: Any, **named: Any) -> Any:
        return super().request(*arguments, **{**named, "verify": self._path})


class _AuthoritiesAdapter(HTTPAdapter):
    """requests itself takes one path only."""

    def __init__(self, authorities: Authorities) -> None:
        self._context = create_urllib3_context()
        for path in authorities.paths:
            is_folder = path in authorities.folders
            self._context.load_verify_locations(capath=path if is_folder else None, cafile=None if is_folder else path)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named, ssl_context=self._context)

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        return super().proxy_manager_for(*arguments, **named, ssl_context=self._context)


class _Missing(ProviderError):
    """Stripe has no such object (404)."""


def _handshake_problem(error: BaseException | None) -> str:
    """OpenSSL's own words, without all that requests puts around them."""
    cause = re.search(r"certificate verify failed: ([^()]+)", str(error))
    return cause[1].strip() if cause else "the handshake failed"


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())


def build_stripe_api(settings: Settings) -> StripeApi:
    """Raises ProviderError when the key is not set, or the certificates that a variable names cannot be used."""
    key = settings.stripe_api_key.get_secret_value().strip() if settings.stripe_api_key else ""
    if not key:
        raise ProviderError("Stripe cannot be asked: STRIPE_API_KEY is not set; it is the secret key of its dashboard")
    return StripeApi(key, settings.stripe_api_url, authorities=trusted_authorities(settings))


def other_mode(settings: Settings) -> str | None:
    """A warning, where the key's mode is not that of the events which are worked on here."""
    key = settings.stripe_api_key.get_secret_value().strip() if settings.stripe_api_key else ""
    is_test = key.startswith(("sk_test_", "rk_test_"))
    if is_test is not settings.stripe_livemode or not key.startswith(("sk_", "rk_")):
        return None
    kind = "test" if is_test else "live"
    mode = str(settings.stripe_livemode).lower()
    return f"STRIPE_API_KEY is a {kind} key, while STRIPE_LIVEMODE is {mode}: the {kind} mode's events are ignored."


class SignatureFault(StrEnum):
    """What is wrong, in words for our log. Nothing of the request is in them."""

    MISSING = "no Stripe-Signature header"
    MALFORMED = "the Stripe-Signature header has no t= and v1= that can be read"
    NOT_TEXT = "the body is not UTF-8, so that Stripe did not sign it"
    WRONG = (
        "no signature fits the body: check that STRIPE_WEBHOOK_SECRET is the signing secret of this very endpoint"
        " (`stripe listen` has one of its own), and that no proxy changes the body"
    )
    OUTSIDE_TOLERANCE = (
        f"rightly signed, but more than {TOLERANCE_SECONDS} s from our time: check this host's clock, and the"
        " database's, if it is on another host"
    )


def signature_fault(
    body: bytes, header: str | None, secrets: Sequence[SecretStr], now: datetime
) -> SignatureFault | None:
    """None when one of `secrets` signed the body within the tolerance. Several are in force while one is rolled."""
    if not header:
        return SignatureFault.MISSING
    header = ",".join(part.strip() for part in header.split(","))
    signed_at = _signed_at(header)
    if signed_at is None:
        return SignatureFault.MALFORMED
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return SignatureFault.NOT_TEXT
    if not any([_fits(text, header, secret.get_secret_value()) for secret in secrets]):
        return SignatureFault.WRONG
    # The library knows only signatures that are too old, and only by the host's clock.
    return SignatureFault.OUTSIDE_TOLERANCE if abs(now.timestamp() - signed_at) > TOLERANCE_SECONDS else None


def _signed_at(header: str) -> int | None:
    """None for a header that the library could not read either."""
    parts = [part.split("=") for part in header.split(",")]
    times = [part[1] for part in parts if part[0] == "t" and len(part) > 1]
    if not header.isascii() or not times or not any(part[0] == "v1" and len(part) > 1 for part in parts):
        return None
    return int(times[0]) if times[0].isdigit() and len(times[0]) < 20 else None


def _fits(text: str, header: str, secret: str) -> bool:
    try:
        return bool(WebhookSignature.verify_header(text, header, secret, tolerance=None))
    except SignatureVerificationError:  # it has the whole body in it, and must not get any further
        return False
