"""`notifyctl otp`: a phone's codes and locks, for support."""

from datetime import datetime
from typing import Annotated

import typer

from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import NotFound
from notifyctl.otp.one_time_codes import PhoneStatus
from notifyctl.text.durations import exact_duration, plural
from notifyctl.text.masking import mask

app = typer.Typer(name="otp", no_args_is_help=True)

Phone = Annotated[str, typer.Argument(metavar="PHONE", help="As +491701234567.")]


@app.command()
def status(
    phone: Phone,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Show what a phone has failed, whether it is locked, and which codes wait for it. Never a code."""
    with opened_runtime() as runtime:
        phone_status = runtime.otp.status(phone)
        most, window = runtime.settings.otp_rate
        attempts = runtime.settings.otp_max_attempts
        now = runtime.clock()
    if form is not OutputFormat.TABLE:
        output.document(_fields(phone_status), form)
        return

    lines = [
        ("phone", mask(phone_status.phone)),
        ("locked", _lock(phone_status, now)),
        ("wrong codes", f"{phone_status.state.failed_count} of {attempts} before the next lock"),
        ("in a row", f"{phone_status.state.consecutive_failures} of 100 over all locks"),
        ("sent", f"{phone_status.sent_in_window} of {most} in the last {exact_duration(int(window.total_seconds()))}"),
        ("live codes", _codes(phone_status, now)),
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
        raise NotFound(
            f"{phone} is not locked and has no wrong codes to forget; `notifyctl otp status {phone}` shows it"
        )
    output.say(f"Unlocked. Forgotten: {plural(forgotten.consecutive_failures, 'wrong code')} in a row.")


def _fields(phone_status: PhoneStatus) -> dict[str, object]:
    return {
        "phone": mask(phone_status.phone),
        "locked": phone_status.is_locked,
        "locked_until": phone_status.state.locked_until,
        "hard_locked_at": phone_status.state.hard_locked_at,
        "failed_count": phone_status.state.failed_count,
        "consecutive_failures": phone_status.state.consecutive_failures,
        "sent_in_window": phone_status.sent_in_window,
        "live_codes": [
            {"action": code.action, "created_at": code.created_at, "expires_at": code.expires_at}
            for code in phone_status.live
        ],
    }


def _lock(phone_status: PhoneStatus, now: datetime) -> str:
    if phone_status.state.hard_locked_at is not None:
        return "yes, until `notifyctl otp unlock`: too many wrong codes in a row"
    if not phone_status.is_locked or phone_status.state.locked_until is None:
        return "no"
    left = int((phone_status.state.locked_until - now).total_seconds())
    return f"yes, for {left // 60} min {left % 60} s more"


def _codes(phone_status: PhoneStatus, now: datetime) -> str:
    codes = (f"{code.action} for {int((code.expires_at - now).total_seconds())} s more" for code in phone_status.live)
    return ", ".join(codes) or "none"
