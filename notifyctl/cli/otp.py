"""`notifyctl otp`: a phone's codes and locks, for support."""

from datetime import datetime
from typing import Annotated, Any

import typer

from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import NotFound
from notifyctl.orchestrator.masking import mask
from notifyctl.orchestrator.words import window as in_words
from notifyctl.otp.one_time_codes import PhoneStatus

app = typer.Typer(name="otp", no_args_is_help=True)

Phone = Annotated[str, typer.Argument(metavar="PHONE", help="As +491701234567.")]


@app.command()
def status(
    phone: Phone,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Show what a phone has failed, whether it is locked, and which codes wait for it. Never a code."""
    with opened_runtime() as runtime:
        found = runtime.otp.status(phone)
        most, window = runtime.settings.otp_rate
        attempts = runtime.settings.otp_max_attempts
        now = runtime.clock()
    if form is not OutputFormat.TABLE:
        output.document(_fields(found), form)
        return

    lines = [
        ("phone", mask(found.phone)),
        ("locked", _lock(found, now)),
        ("wrong codes", f"{found.state.failed_count} of {attempts} before the next lock"),
        ("in a row", f"{found.state.consecutive_failures} of 100 over all locks"),
        ("sent", f"{found.sent_in_window} of {most} in the last {in_words(int(window.total_seconds()))}"),
        ("live codes", _codes(found, now)),
    ]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:<{width}}  {text}")


@app.command()
def unlock(phone: Phone) -> None:
    """Forget a phone's wrong codes and end its lock. Codes that the lock ended stay dead."""
    with opened_runtime() as runtime:
        forgotten = runtime.otp.unlock(phone, actor=options.actor())
    if forgotten is None:
        raise NotFound(f"{phone} is not locked and has no wrong codes to forget; `notifyctl otp status` shows it")
    output.say(f"Unlocked. {forgotten.consecutive_failures} wrong codes in a row forgotten.")


def _fields(found: "PhoneStatus") -> dict[str, Any]:
    return {
        "phone": mask(found.phone),
        "locked": found.is_locked,
        "locked_until": found.state.locked_until,
        "hard_locked_at": found.state.hard_locked_at,
        "failed_count": found.state.failed_count,
        "consecutive_failures": found.state.consecutive_failures,
        "sent_in_window": found.sent_in_window,
        "live_codes": [
            {"action": code.action, "created_at": code.created_at, "expires_at": code.expires_at} for code in found.live
        ],
    }


def _lock(found: "PhoneStatus", now: "datetime") -> str:
    if found.state.hard_locked_at is not None:
        return "yes, until `notifyctl otp unlock`: too many wrong codes in a row"
    if not found.is_locked or found.state.locked_until is None:
        return "no"
    left = int((found.state.locked_until - now).total_seconds())
    return f"yes, for {left // 60} min {left % 60} s more"


def _codes(found: "PhoneStatus", now: "datetime") -> str:
    told = (f"{code.action} for {int((code.expires_at - now).total_seconds())} s more" for code in found.live)
    return ", ".join(told) or "none"
