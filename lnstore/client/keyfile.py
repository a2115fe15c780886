"""The account key on disk: 32 secret bytes, as they are or under a passphrase, and the twelve words they come from.

The words are BIP-39's (English, 128 bits); the key is derived from BIP-39's seed, so the words alone bring it back.
They are never stored. Under a passphrase the file holds the key in a secretbox (XSalsa20-Poly1305) whose key is
argon2id of the passphrase (RFC 9106), with libsodium's limits for interactive use: 64 MiB, some tenths of a second.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from blake3 import blake3

from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol.ids import SecretBytes

PASSPHRASE_FILE_VARIABLE = "LNSTORE_PASSPHRASE_FILE"  # noqa: S105 - a name
WORD_BITS = 128
MIN_PASSPHRASE = 8
MAX_KEY_CHARACTERS = 1024
_SEALED = "lnstore-key-argon2id-1"
_SALT_BYTES, _BOX_BYTES = 16, 24 + 32 + 16

AskPassphrase = Callable[[], str]


class AccountSeed(SecretBytes):
    """The 32 secret bytes of an account key."""


class ProfileError(LnstoreError):
    """The profile cannot be used; the text says what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


# --- words ------------------------------------------------------------------------------------------------------------


def fresh_words() -> str:
    """Twelve words from the system's randomness."""
    return str(_bip39().generate(strength=WORD_BITS))


def seed_of(words: str) -> AccountSeed:
    """The account key of twelve words; ProfileError when they are not twelve of the list with a right checksum."""
    bip39 = _bip39()
    written = unicodedata.normalize("NFKD", words).lower().split()
    if len(written) != 12:
        raise ProfileError(f"these are {len(written)} words, not the twelve that lnstore init showed")
    unknown = [number for number, word in enumerate(written, 1) if word not in bip39.wordlist]
    if unknown:
        raise ProfileError(
            f"word {unknown[0]} is not in the list of BIP-39's English words; look for a slip of the pen"
        )
    if not bip39.check(" ".join(written)):
        raise ProfileError("the words are not the ones that lnstore init showed: one is wrong, or two are exchanged")
    master = bip39.to_seed(" ".join(written))
    return AccountSeed(blake3(master, derive_key_context="lnstore account key v1").digest())


def _bip39() -> Any:
    from mnemonic import Mnemonic  # noqa: PLC0415 - rarely needed, and start-up is measured

    return Mnemonic("english")


# --- the file ---------------------------------------------------------------------------------------------------------


def read_key(path: Path, ask: AskPassphrase) -> AccountSeed:
    """The key in `path`; `ask` is called when it is under a passphrase. ProfileError says what is wrong."""
    try:
        with path.open() as file:
            others = os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            text = file.read(MAX_KEY_CHARACTERS).strip()
    except FileNotFoundError:
        raise ProfileError(
            f"there is no {path}; restore it from a backup, or from your twelve words with lnstore recover: files "
            "stored with it are paid by no other key"
        ) from None
    except OSError as exc:
        raise ProfileError(f"{path} cannot be read: {exc.strerror}") from exc
    except ValueError:
        text, others = "", 0
    if others:
        raise ProfileError(f"{path} can be read by others; make it yours alone: chmod 600 {path}")
    with suppress(ValueError):
        if text.startswith(_SEALED):
            _, salt, box = text.split()
            if (len(salt), len(box)) == (2 * _SALT_BYTES, 2 * _BOX_BYTES):
                return _unseal(bytes.fromhex(salt), bytes.fromhex(box), ask())
        return AccountSeed.from_hex(text)
    raise ProfileError(f"{path} holds no account key; restore it from a backup")


def is_sealed(path: Path) -> bool:
    """Whether the key in `path` is under a passphrase."""
    return path.read_text().startswith(_SEALED)


def write_key(path: Path, seed: AccountSeed, passphrase: str | None) -> None:
    """Write the key, durably and at once, mode 0600. ProfileError for a passphrase that is too short."""
    text = bytes(seed).hex() if passphrase is None else _seal(seed, passphrase)
    part = path.with_suffix(".new")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123 -- the mode must hold from the first moment
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def passphrase_from_environment() -> str:
    """What the file named by LNSTORE_PASSPHRASE_FILE holds, its last line end cut; ProfileError."""
    name = os.environ.get(PASSPHRASE_FILE_VARIABLE)
    if name is None:
        raise ProfileError(
            f"the account key is under a passphrase; name a file that holds it with {PASSPHRASE_FILE_VARIABLE}, or "
            "run the command on a terminal"
        )
    try:
        return Path(name).read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise ProfileError(f"{PASSPHRASE_FILE_VARIABLE} names {name}, which cannot be read: {reason}") from None


def _seal(seed: AccountSeed, passphrase: str) -> str:
    from nacl import pwhash, utils  # noqa: PLC0415 - rarely needed, and start-up is measured

    if len(passphrase) < MIN_PASSPHRASE:
        raise ProfileError(f"a passphrase has at least {MIN_PASSPHRASE} characters")
    salt = utils.random(pwhash.argon2id.SALTBYTES)
    return f"{_SEALED} {salt.hex()} {bytes(_box(passphrase, salt).encrypt(bytes(seed))).hex()}"


def _unseal(salt: bytes, box: bytes, passphrase: str) -> AccountSeed:
    from nacl.exceptions import CryptoError  # noqa: PLC0415 - as above

    try:
        return AccountSeed(_box(passphrase, salt).decrypt(box))
    except CryptoError:
        raise ProfileError("this is not the passphrase of the account key; try again") from None


def _box(passphrase: str, salt: bytes) -> Any:
    from nacl import pwhash, secret  # noqa: PLC0415 - as above

    limits = (pwhash.argon2id.OPSLIMIT_INTERACTIVE, pwhash.argon2id.MEMLIMIT_INTERACTIVE)
    normal = unicodedata.normalize("NFKC", passphrase).encode()
    return secret.SecretBox(pwhash.argon2id.kdf(secret.SecretBox.KEY_SIZE, normal, salt, *limits))
