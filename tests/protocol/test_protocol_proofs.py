"""Proof-locked rent against a slow transcription of its definition, and against a node that lies."""

from __future__ import annotations

import hashlib

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from protocol_strategies import NODE_ID, keys, share_ids

from lnstore_protocol import proofs
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeId, PaymentHash, ShareId
from lnstore_protocol.messages import MAX_SHARE_BYTES, SAMPLE_SHARES

SECRET = b"\x5a" * 32
AUDIT = proofs.audit_key(SECRET)
TOKEN = proofs.token_key(SECRET)
NONCE = proofs.audit_nonce(AUDIT, NODE_ID, 0)
SHARE = bytes(i * 31 % 253 for i in range(20_000))
SHARE_ID = ShareId(b"\x07" * 32)


def H(key: bytes, data: bytes, length: int = 32) -> bytes:  # noqa: N802 - the name in the definition
    return blake3(data, key=key).digest(length)


def defined_answer(nonce: bytes, share_id: bytes, share: bytes) -> bytes:
    """The definition at the head of proofs.py, line by line."""
    c = H(nonce, share_id)
    extended = H(c, b"positions", 256)
    sectors = -(-len(share) // 512)
    padded = share.ljust(sectors * 512, b"\0")
    positions = [int.from_bytes(extended[8 * j : 8 * j + 8], "big") % sectors for j in range(32)]
    return H(c, b"".join(padded[512 * p : 512 * p + 512] for p in positions))[:16]


def test_the_definition_written_out() -> None:
    """Nonce, answer, token and preimage, each from the formulas alone."""
    t = 5
    nonce = H(AUDIT, NODE_ID + t.to_bytes(4, "big"))
    assert proofs.audit_nonce(AUDIT, NODE_ID, t) == nonce
    answer = defined_answer(nonce, SHARE_ID, SHARE)
    assert proofs.answer(nonce, SHARE_ID, SHARE) == answer
    mask = H(TOKEN, NODE_ID + SHARE_ID + t.to_bytes(4, "big"))[:16]
    token = bytes(a ^ b for a, b in zip(answer, mask, strict=True))
    assert proofs.make_tokens(SHARE, SHARE_ID, AUDIT, TOKEN, NODE_ID, start=t, count=1) == token
    assert proofs.unmask(token, TOKEN, NODE_ID, SHARE_ID, t) == answer
    preimage = blake3(nonce + SHARE_ID + answer, derive_key_context="lnstore rent preimage v1").digest()
    assert proofs.fold(nonce, [(SHARE_ID, answer)]) == preimage
    assert proofs.payment_hash(preimage) == hashlib.sha256(preimage).digest()
    assert isinstance(proofs.payment_hash(preimage), PaymentHash)


@given(st.integers(1, 3000) | st.integers(1, 6).map(lambda sectors: 512 * sectors), keys, share_ids)
def test_every_way_to_an_answer_is_the_same(size: int, nonce: bytes, share_id: ShareId) -> None:
    """From the share, from single sectors, and through a reader: for whole and part last sectors."""
    share = SHARE[:size]
    answer = defined_answer(nonce, share_id, share)
    positions = proofs.challenge_positions(nonce, share_id, size)
    assert len(positions) == 32
    assert all(0 <= position < proofs.sector_count(size) for position in positions)
    sectors = b"".join(share[512 * p : 512 * p + 512].ljust(512, b"\0") for p in positions)
    assert proofs.answer_from_sectors(nonce, share_id, sectors) == answer
    assert proofs.answer(nonce, share_id, memoryview(share)) == answer
    assert proofs.answer_reading(nonce, share_id, size, lambda at, count: share[at : at + count]) == answer


def test_tokens_are_made_for_each_index() -> None:
    """24 by default; any part of them is the same made alone; bytearray and memoryview do as well."""
    tokens = proofs.make_tokens(SHARE, SHARE_ID, AUDIT, TOKEN, NODE_ID)
    assert len(tokens) == 24 * 16
    assert proofs.make_tokens(bytearray(SHARE), SHARE_ID, AUDIT, TOKEN, NODE_ID, start=7, count=2) == tokens[112:144]
    for t in (0, 23):
        nonce = proofs.audit_nonce(AUDIT, NODE_ID, t)
        token = tokens[16 * t : 16 * t + 16]
        assert proofs.unmask(token, TOKEN, NODE_ID, SHARE_ID, t) == proofs.answer(nonce, SHARE_ID, SHARE)


def test_everything_enters_the_token() -> None:
    """Another share, id, key, node or index gives other tokens."""
    other = proofs.audit_key(b"other")
    variants = [
        proofs.make_tokens(SHARE, SHARE_ID, AUDIT, TOKEN, NODE_ID, count=1),
        proofs.make_tokens(SHARE, SHARE_ID, AUDIT, TOKEN, NODE_ID, start=1, count=1),
        proofs.make_tokens(bytes(20_000), SHARE_ID, AUDIT, TOKEN, NODE_ID, count=1),
        proofs.make_tokens(SHARE, ShareId(b"\x08" * 32), AUDIT, TOKEN, NODE_ID, count=1),
        proofs.make_tokens(SHARE, SHARE_ID, other, TOKEN, NODE_ID, count=1),
        proofs.make_tokens(SHARE, SHARE_ID, AUDIT, other, NODE_ID, count=1),
        proofs.make_tokens(SHARE, SHARE_ID, AUDIT, TOKEN, NodeId(b"\x09" * 32), count=1),
    ]
    assert len(set(variants)) == len(variants)
    assert len({AUDIT, TOKEN, SECRET}) == 3


def test_nodes_that_hold_the_same_share_can_not_cancel_each_others_masks() -> None:
    """P-W3: token xor answer is another mask at each node, so that one's nonce and token say nothing of the other's."""
    masks = set()
    for node in (NODE_ID, NodeId(b"\x09" * 32)):
        token = proofs.make_tokens(SHARE, SHARE_ID, AUDIT, TOKEN, node, count=1)
        answer = proofs.answer(proofs.audit_nonce(AUDIT, node, 0), SHARE_ID, SHARE)
        assert proofs.unmask(token, TOKEN, node, SHARE_ID, 0) == answer
        masks.add(bytes(a ^ b for a, b in zip(token, answer, strict=True)))
    assert len(masks) == 2


def test_a_share_that_lacks_a_sampled_sector_gives_another_answer() -> None:
    """One bit in any of the 32 sectors, and only there, changes the answer."""
    positions = set(proofs.challenge_positions(NONCE, SHARE_ID, len(SHARE)))
    answer = proofs.answer(NONCE, SHARE_ID, SHARE)
    for sector in range(proofs.sector_count(len(SHARE))):
        damaged = bytearray(SHARE)
        damaged[sector * 512] ^= 1
        assert (proofs.answer(NONCE, SHARE_ID, damaged) != answer) is (sector in positions)


def test_positions_reach_the_whole_share() -> None:
    """Over the indices of a full share every part of it comes up."""
    hits = [0] * 16
    for t in range(200):
        for position in proofs.challenge_positions(proofs.audit_nonce(AUDIT, NODE_ID, t), SHARE_ID, MAX_SHARE_BYTES):
            hits[position * 16 // 8192] += 1
    assert min(hits) > 300
    assert max(hits) < 500


def test_mistakes_of_the_caller() -> None:
    """Wrong lengths and indices are ValueErrors, never wrong results."""
    with pytest.raises(ValueError, match="sectors"):
        proofs.answer_from_sectors(NONCE, SHARE_ID, bytes(100))
    with pytest.raises(ValueError, match="token has"):
        proofs.unmask(bytes(15), TOKEN, NODE_ID, SHARE_ID, 0)
    with pytest.raises(ValueError, match="answer has"):
        proofs.fold(NONCE, [(SHARE_ID, bytes(15))])
    with pytest.raises(ValueError, match="empty share"):
        proofs.make_tokens(b"", SHARE_ID, AUDIT, TOKEN, NODE_ID)
    with pytest.raises(ValueError, match="32-byte key"):
        proofs.answer(b"short", SHARE_ID, SHARE)
    for t in (-1, 1 << 32):
        with pytest.raises(ValueError, match="token index"):
            proofs.audit_nonce(AUDIT, NODE_ID, t)


# --- the sample -------------------------------------------------------------------------------------------------------

MANY = [ShareId(i.to_bytes(32, "big")) for i in range(700)]


def test_the_sample_is_the_smallest_keys_in_order() -> None:
    """512 of 700, sorted by their sample key, whatever the order given; all of fewer."""
    by_key = sorted(MANY, key=lambda share_id: H(NONCE, b"sample" + share_id))
    assert proofs.select_sample(NONCE, MANY) == by_key[:SAMPLE_SHARES]
    assert proofs.select_sample(NONCE, reversed(MANY)) == by_key[:SAMPLE_SHARES]
    assert proofs.select_sample(NONCE, []) == []
    assert set(proofs.select_sample(NONCE, MANY[:5])) == set(MANY[:5])
    assert proofs.sample_key(NONCE, MANY[0]) == H(NONCE, b"sample" + MANY[0])


def test_the_right_sample_passes() -> None:
    """Also when it is all the shares, or none."""
    for held in (MANY, MANY[:512], MANY[:3], []):
        assert proofs.check_sample(NONCE, held, proofs.select_sample(NONCE, held), []) == []


@given(st.integers(0, 700), st.data())
def test_a_share_left_out_shows(count: int, data: st.DataObject) -> None:  # P-R10
    """Whatever is missing from the sample and not admitted is reported; what is admitted is not."""
    held = MANY[:count]
    gone = data.draw(st.sets(st.sampled_from(held), max_size=5)) if held else set()
    sample = proofs.select_sample(NONCE, set(held) - gone)
    due = [share_id for share_id in proofs.select_sample(NONCE, held) if share_id in gone]
    assert proofs.check_sample(NONCE, held, sample, []) == due
    assert proofs.check_sample(NONCE, held, sample, sorted(gone)) == []


def test_shares_unknown_to_the_catalog_do_no_harm() -> None:
    """An interrupted upload left them; they are named so that the client can drop them."""
    sample = proofs.select_sample(NONCE, MANY)
    assert proofs.check_sample(NONCE, MANY[:600], sample, []) == []
    unknown = proofs.unexpected_ids(MANY[:600], sample)
    assert set(unknown) == set(sample) & set(MANY[600:])
    assert len(unknown) > 40


def test_a_sample_that_is_no_sample_is_refused() -> None:  # P-R9
    """Out of order, repeated, both held and lost, too long."""
    sample = proofs.select_sample(NONCE, MANY[:5])
    longest = sorted(MANY, key=lambda share_id: proofs.sample_key(NONCE, share_id))[: SAMPLE_SHARES + 1]
    for ids, lost, words in (
        (sample[::-1], [], "ascending"),
        ([sample[0], *sample], [], "ascending"),
        (sample, [sample[2]], "lost"),
        (longest, [], "most"),
    ):
        with pytest.raises(RemoteProtocolError, match=words):
            proofs.check_sample(NONCE, MANY[:5], ids, lost)


# --- a whole rent round -----------------------------------------------------------------------------------------------


def test_rent_is_locked_to_the_data() -> None:  # P-R13
    """Node and client reach one preimage; a node that lost a sector, or faked a token, reaches another."""
    shares = {ShareId(blake3(bytes([i])).digest()): bytes([i]) * (700 + 3000 * i) for i in range(1, 9)}
    t = 3
    stored = {i: proofs.make_tokens(data, i, AUDIT, TOKEN, NODE_ID) for i, data in shares.items()}

    nonce = proofs.audit_nonce(AUDIT, NODE_ID, t)
    sample = proofs.select_sample(nonce, shares)

    def node(held: dict[ShareId, bytes]) -> bytes:
        return proofs.fold(nonce, [(i, proofs.answer(nonce, i, held[i])) for i in sample])

    def client(tokens: dict[ShareId, bytes]) -> bytes:
        return proofs.fold(
            nonce, [(i, proofs.unmask(tokens[i][16 * t : 16 * t + 16], TOKEN, NODE_ID, i, t)) for i in sample]
        )

    assert proofs.payment_hash(node(shares)) == proofs.payment_hash(client(stored))
    lost = next(iter(shares))
    assert node(shares | {lost: bytes(len(shares[lost]))}) != client(stored)
    assert node(shares) != client(stored | {lost: bytes(384)})
