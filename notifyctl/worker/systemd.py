"""What systemd wants to hear (sd_notify(3)): READY, STOPPING, and a sign of life. Does nothing anywhere else."""

import os
import socket


def notify(state: str) -> None:
    """`READY=1`, `STOPPING=1`, `WATCHDOG=1` or `STATUS=…`, to the socket that NOTIFY_SOCKET names."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        try:
            manager.connect(address)
            manager.sendall(state.encode())
        except OSError:
            return  # a manager that is gone cannot be told, and is no reason to stop sending


def watchdog_seconds() -> float | None:
    """How often to send WATCHDOG=1: half of WatchdogSec=, when it is meant for this process."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000
