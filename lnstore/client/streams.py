"""Transfers from and to async streams: the worker thread that reads or writes asks trio's thread for each piece."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import trio

from lnstore.client.sink import SinkError

PIECE_BYTES = 256 * 1024
"""What a reader gets at once; one such piece waits for it, the rest stays with the transfer."""


class StreamSource:
    """client.source.Readable over an async stream of bytes. Read in trio's worker threads only."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._pieces = aiter(stream)
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the front of `buffer`; 0 at the end."""
        while not self._rest:
            piece = trio.from_thread.run(self._next)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def _next(self) -> bytes | None:
        return await anext(self._pieces, None)


class ChannelSink:
    """client.sink.Sink into a memory channel: the transfer waits until its reader has taken a piece."""

    def __init__(self, pieces: trio.MemorySendChannel[bytes]) -> None:
        self._pieces = pieces

    def write(self, data: memoryview) -> None:
        """Hand on, piece by piece; SinkError when nobody reads any more."""
        try:
            for at in range(0, len(data), PIECE_BYTES):
                # The buffer behind `data` is used again at once: the reader needs bytes of its own.
                trio.from_thread.run(self._pieces.send, bytes(data[at : at + PIECE_BYTES]))
        except trio.BrokenResourceError as exc:
            raise SinkError("the reader went away before the end") from exc

    def commit(self) -> None:
        """Everything is there; the reader sees the end when the channel is closed."""

    def discard(self) -> None:
        """Nothing: the error reaches the reader."""


class FileStream:
    """A stored file being read, in order: `async for piece in stream`, or `receive_some`."""

    def __init__(self, pieces: trio.MemoryReceiveChannel[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    async def receive_some(self, max_bytes: int = PIECE_BYTES) -> bytes:
        """The next bytes, at most so many; empty at the end."""
        if not self._rest:
            try:
                self._rest = await self._pieces.receive()
            except trio.EndOfChannel:
                return b""
        taken, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return taken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.receive_some():
            yield piece
