"""A port before a server: shut until it is opened, and then it hands everything on."""

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread


class Door:
    """`behind` is where it leads to, a socket's path or a host and port; those who are inside stay where they are when
    it is changed.
    """

    def __init__(self, behind: str | tuple[str, int]) -> None:
        self.behind = behind
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[Thread] = []

    def open(self) -> None:
        self._sockets.append(socket.create_server(("127.0.0.1", self.port)))
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
