"""What can be made to go wrong on purpose. One language says it: --fault, /faults over HTTP, and magic recipients."""

import re
import secrets
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel
from notifyctl.sandbox.faults.errors import APIS, codes_of

MAX_MS = 600_000


class FaultKind(StrEnum):
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
    FaultKind.ERROR: {"code"},
    FaultKind.TOO_MANY: {"retry_after"},
    FaultKind.HTTP: {"status", "body"},
    FaultKind.LATENCY: {"ms"},
}
_ALL_OWN_FIELDS = ("code", "retry_after", "status", "body", "ms")
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def as_range(value: object) -> object:
    """`50`, `"50"` and `"50-200"` are ranges as well."""
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return (low, high or low)
    return (value, value) if isinstance(value, int | float) else value


def _as_code(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value) else value


Milliseconds = Annotated[float, Field(ge=0, le=MAX_MS)]
Range = Annotated[tuple[Milliseconds, Milliseconds], BeforeValidator(as_range)]


@dataclass(frozen=True, config=_STRICT)
class Fault:
    """`rate`: the share of calls that it strikes (of messages, for `error`). `times`: at most so often, then never.

    >>> Fault("error", rate=0.2, code=406), Fault("hang", times=1), Fault("latency", ms=(50, 200))
    """

    kind: FaultKind
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
        strange = [name for name in _ALL_OWN_FIELDS if name not in own and getattr(self, name) is not None]
        if strange:
            raise ValueError(f"{self.kind} takes no {', '.join(strange)}")
        if self.kind is FaultKind.ERROR and self.code is None:
            raise ValueError("error needs a code, as code=406 or code=transient")
        if self.kind is FaultKind.LATENCY and self.ms is None:
            raise ValueError("latency needs ms, as ms=300 or ms=50-200")
        if self.ms is not None and self.ms[0] > self.ms[1]:
            raise ValueError("ms runs from the shorter to the longer")
        return self

    def __str__(self) -> str:
        """The line that says it, without the API that it is for."""
        share = "" if self.rate == 1 else f"={self.rate:g}"
        options = ((name, getattr(self, name)) for name in (*_ALL_OWN_FIELDS, "times"))
        return ",".join([f"{self.kind}{share}", *(f"{name}={_written(value)}" for name, value in options if value)])


def _written(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    low, high = value
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _fresh_seed() -> int:
    return secrets.randbelow(1_000_000)


@dataclass(frozen=True, config=_STRICT)
class Faults:
    """The faults of one API. One call meets at most one of them, and any latency besides.

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
        return tuple(fault for fault in self.faults if fault.kind not in (FaultKind.ERROR, FaultKind.LATENCY))

    @property
    def of_message(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.kind is FaultKind.ERROR)

    @property
    def latencies(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.kind is FaultKind.LATENCY)

    def check(self, api: str) -> None:
        """Raises InvalidInput for a code that the API does not have."""
        for fault in self.of_message:
            codes_of(api, fault.code or 0)


_FAULT = TypeAdapter(Fault)
_FAULTS = TypeAdapter(Faults)


def faults_from_lines(lines: Iterable[str], seed: int | None = None) -> dict[str, Faults]:
    """Reads `[API:]KIND[=RATE][,NAME=VALUE...]`, as `sms:error=0.2,code=21610`. Raises InvalidInput.

    Without an API it is for both channels; without a seed, one is chosen.
    """
    seed = _fresh_seed() if seed is None else seed
    by_api: dict[str, list[Fault]] = {}
    for line in lines:
        apis, fault = _read_line(line)
        for api in apis:
            by_api.setdefault(api, []).append(fault)
    try:
        return {api: _FAULTS.validate_python({"faults": faults, "seed": seed}) for api, faults in by_api.items()}
    except ValidationError as error:
        raise InvalidInput(f"faults: {in_one_line(error)}") from error


def _read_line(line: str) -> tuple[tuple[str, ...], Fault]:
    before, separator, after = line.partition(":")
    name = before.strip().upper()
    if separator and name not in APIS:
        raise InvalidInput(
            f"fault {line!r}: {before!r} is none of {', '.join(f'{api.lower()}:' for api in APIS)};"
            " nothing is for email and SMS"
        )
    apis = (name,) if separator else tuple(Channel)
    try:
        fault = read_fault(after if separator else line)
        for api in apis:
            Faults((fault,), seed=0).check(api)
    except InvalidInput as error:
        raise InvalidInput(f"fault {line!r}: {error}") from error
    return apis, fault


def read_fault(line: str) -> Fault:
    """Reads `KIND[=RATE][,NAME=VALUE...]`. Raises InvalidInput."""
    (kind, has_rate, rate), *options = [part.partition("=") for part in line.split(",")]
    fields = {name.strip(): value.strip() for name, _, value in options} | {"kind": kind.strip()}
    if has_rate:
        fields["rate"] = rate.strip()
    try:
        return _FAULT.validate_python(fields)
    except ValidationError as error:
        raise InvalidInput(in_one_line(error)) from error


def in_one_line(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False)
    return "; ".join(_one_fault(fault["loc"], fault["msg"]) for fault in faults)


def _one_fault(location: Iterable[int | str], message: str) -> str:
    place = ".".join(str(part) for part in location)
    words = message.removeprefix("Value error, ")
    return f"{place}: {words}" if place else words
