"""A port before a server: shut until it is opened, and then it hands everything on."""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.processes import Processes


class Door:
    """`behind` is where it leads to, a socket's path or a host and port; those who are inside stay where they are when
    it is changed.
    """

    def __init__(self, behind: str | tuple[str, int], at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.behind = behind
        self._host = at[0]
        with socket.socket() as free:
            free.bind(at)
            self.port: int = free.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[Thread] = []

    def open(self) -> None:
        self._sockets.append(socket.create_server((self._host, self.port)))
        self._spawn(self._let_in, self._sockets[0])

    def close(self) -> None:
        for opened in self._sockets:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for opened in self._sockets:
            opened.close()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _let_in(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX if isinstance(self.behind, str) else socket.AF_INET)
            server.connect(self.behind)
            self._sockets += [caller, server]
            self._spawn(_hand_on, caller, server)


def _hand_on(caller: socket.socket, server: socket.socket) -> None:
    with caller, server:
        other_way = {caller: server, server: caller}
        while True:
            for ready in select.select([caller, server], [], [])[0]:
                try:
                    data = ready.recv(65_536)
                    other_way[ready].sendall(data)
                except OSError:
                    return
                if not data:
                    return


class FarMachine:
    """A door on a machine of its own, a network namespace, which `vanish` takes off the network: nothing that is sent
    there is answered any more, not even with a refusal.
    """

    ADDRESS, OURS = "198.18.{}.2", "198.18.{}.1"  # a network for tests (RFC 2544)
    PORT = 5432

    def __init__(self, processes: Processes, behind: str) -> None:
        self._name = f"nfy{os.getpid() % 100_000}"
        self._number = os.getpid() % 250
        self.host = self.ADDRESS.format(self._number)
        self._made = False
        self._processes = processes
        self._behind = behind

    def open(self) -> str | None:
        """Why there can be none here, if so."""
        ours, its = f"{self._name}a", f"{self._name}b"
        made = self._ip("netns", "add", self._name)
        if made.returncode != 0:
            return made.stderr.strip() or "no network namespace can be made"
        self._made = True
        for words in (
            f"link add {ours} type veth peer name {its} netns {self._name}",
            f"addr add {self.OURS.format(self._number)}/30 dev {ours}",
            f"link set {ours} up",
            f"-n {self._name} addr add {self.host}/30 dev {its}",
            f"-n {self._name} link set {its} up",
        ):
            ran = self._ip(*words.split())
            if ran.returncode != 0:
                return ran.stderr.strip()
        inside = ("ip", "netns", "exec", self._name)
        self._processes.start(*inside, sys.executable, __file__, self.host, str(self.PORT), self._behind, fresh=True)
        return None

    def vanish(self) -> None:
        assert self._ip("-n", self._name, "route", "add", "blackhole", self.OURS.format(self._number)).returncode == 0

    def close(self) -> None:
        if self._made:
            self._ip("link", "del", f"{self._name}a")
            self._ip("netns", "del", self._name)

    def _ip(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._processes.run("ip", *words)


if __name__ == "__main__":
    own_host, own_port, leads_to = sys.argv[1:]
    Door(leads_to, (own_host, int(own_port))).open()
    Event().wait()
