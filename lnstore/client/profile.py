"""A client's profile: one directory with its settings, its account key and its catalog.

The account key is all a person must keep besides the catalog: the secrets that storage tokens and rent proofs are made
of are derived from it. Writers (put, rent) hold the profile's lock, so that two of them never plan the same
upload or the same payment.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from blake3 import blake3

from lnstore.client.catalog import CATALOG_FILE, Catalog
from lnstore.client.keyfile import (
    AskPassphrase,
    ProfileError,
    fresh_words,
    passphrase_from_environment,
    read_key,
    seed_of,
    write_key,
)
from lnstore.config import CLIENT_FILE, ClientConfig
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId

KEY_FILE = "account.key"
LOCK_FILE = "profile.lock"
LOCK_PATIENCE_SECONDS = 3.0
_LOCK_STEP_SECONDS = 0.05


class ProfileBusy(ProfileError):
    """Another lnstore process is writing with this profile."""


@dataclass(slots=True)
class Profile:
    """A profile as read from its directory. Prints no secret."""

    directory: Path
    config: ClientConfig
    identity: Identity
    _mutex: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _writers: int = field(default=0, repr=False)
    _lock_fd: int = field(default=-1, repr=False)

    @classmethod
    def load(cls, directory: Path, *, ask: AskPassphrase = passphrase_from_environment) -> Self:
        """The profile in `directory`; ConfigError or ProfileError say what is missing or wrong.

        `ask` is called for the passphrase if the account key is under one.
        """
        config = ClientConfig.load(directory)
        return cls(directory, config, Identity(read_key(directory / KEY_FILE, ask)))

    @property
    def account_id(self) -> AccountId:
        """Who this client is at every node."""
        return AccountId(self.identity.public_key)

    @property
    def account_secret(self) -> bytes:
        """32 bytes that everything the account keeps secret besides its signing key is derived from."""
        return blake3(self.identity.seed, derive_key_context="lnstore account secret v1").digest()

    def open_catalog(self) -> Catalog:
        """This profile's catalog; CatalogError when it cannot be used."""
        return Catalog.open(self.directory / CATALOG_FILE)

    @contextmanager
    def writing(self, patience_seconds: float = LOCK_PATIENCE_SECONDS) -> Iterator[None]:
        """Hold the profile against other processes; ProfileBusy when another still holds it after a short wait.

        Within one process the same Profile may be held several times over. Blocks the calling thread for at most
        `patience_seconds`.
        """
        with self._mutex:
            if self._writers == 0:
                fd = lock_file(self.directory / LOCK_FILE, patience_seconds)
                if fd is None:
                    raise ProfileBusy(
                        f"another lnstore process is writing with the profile in {self.directory}; wait until it has "
                        "ended"
                    )
                self._lock_fd = fd
            self._writers += 1
        try:
            yield
        finally:
            with self._mutex:
                self._writers -= 1
                if self._writers == 0:
                    os.close(self._lock_fd)


def default_directory() -> Path:
    """Where a profile is unless somebody says otherwise: $LNSTORE_HOME, else the platform's data directory."""
    if home := os.environ.get("LNSTORE_HOME"):
        return Path(home)
    import platformdirs  # noqa: PLC0415 - rarely needed, and start-up is measured

    return Path(platformdirs.user_data_dir("lnstore"))


def init_profile(
    directory: Path, *, words: str | None = None, passphrase: str | None = None, **overrides: Any
) -> Profile:
    """Make a profile whose key comes from `words` (default: fresh ones); `overrides` go into its settings file.

    ProfileError when there is one already, or for words or a passphrase that are none.
    """
    if (directory / CLIENT_FILE).exists() or (directory / KEY_FILE).exists():
        raise ProfileError(f"there is already a profile in {directory}; use it, or choose another directory")
    text = ClientConfig.template(**overrides)
    seed = seed_of(words or fresh_words())
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_key(directory / KEY_FILE, seed, passphrase)
        _write_new(directory / CLIENT_FILE, text)
    except OSError as exc:
        raise ProfileError(f"the profile cannot be made in {directory}: {exc.strerror}") from exc
    profile = Profile.load(directory, ask=lambda: passphrase or "")
    profile.open_catalog().close()
    return profile


def change_passphrase(directory: Path, *, old: AskPassphrase, new: str | None) -> None:
    """Put the account key under another passphrase, or (None) under none; the key stays the same. ProfileError."""
    path = directory / KEY_FILE
    write_key(path, read_key(path, old), new)


def _write_new(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123 -- the mode must hold from the first moment
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def lock_file(path: Path, patience_seconds: float) -> int | None:
    """Hold the file, which is made if need be, until the descriptor is closed; None when another process holds it.

    The system lets go of it with the process, however that ends. Blocks the calling thread.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(_LOCK_STEP_SECONDS)
        else:
            return fd
