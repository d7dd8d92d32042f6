"""What receipts are posted back, as data, and a count of them."""

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from random import Random
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel
from notifyctl.sandbox.faults.faults import as_range, in_one_line
from notifyctl.text.durations import parse_seconds

BOUNCES = {Channel.EMAIL: ("HardBounce", "SoftBounce", "Blocked"), Channel.SMS: ("30003", "30005", "30007")}
MAX_SECONDS = 86_400


def _http_url(url: str | None) -> str | None:
    if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ValueError("must be an http or https URL")
    return url


def _header_value(token: str | None) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable()):
        raise ValueError("must be printable ASCII, since it stands in a header")
    return token


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Receipts:
    """`url` is where Postmark's webhooks go; None: there are none. Twilio's go to each message's StatusCallback."""

    url: Annotated[str | None, AfterValidator(_http_url)] = Field(default=None, repr=False)
    """May hold a user and password, which become Basic authentication."""
    token: Annotated[str | None, AfterValidator(_header_value)] = Field(default=None, repr=False)
    """Stands in Postmark's webhooks as X-Postmark-Token."""
    delay: Annotated[tuple[Seconds, Seconds], BeforeValidator(as_range)] = (2.0, 2.0)
    """Seconds from acceptance to the last receipt of a message. Twilio's "sent" comes after a tenth of it."""
    bounced: Share = 0.0
    """The share of messages that bounce, or are undelivered; a magic recipient does so in any case."""
    doubled: Share = 0.0
    reordered: Share = 0.0
    """For an SMS, "sent" comes after the last status. An email's receipt comes twice as late as it would."""
    seed: int | None = None

    def draw_bounce(self, channel: Channel, dice: Random) -> str:
        """What the receipt of an accepted message brings in place of a delivery; empty: nothing."""
        if not self.bounced or dice.random() >= self.bounced:
            return ""
        return dice.choice(BOUNCES[channel])

    def as_json(self) -> dict[str, object]:
        """Without what is secret."""
        shown = _RECEIPTS.dump_python(self, mode="json", exclude={"token"}, exclude_none=True)
        return {**shown, "url": self.shown_url}

    @property
    def shown_url(self) -> str | None:
        if self.url is None:
            return None
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


_RECEIPTS = TypeAdapter(Receipts)


def receipts_from(fields: Mapping[str, object]) -> Receipts:
    """From JSON. Raises InvalidInput, without the values, since the URL may hold a password."""
    try:
        return _RECEIPTS.validate_python(dict(fields))
    except ValidationError as error:
        raise InvalidInput(f"receipts: {in_one_line(error)}") from None


def receipts_from_line(line: str, url: str, token: str | None, seed: int | None) -> Receipts:
    """Reads `[NAME=VALUE,...]`, as `delay=0.5-5,bounced=0.05`, with the names that JSON has. Raises InvalidInput.

    A delay may be written as durations, `5s` or `5s-2m`.
    """
    options = [part.partition("=") for part in line.split(",") if part.strip()]
    fields: dict[str, object] = {name.strip(): value.strip() for name, _, value in options}
    if "delay" in fields:
        fields["delay"] = "-".join(str(parse_seconds(end)) for end in str(fields["delay"]).split("-", 1))
    return receipts_from(fields | {"url": url, "token": token, "seed": seed})


@plain_dataclass(frozen=True, slots=True)
class ReceiptCounts:
    posted: int = 0
    """Answered with 2xx."""
    failed: int = 0
    """Answered with anything else, or not at all. They are not posted again."""
    dropped: int = 0
    """Never posted, because too many were waiting."""
    waiting: int = 0
    last_failure: str = ""
