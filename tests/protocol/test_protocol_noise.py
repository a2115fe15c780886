"""The handshake against the published vectors, and against peers with other keys."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path

import pytest
from nacl.bindings import crypto_scalarmult_base

from lnstore_protocol.errors import LocalProtocolError, RemoteProtocolError
from lnstore_protocol.noise import MAX_NONCE, CipherState, Handshake

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "noise_xk_25519_chachapoly_blake2b.json"
ONE, TWO = b"\x01" * 32, b"\x02" * 32


def initiator(**changes: bytes) -> Handshake:
    options = {"prologue": b"p", "static_private": ONE, "remote_static": crypto_scalarmult_base(TWO)}
    return Handshake(initiator=True, **(options | changes))


def responder() -> Handshake:
    return Handshake(initiator=False, prologue=b"p", static_private=TWO)


def complete() -> tuple[Handshake, Handshake]:
    one, two = initiator(), responder()
    two.read_message(one.write_message())
    one.read_message(two.write_message())
    two.read_message(one.write_message())
    return one, two


@pytest.mark.skipif(not VECTORS.exists(), reason=f"the published Noise vectors are not at {VECTORS}")
def test_the_published_vectors() -> None:
    """Every message's bytes, the handshake hash, and the transport messages after it."""
    for vector in json.loads(VECTORS.read_text())["vectors"]:
        values = {key: bytes.fromhex(value) for key, value in vector.items() if key.startswith(("init", "resp"))}
        one = Handshake(
            initiator=True,
            prologue=values["init_prologue"],
            static_private=values["init_static"],
            remote_static=values["init_remote_static"],
            ephemeral_private=values["init_ephemeral"],
        )
        two = Handshake(
            initiator=False,
            prologue=values["resp_prologue"],
            static_private=values["resp_static"],
            ephemeral_private=values["resp_ephemeral"],
        )
        sides = cycle([(one, two), (two, one)])
        for message in vector["messages"][:3]:
            writer, reader = next(sides)
            ciphertext = writer.write_message(bytes.fromhex(message["payload"]))
            assert ciphertext.hex() == message["ciphertext"]
            assert reader.read_message(ciphertext).hex() == message["payload"]
        assert one.handshake_hash.hex() == two.handshake_hash.hex() == vector["handshake_hash"]
        one_sends, one_receives = one.split()
        two_sends, two_receives = two.split()
        ciphers = cycle([(two_sends, one_receives), (one_sends, two_receives)])
        for message in vector["messages"][3:]:
            sends, receives = next(ciphers)
            ciphertext = sends.seal(bytes.fromhex(message["payload"]))
            assert ciphertext.hex() == message["ciphertext"]
            assert receives.open(ciphertext).hex() == message["payload"]


def test_both_sides_agree() -> None:
    """Same hash, ciphers crosswise, and the responder has learned who the initiator is."""
    one, two = complete()
    assert one.handshake_hash == two.handshake_hash
    assert two.remote_static == crypto_scalarmult_base(ONE)
    (one_sends, one_receives), (two_sends, two_receives) = one.split(), two.split()
    assert two_receives.open(one_sends.seal(b"to two")) == b"to two"
    assert one_receives.open(two_sends.seal(b"to one")) == b"to one"


def test_into_and_plain_are_the_same_cipher() -> None:
    """seal_into and open_into differ from seal and open in nothing but the copy."""
    plaintext = b"x" * 1000
    out, back = bytearray(1016), bytearray(1000)
    CipherState(b"k" * 32).seal_into(plaintext, memoryview(out))
    assert bytes(out) == CipherState(b"k" * 32).seal(plaintext)
    CipherState(b"k" * 32).open_into(out, memoryview(back))
    assert back == plaintext
    out[5] ^= 1
    with pytest.raises(RemoteProtocolError, match="does not open"):
        CipherState(b"k" * 32).open_into(out, memoryview(back))


def test_ephemeral_keys_are_fresh() -> None:  # T-W2, T-W3
    """Without an injected key no two handshakes begin alike."""
    assert initiator().write_message() != initiator().write_message()


@pytest.mark.parametrize(
    "changes",
    [{"remote_static": crypto_scalarmult_base(b"\x09" * 32)}, {"prologue": b"q"}],
    ids=["another node's key", "another prologue"],
)
def test_act_1_for_someone_else_does_not_open(changes: dict[str, bytes]) -> None:
    """The responder's first operation tells."""
    with pytest.raises(RemoteProtocolError, match="another key"):
        responder().read_message(initiator(**changes).write_message())


@pytest.mark.parametrize("at", [0, 31, 32, 47])
def test_a_damaged_act_does_not_open(at: int) -> None:
    """Key and tag are both covered."""
    act = bytearray(initiator().write_message())
    act[at] ^= 1
    with pytest.raises(RemoteProtocolError):
        responder().read_message(bytes(act))


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_points_of_low_order_are_refused(point: bytes) -> None:  # T-R5
    """They would give a secret that everyone knows."""
    with pytest.raises(RemoteProtocolError, match="usable point"):
        responder().read_message(point + bytes(16))


def test_turns_are_kept() -> None:
    """Each side writes and reads in its turn only, and splits at the end only."""
    one, two = initiator(), responder()
    with pytest.raises(LocalProtocolError, match="turn"):
        two.write_message()
    with pytest.raises(LocalProtocolError, match="turn"):
        one.read_message(bytes(48))
    with pytest.raises(LocalProtocolError, match="not complete"):
        one.split()
    done, _ = complete()
    with pytest.raises(LocalProtocolError, match="turn"):
        done.write_message()


@pytest.mark.parametrize("initiates", [True, False])
def test_only_the_initiator_knows_the_other(initiates: bool) -> None:
    """XK: the initiator must give the responder's key, the responder none."""
    with pytest.raises(LocalProtocolError, match="XK"):
        Handshake(
            initiator=initiates,
            prologue=b"",
            static_private=b"s" * 32,
            remote_static=None if initiates else b"r" * 32,
        )


def test_the_last_nonce_is_never_used() -> None:  # T-W7
    """2^64-1 is reserved; a cipher that gets there refuses."""
    cipher = CipherState(b"k" * 32, first_nonce=MAX_NONCE - 1)
    cipher.seal(b"the last one")
    with pytest.raises(LocalProtocolError, match="used up"):
        cipher.seal(b"one too many")
    with pytest.raises(LocalProtocolError, match="used up"):
        cipher.open_into(bytes(17), memoryview(bytearray(1)))


def test_secrets_are_not_in_repr() -> None:  # S-R1
    """Neither keys nor chaining keys are printed."""
    handshake = initiator(ephemeral_private=b"\xaa" * 32)
    handshake.write_message()
    text = repr(handshake) + repr(CipherState(b"k" * 32))
    assert "aa" * 4 not in text
    assert "kkkk" not in text
    assert "\\x01" not in text
