"""What can be made to go wrong on purpose, as data: written in Python, in JSON, or as a line of text."""

import re
import secrets
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from notifyctl.errors import InvalidInput
from notifyctl.models.template import Channel
from notifyctl.providers.sandbox.failures import codes_of

MAX_MS = 600_000


class Kind(StrEnum):
    """What the client meets. After the two that begin with accept, after garbage and truncated, the message is out."""

    ERROR = "error"
    TOO_MANY = "too-many"
    HTTP = "http"
    LATENCY = "latency"
    HANG = "hang"
    ACCEPT_THEN_HANG = "accept-then-hang"
    CUT_BEFORE = "cut-before"
    ACCEPT_THEN_CUT = "accept-then-cut"
    GARBAGE = "garbage"
    TRUNCATED = "truncated"


_OWN_FIELDS = {
    Kind.ERROR: {"code"},
    Kind.TOO_MANY: {"retry_after"},
    Kind.HTTP: {"status", "body"},
    Kind.LATENCY: {"ms"},
}
_ALL_OWN_FIELDS = {name for names in _OWN_FIELDS.values() for name in names}
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def as_range(value: Any) -> Any:
    """`50`, `"50"` and `"50-200"` are ranges as well."""
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return (low, high or low)
    return (value, value) if isinstance(value, int | float) else value


def _as_code(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value) else value


Milliseconds = Annotated[float, Field(ge=0, le=MAX_MS)]
Range = Annotated[tuple[Milliseconds, Milliseconds], BeforeValidator(as_range)]


@dataclass(frozen=True, config=_STRICT)
class Fault:
    """`rate`: the share of calls that it strikes (of messages, for `error`). `times`: at most so often, then never.

    >>> Fault("error", rate=0.2, code=406), Fault("hang", times=1), Fault("latency", ms=(50, 200))
    """

    kind: Kind
    rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    times: Annotated[int, Field(ge=1)] | None = None
    code: Annotated[int | str, BeforeValidator(_as_code)] | None = None
    """A code of the provider, or a class: transient, hard, or a FailureReason."""
    retry_after: Annotated[int, Field(ge=0)] | None = None
    status: Annotated[Literal[500, 502, 503, 504], BeforeValidator(_as_code)] | None = None
    body: Literal["html", "empty"] | None = None
    ms: Range | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        own = _OWN_FIELDS.get(self.kind, set())
        strange = [name for name in sorted(_ALL_OWN_FIELDS - own) if getattr(self, name) is not None]
        if strange:
            raise ValueError(f"{self.kind} takes no {', '.join(strange)}")
        if self.kind is Kind.ERROR and self.code is None:
            raise ValueError("error needs a code, as code=406 or code=transient")
        if self.kind is Kind.LATENCY and self.ms is None:
            raise ValueError("latency needs ms, as ms=300 or ms=50-200")
        if self.ms is not None and self.ms[0] > self.ms[1]:
            raise ValueError("ms runs from the shorter to the longer")
        return self

    def __str__(self) -> str:
        share = "" if self.rate == 1 else f" {self.rate:.4g} of all"
        details = [f"{name} {_plain(getattr(self, name))}" for name in ("code", "retry_after", "status", "body", "ms")
                   if getattr(self, name) is not None]  # fmt: skip
        often = [f"at most {self.times} times"] if self.times else []
        return ", ".join([f"{self.kind}{share}", *details, *often])


def _plain(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    low, high = value
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _fresh_seed() -> int:
    return secrets.randbelow(1_000_000)


@dataclass(frozen=True, config=_STRICT)
class Faults:
    """The faults of one channel. One call meets at most one of them, and any latency besides.

    The n-th call meets the same fault each time that the same faults are set with the same `seed`.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = Field(default_factory=_fresh_seed)

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        for group in (self.of_call, self.of_message):
            total = sum(fault.rate for fault in group if fault.times is None)
            if total > 1 + 1e-9:
                names = ", ".join(fault.kind for fault in group)
                raise ValueError(
                    f"the rates of {names} add up to {total:g}; a call meets one of them, so 1 is the most"
                )
        return self

    @property
    def of_call(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.kind not in (Kind.ERROR, Kind.LATENCY))

    @property
    def of_message(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.kind is Kind.ERROR)

    @property
    def latencies(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.kind is Kind.LATENCY)

    def check(self, channel: Channel) -> None:
        """Raises InvalidInput for a code that the channel's provider does not have."""
        for fault in self.of_message:
            codes_of(channel, fault.code or 0)

    def as_json(self) -> dict[str, Any]:
        return dict(_FAULTS.dump_python(self, mode="json", exclude_none=True))


_FAULT = TypeAdapter(Fault)
_FAULTS = TypeAdapter(Faults)


def faults_from_json(value: Any) -> Faults:
    """Raises InvalidInput."""
    try:
        return _FAULTS.validate_python(value)
    except ValidationError as error:
        raise InvalidInput(f"faults: {in_one_line(error)}") from error


def faults_from_lines(lines: Iterable[str], seed: int | None = None) -> dict[Channel, Faults]:
    """Reads `[email:|sms:]KIND[=RATE][,NAME=VALUE...]`, as `sms:error=0.2,code=21610`. Raises InvalidInput.

    Without a channel it is for both; without a seed, one is chosen.
    """
    seed = _fresh_seed() if seed is None else seed
    found: dict[Channel, list[Fault]] = {}
    for line in lines:
        channels, fault = _read_line(line)
        for channel in channels:
            found.setdefault(channel, []).append(fault)
    return {channel: faults_from_json({"faults": faults, "seed": seed}) for channel, faults in found.items()}


def _read_line(line: str) -> tuple[tuple[Channel, ...], Fault]:
    before, separator, after = line.partition(":")
    name = before.strip().upper()
    if separator and name not in Channel.__members__:
        raise InvalidInput(f"--fault {line!r}: {before!r} is no channel; write email: or sms:, or nothing for both")
    first, *others = [part.partition("=") for part in (after if separator else line).split(",")]
    fields = {field.strip(): value.strip() for field, _, value in others}
    fields["kind"] = first[0].strip()
    if first[1]:
        fields["rate"] = first[2].strip()
    channels = (Channel(name),) if separator else tuple(Channel)
    try:
        fault = _FAULT.validate_python(fields)
        for channel in channels:
            Faults((fault,), seed=0).check(channel)
    except ValidationError as error:
        raise InvalidInput(f"--fault {line!r}: {in_one_line(error)}") from error
    except InvalidInput as error:
        raise InvalidInput(f"--fault {line!r}: {error}") from error
    return channels, fault


def in_one_line(error: ValidationError) -> str:
    return "; ".join(_one_fault(item) for item in error.errors(include_url=False, include_context=False))


def _one_fault(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    words = str(item["msg"]).removeprefix("Value error, ")
    return f"{place}: {words}" if place else words
