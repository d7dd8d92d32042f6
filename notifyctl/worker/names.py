"""What a worker is called: where it runs, and something that a later process with the same number does not have."""

import os
import secrets
import socket


def new_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
