"""What a put reads from: a file that must not change meanwhile, or a stream of unknown length. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import ClassVar, Protocol, Self

from lnstore.client.catalog import SourceState
from lnstore.client.contents import Content, ContentHasher
from lnstore.errors import ExitCode, LnstoreError


class SourceError(LnstoreError):
    """The input cannot be read; the text says why."""

    exit_code: ClassVar[ExitCode] = ExitCode.DATA


class SourceChanged(SourceError):
    """The file was written to while it was read: what was stored is a mixture of two contents."""


class Readable(Protocol):
    """A binary stream."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the front of `buffer`; how many bytes, 0 at the end."""
        ...


class Source:
    """An input. `state` is None for a stream, which cannot be read again; its `size` is mostly not known either."""

    def __init__(
        self,
        stream: Readable,
        *,
        label: str,
        state: SourceState | None = None,
        size: int | None = None,
        contents: Callable[[], list[Content]] = list,
    ) -> None:
        self._stream = stream
        self._label = label
        self.state = state
        self._size = size
        self._read_bytes = 0
        self._hasher: ContentHasher | None = None
        self._contents = contents

    @classmethod
    def open(cls, path: Path) -> Self:
        """The file at `path`, or the pipe; SourceError when it cannot be read."""
        try:
            stream = FileIO(path, "rb")
        except IsADirectoryError:
            raise SourceError(f"{path} is a directory; name a file in it") from None
        except OSError as exc:
            raise SourceError(f"{path} cannot be read: {exc.strerror}") from exc
        return cls(stream, label=str(path), state=_state(stream, path))

    @property
    def size(self) -> int | None:
        """How many bytes there are, where that is known beforehand."""
        return self._size if self.state is None else self.state.size

    def fill(self, buffer: memoryview) -> int:
        """Read until `buffer` is full or the input ends; how many bytes. SourceError, SourceChanged."""
        filled = 0
        try:
            while filled < len(buffer) and (count := self._stream.readinto(buffer[filled:])):
                filled += count
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            raise SourceError(f"{self._label} cannot be read on: {reason}") from exc
        self._read_bytes += filled
        if self._hasher is not None:
            self._hasher.update(buffer[:filled])
        if filled < len(buffer):
            self._check_unchanged()
        return filled

    def hash_with(self, key: bytes) -> None:
        """Hash what is read from now on."""
        self._hasher = ContentHasher(key)

    def contents(self) -> list[Content]:
        """What was read, once all of it was; what the stream says when it was not hashed here."""
        return self._contents() if self._hasher is None else [self._hasher.end()]

    def close(self) -> None:
        """Close a file that `open` opened."""
        if isinstance(self._stream, FileIO):
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_unchanged(self) -> None:
        """At the end: what was read is what was there in the beginning."""
        if self.state is None or not isinstance(self._stream, FileIO):
            return
        now = os.fstat(self._stream.fileno())
        if (self._read_bytes, now.st_size, now.st_mtime_ns) != (self.state.size, self.state.size, self.state.mtime_ns):
            raise SourceChanged(f"{self._label} changed while it was read; put it again once nothing writes to it")


def _state(stream: FileIO, path: Path) -> SourceState | None:
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode):
        return None
    return SourceState(
        path=os.fsencode(path.resolve()),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )
