"""What a worker is called: where it runs, and something that a later process with the same number does not have."""

import os
import secrets
import socket


def new_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def place(name: str) -> str:
    """`web1 (process 312)`."""
    host, _, rest = name.partition(":")
    process = rest.partition(":")[0]
    return f"{host} (process {process})" if process else host
