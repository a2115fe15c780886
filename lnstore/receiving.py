"""Bytes from a stream into the protocol core, both sides: within a payload many at once, straight into its buffer."""

from __future__ import annotations

import trio
import trio.abc

from lnstore_protocol.connection import Connection

READ_BYTES = 64 * 1024
"""Read at once between payloads, and beyond the end of one; less until the handshake is done (T-R7)."""


async def receive(stream: trio.abc.Stream, connection: Connection) -> int:
    """Wait for the next bytes, or the end, and feed them; how many came.

    Whoever only asks small things never costs the receive buffer. Raises what `receive_some` raises.
    """
    left = connection.payload_left_bytes
    if left > READ_BYTES and isinstance(stream, trio.SocketStream):
        try:
            count = await stream.socket.recv_into(connection.receive_space()[: left + READ_BYTES])
        except OSError as exc:
            if stream.socket.fileno() == -1:
                raise trio.ClosedResourceError("this socket was already closed") from None
            raise trio.BrokenResourceError(f"socket connection broken: {exc}") from exc
        if count:
            connection.receive_advance(count)
            return count
    elif data := await stream.receive_some(min(READ_BYTES, connection.receive_bytes)):
        connection.receive_data(data)
        return len(data)
    connection.receive_eof()
    return 0
