"""`lnstore://` for fsspec, and so for pandas, xarray, dask and others: files of a profile, by name.

    fsspec.open("lnstore://photos.tar")             a file of the default profile
    pandas.read_csv("lnstore://tables/2026.csv", storage_options={"profile": "/path"})

A path is a file's name, or FOLDER/PATH within the newest snapshot of a folder. Files can be written whole; folders are
put as a whole by `lnstore put`, so nothing is written into one. fsspec is synchronous: the connections live in trio in
a thread of their own, which ends with the process.
"""

from __future__ import annotations

import atexit
import os
import posixpath
import tempfile
import threading
from collections.abc import Awaitable, Callable
from typing import IO, Any, ClassVar, Self, TypeVar

import trio
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from lnstore.api import Client, Item
from lnstore.client.catalog import CatalogError
from lnstore.client.download import FileUnreadable
from lnstore.client.files import CapInvalid

T = TypeVar("T")
BLOCK_BYTES = 4 * 1024 * 1024
"""What a sequential reader fetches at once."""


class _Loop:
    """A client in trio, in a thread of its own; `call` runs a function there from any other."""

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._ready = threading.Event()
        self._client: Client | None = None
        self._error: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._run,), name="lnstore fsspec", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        atexit.register(self.close)

    async def _run(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        try:
            async with Client(self._profile) as self._client:
                self._ready.set()
                await self._stop.wait()
        except Exception as exc:  # noqa: BLE001 - a thread's boundary: the caller raises it
            self._error = exc
        finally:
            self._ready.set()

    def call(self, function: Callable[[Client], Awaitable[T]]) -> T:
        """Run a function of the client; what it raises is raised here."""
        if self._client is None:
            raise RuntimeError("the file system was closed")
        return trio.from_thread.run(function, self._client, trio_token=self._token)

    def close(self) -> None:
        """End the thread."""
        if self._thread.is_alive() and self._token is not None and self._stop is not None:
            trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
            self._thread.join()


class LnstoreFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """See the module's text. `profile` is a profile's directory (default: as on the command line)."""

    protocol: ClassVar[str] = "lnstore"
    root_marker = ""

    def __init__(self, profile: str | None = None, **options: Any) -> None:
        super().__init__(profile=profile, **options)
        self._loop = _Loop(profile)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is stored, or what is in a folder; FileNotFoundError."""
        path = str(self._strip_protocol(path))
        found: list[dict[str, Any]] = [self.info(path)]
        if found[0]["type"] == "directory":
            found = [_info(f"{path}/{item.name}" if path else item.name, item) for item in self._items(path)]
        if detail:
            return found
        return [entry["name"] for entry in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """One file or folder; FileNotFoundError."""
        path = self._strip_protocol(path)
        if not path:
            return {"name": "", "size": 0, "type": "directory"}
        parent, name = posixpath.split(path)
        for at, wanted in (("", path), (parent, name)):
            try:
                items = self._items(at)
            except FileNotFoundError:
                continue
            for item in items:
                if item.name == wanted:
                    return _info(path, item)
        raise FileNotFoundError(path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """A file's bytes, or a range of them."""
        path = self._strip_protocol(path)
        first, last = start or 0, end
        if first < 0 or (last is not None and last < 0):
            size = self.info(path)["size"]
            first = max(size + first, 0) if first < 0 else first
            last = size + last if last is not None and last < 0 else last
        length = None if last is None else max(last - first, 0)
        return self._call(path, lambda client: client.read(path, offset=first, length=length))

    def rm_file(self, path: str) -> None:
        """Give up a file, or a folder with all its snapshots."""
        path = self._strip_protocol(path)
        self._call(path, lambda client: client.remove(path))

    rm = rm_file

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        """Give a file or folder another name."""
        old, new = self._strip_protocol(path1), self._strip_protocol(path2)

        async def rename(client: Client) -> None:
            client.rename(old, new)

        self._call(old, rename)

    def created(self, path: str) -> float:
        """When it was stored or last changed, in Unix seconds."""
        return float(self.info(path)["mtime"])

    modified = created

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            size = self.info(path)["size"]
            return _Reading(self, path, mode, **{"block_size": BLOCK_BYTES, "size": size, **options})
        if mode in {"wb", "xb"}:
            return _Writing(self, path)
        raise ValueError(f"a stored file cannot be opened in mode {mode!r}; write it whole, as a new file")

    def close(self) -> None:
        """End the connections; the file system is not usable afterwards."""
        self._loop.close()
        self.clear_instance_cache()

    def _items(self, path: str) -> list[Item]:
        return self._call(path, lambda client: client.ls(path or None))

    def _call(self, path: str, function: Callable[[Client], Awaitable[T]]) -> T:
        try:
            return self._loop.call(function)
        except (CapInvalid, CatalogError) as exc:
            raise FileNotFoundError(f"{path}: {exc}") from exc
        except FileUnreadable as exc:
            raise OSError(str(exc)) from exc


class _Reading(AbstractBufferedFile):  # type: ignore[misc] # fsspec has no types
    """A stored file; fsspec buffers what it fetches."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))


class _Writing:
    """A new file: written beside, stored when it is closed, so that nothing is stored of a half-written one."""

    def __init__(self, fs: LnstoreFileSystem, path: str) -> None:
        self._fs = fs
        self._path = path
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.closed = True
            self._file.close()

    def close(self) -> None:
        """Store it; CatalogError when the name is taken."""
        if self.closed:
            return
        self.closed = True
        with self._file:
            self._file.flush()
            self._file.seek(0)
            raw = os.fdopen(os.dup(self._file.fileno()), "rb", buffering=0)
            with raw:
                self._fs._loop.call(lambda client: client.put(raw, self._path))  # noqa: SLF001 - one module


def _info(name: str, item: Item) -> dict[str, Any]:
    return {
        "name": name,
        "size": item.bytes,
        "type": "directory" if item.kind == "directory" else "file",
        "mtime": item.changed_at,
        "islink": item.kind == "symlink",
    }
