"""Messages signed by Lightning nodes: lightningd's zbase32 signatures, checked without asking a daemon.

A signature is one recovery byte (31 + id) and 64 bytes of ECDSA over the double SHA-256 of a fixed prefix and the
message. lightningd has `checkmessage` for this, but v26.06.6 aborts on a well-formed zbase32 text that is no
signature of any key, so text from strangers must not reach it. Here such a text is just not a signature.
"""

from __future__ import annotations

import hashlib

SIGNED_PREFIX = b"Lightning Signed Message:"
RECOVERY_OFFSET = 31  # as bitcoin's signed messages mark a compressed key
SIGNATURE_CHARACTERS = 104


def double_sha256(data: bytes) -> bytes:
    """SHA-256 of SHA-256."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def recover_signer(message: str, zbase: str) -> str | None:
    """The compressed key, 66 hex digits, that made `zbase` of `message`; None when no key can have made it.

    ValueError when `zbase` is not zbase32 of 65 bytes.
    """
    import coincurve  # noqa: PLC0415  both cost a tenth of a second that most runs do without
    from pyln.proto import zbase32  # noqa: PLC0415

    if not zbase.isascii() or len(zbase) != SIGNATURE_CHARACTERS or not zbase32.is_zbase32_encoded(zbase):
        raise ValueError("not a zbase32 signature")
    raw = zbase32.decode(zbase)
    recovery_id = raw[0] - RECOVERY_OFFSET
    if not 0 <= recovery_id < 4:
        return None
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            raw[1:] + bytes([recovery_id]), double_sha256(SIGNED_PREFIX + message.encode()), hasher=None
        )
    except Exception as exc:
        # coincurve raises bare Exception or ValueError for what libsecp256k1 refuses.
        if type(exc) not in {Exception, ValueError}:
            raise
        return None
    return str(key.format().hex())
