"""A node's directory: settings, key, lock, address, and what it remembers of its Lightning daemon.

node.toml        settings (config.NodeConfig)
node.key         the Ed25519 seed as hex, mode 0600
node.lock        locked while a process runs on the directory
address          lnstore://… while it runs
lightning.json   the daemon's id and its signature that binds it to the node id
seen             when the node was last there, Unix seconds
books.db shares/ see books and storage
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from lnstore.config import NODE_FILE, ConfigError, NodeConfig
from lnstore.node.errors import NodeSetupError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, NodeAddress, NodeId

KEY_FILE = "node.key"
LOCK_FILE = "node.lock"
ADDRESS_FILE = "address"
BINDING_FILE = "lightning.json"
SEEN_FILE = "seen"

_OTHERS = 0o077


def init_node(directory: Path, **settings: Any) -> NodeId:
    """Write node.toml, with `settings` (as in the file) in place of defaults, and a fresh key; the node's id.

    NodeSetupError when there is a node already, ConfigError for a setting that does not exist or is wrong.
    """
    known = {f.name for f in fields(NodeConfig) if f.metadata}
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise ConfigError(f"there is no setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (NODE_FILE, KEY_FILE):
            if (directory / name).exists():
                raise NodeSetupError(
                    f"{directory} already holds a node ({name}); start it with: lnstore node run {directory}, "
                    "or choose another directory"
                )
        _write_new(directory / NODE_FILE, NodeConfig.template(**settings))
        try:
            NodeConfig.load(directory)
        except ConfigError:
            (directory / NODE_FILE).unlink()
            raise
        identity = Identity.generate()
        _write_new(directory / KEY_FILE, identity.seed.hex() + "\n")
    except OSError as exc:
        raise NodeSetupError(f"{directory} cannot be set up: {exc.strerror}") from exc
    return NodeId(identity.public_key)


def load_identity(directory: Path) -> Identity:
    """The node's identity; NodeSetupError when its key is missing, damaged, or readable by others."""
    path = directory / KEY_FILE
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(256)
    except FileNotFoundError:
        raise NodeSetupError(f"there is no {path}; make a node with: lnstore node init {directory}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise NodeSetupError(f"{path} cannot be read: {exc}") from exc
    if mode & _OTHERS:
        raise NodeSetupError(f"{path} can be read by others; make it yours alone: chmod 600 {path}")
    try:
        return Identity(bytes.fromhex(text))
    except ValueError:
        raise NodeSetupError(f"{path} is damaged: 64 hex digits are needed; restore it from your backup") from None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for this process; NodeSetupError when another one runs on it.

    The kernel releases the lock with the process, however it ends.
    """
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise NodeSetupError(f"{directory} cannot be written: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NodeSetupError(
                f"another process runs the node in {directory} (its lock file {LOCK_FILE} is held); stop it first"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def announced(directory: Path, address: NodeAddress) -> Iterator[None]:
    """Write the address to its file for the block."""
    path = directory / ADDRESS_FILE
    replace(path, f"{address}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Binding:
    """The Lightning daemon that gets this node's payments, and its signature of terms.binding_text."""

    lightning_id: LightningId
    network: str
    signature: str

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """The one remembered, or None; NodeSetupError when the file is damaged."""
        path = directory / BINDING_FILE
        try:
            table = json.loads(path.read_text())
            return cls(LightningId.from_hex(table["lightning_id"]), str(table["network"]), str(table["signature"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise NodeSetupError(f"{path} cannot be read ({exc}); remove it, and it is made anew") from exc

    def save(self, directory: Path) -> None:
        """Remember it."""
        table = {"lightning_id": self.lightning_id.hex(), "network": self.network, "signature": self.signature}
        replace(directory / BINDING_FILE, json.dumps(table, indent=1) + "\n")


def last_seen(directory: Path) -> int | None:
    """When the node was last there, Unix seconds; None for a new one."""
    try:
        return int((directory / SEEN_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_seen(directory: Path, now: int) -> None:
    """Write down that the node is there."""
    replace(directory / SEEN_FILE, f"{now}\n")


def replace(path: Path, text: str) -> None:
    """Put `text` into the file, so that a reader sees the old or the new content."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)


def _write_new(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
