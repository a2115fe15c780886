"""A stream that is slow."""

from __future__ import annotations

import trio
import trio.abc

PIECE_BYTES = 64 * 1024


class PacedStream(trio.abc.Stream):
    """Lets so many bytes a second through, each way."""

    def __init__(self, stream: trio.abc.Stream, bytes_per_second: float) -> None:
        self._stream = stream
        self._bytes_per_second = bytes_per_second

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """In pieces, each followed by a pause."""
        view = memoryview(data)
        for at in range(0, len(view), PIECE_BYTES):
            piece = view[at : at + PIECE_BYTES]
            await self._stream.send_all(piece)
            await trio.sleep(len(piece) / self._bytes_per_second)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream's."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """A piece at most, after a pause."""
        data = await self._stream.receive_some(min(max_bytes or PIECE_BYTES, PIECE_BYTES))
        await trio.sleep(len(data) / self._bytes_per_second)
        return data

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()
