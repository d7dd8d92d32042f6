"""What a transfer of many holds in memory."""

import pycurl

from notifyctl.providers.curl import HttpAnswer, Transfers
from tests.support.scripted_server import Reply, ScriptedServer


def test_what_goes_out_is_read_in_small_pieces_so_that_no_handle_keeps_a_large_buffer() -> None:
    with ScriptedServer(Reply(200, "{}")) as server:
        transfers = Transfers(1, 10.0)
        transfer, sizes = transfers.borrow(), list[int]()
        read = transfer._read

        def noted(size: int) -> bytes | int:
            sizes.append(size)
            return read(size)

        transfer.handle.setopt(pycurl.READFUNCTION, noted)
        transfer.prepare(server.url, ("Content-Type: text/plain",), b"x" * 100_000)
        transfers.start(transfer)
        ((_, outcome),) = transfers.wait(10)
        transfers.close()
    assert isinstance(outcome, HttpAnswer)
    assert 0 < max(sizes) <= 16_384
