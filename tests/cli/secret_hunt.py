"""Looking for secrets in bytes: every form in which one could have slipped into a text or a file."""

from __future__ import annotations

import base64
import itertools
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from lnstore.client.keyfile import AccountSeed
from lnstore.client.profile import Profile
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import TOKEN_BYTES, TOKENS_PER_SHARE
from lnstore_protocol.proofs import audit_key, audit_nonce, token_key

PART_BYTES = 16
LONG_TEXT = 40
"""What is looked for is long enough to stand nowhere by chance."""

TOKENS_LEFT_OUT = 6
"""Every so many of a share's tokens is looked for: they are made, kept and sent together."""


def forms(secret: bytes) -> Iterator[bytes]:
    """The secret itself, as hex, as base64 wherever it begins, and as Python and JSON write bytes."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield secret.hex(" ").encode()
    for padding in range(3):
        # What depends on neighbouring bytes is cut off at both ends.
        inner = base64.b64encode(bytes(padding) + secret)[4 if padding else 0 :]
        inner = inner[: len(inner) // 4 * 4 - 4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
    yield repr(secret)[2:-1].encode()
    yield ", ".join(map(str, secret)).encode()
    yield ",".join(map(str, secret)).encode()


@dataclass(slots=True)
class Secrets:
    """Named secrets, and where they occur."""

    _needles: dict[bytes, str] = field(default_factory=dict, repr=False)

    def add(self, name: str, secret: bytes) -> None:
        """Half of it is enough to be found."""
        half = max(len(secret) // 2, PART_BYTES)
        for form in (*forms(secret[:half]), *forms(secret[-half:])):
            self._needles[form] = name

    def add_text(self, name: str, text: str) -> None:
        """A secret that is text, as it is written; half of a long one is enough."""
        half = len(text) // 2 if len(text) > LONG_TEXT else len(text)
        self._needles[text[:half].encode()] = self._needles[text[-half:].encode()] = name

    @property
    def names(self) -> set[str]:
        return set(self._needles.values())

    def found_in(self, data: bytes, *, apart_from: Iterable[str] = ()) -> set[str]:
        """Names of the secrets that occur."""
        given = tuple(apart_from)
        return {name for needle, name in self._needles.items() if needle in data and not name.startswith(given or "\0")}


def gather_client(secrets: Secrets, home: Path, words: str, passphrase: str) -> None:
    """What a client keeps secret, found by reading its profile as its owner does."""
    for pair in itertools.pairwise(words.split()):
        secrets.add_text("words", " ".join(pair))
    secrets.add_text("passphrase", passphrase)
    profile = Profile.load(home, ask=lambda: passphrase)
    _gather_identity(secrets, "account", profile.identity)
    secrets.add("account secret", profile.account_secret)
    secrets.add("audit key", audit_key(profile.account_secret))
    secrets.add("token key", token_key(profile.account_secret))
    with closing(sqlite3.connect(home / "catalog.db")) as catalog:
        for (node_id,) in catalog.execute("SELECT node_id FROM nodes"):
            for t in range(TOKENS_PER_SHARE):
                nonce = audit_nonce(audit_key(profile.account_secret), NodeId(node_id), t)
                secrets.add(f"nonce {t}", nonce)
        for key, manifest in catalog.execute("SELECT file_key, manifest_id FROM files WHERE manifest_id NOT NULL"):
            cap = ReadCap(key, ShareId(manifest))
            secrets.add("file key", key)
            secrets.add("verify key", cap.verify_cap().verify_key)
            secrets.add_text("read cap", cap.to_text()[5:])
            secrets.add_text("verify cap", cap.verify_cap().to_text()[5:])
        for (preimage,) in catalog.execute("SELECT preimage FROM payments WHERE preimage NOT NULL"):
            secrets.add("preimage", preimage)


def gather_node(secrets: Secrets, directory: Path) -> None:
    """What a node keeps secret."""
    _gather_identity(secrets, "node", Identity(bytes.fromhex((directory / "node.key").read_text())))
    with closing(sqlite3.connect(directory / "books.db")) as books:
        for (preimage,) in books.execute("SELECT preimage FROM invoices"):
            secrets.add("preimage", preimage)
        for (tokens,) in books.execute("SELECT tokens FROM leases"):
            for begin in range(0, len(tokens), TOKENS_LEFT_OUT * TOKEN_BYTES):
                secrets.add("token", tokens[begin : begin + TOKEN_BYTES])


def _gather_identity(secrets: Secrets, whose: str, identity: Identity) -> None:
    secrets.add(f"{whose} key", AccountSeed(identity.seed))
    secrets.add(f"{whose} x25519 key", identity.x25519_private())


def readable_by_others(*roots: Path) -> Iterator[Path]:
    """Files below whose mode lets anybody but their owner read them."""
    for path in (path for root in roots for path in sorted(root.rglob("*"))):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield path
