"""Where a get writes to: a file that appears whole or not at all, or a stream. Blocking."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import ClassVar, Protocol

from lnstore.errors import ExitCode, LnstoreError
from lnstore.writeback import begin_writing

WRITE_BACK_BYTES = 8 * 1024 * 1024
"""So much is written before the disk is told to begin with it: the sync in the end then waits for the rest only."""


class SinkError(LnstoreError):
    """The output cannot be written; the text says why."""

    exit_code: ClassVar[ExitCode] = ExitCode.DATA


class Writable(Protocol):
    """A binary stream."""

    def write(self, data: memoryview, /) -> int | None:
        """Write; how many bytes were taken."""
        ...

    def flush(self) -> object:
        """Pass on what is buffered."""
        ...


class Sink(Protocol):
    """An output in order."""

    def write(self, data: memoryview) -> None:
        """Append; SinkError."""
        ...

    def commit(self) -> None:
        """Everything is there; SinkError."""
        ...

    def discard(self) -> None:
        """The transfer failed: leave nothing that could be taken for the file."""
        ...


class FileSink:  # F-R17
    """Writes beside the final name, and takes the name once all is on disk. Replaces a file of that name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.is_dir():
            raise SinkError(f"{path} is a directory; name a file in it")
        self._temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as exc:
            raise self._failed(exc) from exc
        self._written = self._begun = 0

    def write(self, data: memoryview) -> None:
        """Append; SinkError."""
        try:
            while data:
                count = os.write(self._fd, data)
                self._written += count
                data = data[count:]
            if self._written - self._begun >= WRITE_BACK_BYTES:
                begin_writing(self._fd, self._begun, self._written - self._begun)
                self._begun = self._written
        except OSError as exc:
            raise self._failed(exc) from exc

    def commit(self) -> None:
        """On disk, then under its name; SinkError."""
        try:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._temporary.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as exc:
            raise self._failed(exc) from exc

    def discard(self) -> None:
        """Remove what was written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._temporary.unlink(missing_ok=True)

    def _failed(self, exc: OSError) -> SinkError:
        return SinkError(f"{self._path} cannot be written: {exc.strerror}")


class StreamSink:
    """Writes to a stream as the bytes come: a failure shows only in the error."""

    def __init__(self, stream: Writable) -> None:
        self._stream = stream

    def write(self, data: memoryview) -> None:
        """Append; SinkError."""
        try:
            while data:
                taken = self._stream.write(data)
                data = data[len(data) if taken is None else taken :]
        except OSError as exc:
            raise SinkError(f"the output cannot be written: {exc.strerror}") from exc

    def commit(self) -> None:
        """Pass on what is buffered; SinkError."""
        try:
            self._stream.flush()
        except OSError as exc:
            raise SinkError(f"the output cannot be written: {exc.strerror}") from exc

    def discard(self) -> None:
        """Nothing: what is written is written."""
