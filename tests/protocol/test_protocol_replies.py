"""Replies that are well formed and do not answer what was asked."""

from __future__ import annotations

import pytest
from protocol_strategies import CLIENT_KEY, NODE_ID

from lnstore_protocol import merkle, replies
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, NodeAddress, ShareId
from lnstore_protocol.messages import LEAF_BYTES, GetShareReply
from lnstore_protocol.terms import Record

SHARE = bytes(i * 37 % 251 for i in range(3 * LEAF_BYTES + 100))
SHARE_ID = merkle.share_id(SHARE)
ACCOUNT = AccountId(CLIENT_KEY.public_key)


def leaves(first: int, last: int) -> GetShareReply:
    start, end = merkle.leaf_span(len(SHARE), first, last)
    proof = merkle.range_proof(merkle.leaf_hashes(SHARE), first, last)
    return GetShareReply(offset=start, share_bytes=len(SHARE), proof=proof, payload=SHARE[start:end])


@pytest.mark.parametrize(
    ("offset", "length", "first", "last"),
    [(0, 1, 0, 0), (0, 0, 0, 3), (LEAF_BYTES - 1, 2, 0, 1), (3 * LEAF_BYTES, 100, 3, 3), (LEAF_BYTES, 0, 1, 3)],
)
def test_exactly_the_leaves_of_the_range_are_taken(offset: int, length: int, first: int, last: int) -> None:
    """MB-R10, MB-R11: fewer leaves, more, or others are refused although their proofs hold."""
    replies.check_range(leaves(first, last), SHARE_ID, offset, length)
    for a in range(4):
        for b in range(a, 4):
            if (a, b) != (first, last):
                with pytest.raises(RemoteProtocolError) as info:
                    replies.check_range(leaves(a, b), SHARE_ID, offset, length)
                assert info.value.code is ErrorCode.RANGE_INVALID
    with pytest.raises(RemoteProtocolError) as info:
        replies.check_range(leaves(first, last), ShareId(bytes(32)), offset, length)
    assert info.value.code is ErrorCode.ROOT_MISMATCH


def test_a_share_of_an_impossible_size_is_refused_before_anything_is_computed() -> None:
    reply = GetShareReply(offset=0, share_bytes=(1 << 63) - 1, proof=b"", payload=b"x")
    with pytest.raises(RemoteProtocolError, match="larger than any"):
        replies.check_range(reply, SHARE_ID, 0, 0)


def test_bits_are_read_in_the_order_of_the_ids() -> None:
    """MB-R14: first id in the highest bit; another length is refused."""
    assert replies.read_held(b"\xa0\x80", 9) == [True, False, True, False, False, False, False, False, True]
    assert replies.read_held(b"", 0) == []
    for held, asked in ((b"", 1), (b"\0", 0), (b"\0", 9), (b"\0\0", 8)):
        with pytest.raises(RemoteProtocolError):
            replies.read_held(held, asked)


def entry(number: int, size: int = 5) -> bytes:
    return number.to_bytes(32, "big") + size.to_bytes(4, "big")


def test_a_list_is_read_in_order() -> None:
    """MB-R16."""
    listed = replies.read_share_list(entry(1) + entry(3, 4 << 20), limit=2)
    assert listed == [(ShareId((1).to_bytes(32, "big")), 5), (ShareId((3).to_bytes(32, "big")), 4 << 20)]
    assert replies.read_share_list(b"", limit=1) == []
    assert replies.read_share_list(entry(2), limit=1, after=(1).to_bytes(32, "big"))


@pytest.mark.parametrize(
    "payload",
    [
        entry(2)[:-1],
        entry(3) + entry(2),
        entry(2) + entry(2),
        entry(1),
        entry(2) + entry(3) + entry(4),
        entry(2, 0),
        entry(2, (4 << 20) + 1),
    ],
    ids=["cut", "descending", "repeated", "not after", "too many", "of no bytes", "above 4 MiB"],
)
def test_a_list_that_is_none_is_refused(payload: bytes) -> None:
    """MB-R16: each is a node at fault."""
    with pytest.raises(RemoteProtocolError):
        replies.read_share_list(payload, limit=2, after=(1).to_bytes(32, "big"))


def test_a_record_must_be_the_one_that_was_asked_for() -> None:
    """MB-R29: a good record of another name, or of another account, is none."""
    record = Record(account_id=ACCOUNT, name=b"catalog", sequence=3, value=b"v")
    encoded = record.sign(CLIENT_KEY)
    assert replies.read_record(encoded, account_id=ACCOUNT, name=b"catalog") == record
    other = AccountId(Identity(b"\x66" * 32).public_key)
    for account_id, name in ((ACCOUNT, b"other"), (other, b"catalog")):
        with pytest.raises(RemoteProtocolError):
            replies.read_record(encoded, account_id=account_id, name=name)


def test_the_newest_of_several_records_is_believed() -> None:
    """MB-R30: one node may serve an old one."""
    old, new = (Record(account_id=ACCOUNT, name=b"n", sequence=i, value=b"") for i in (3, 7))
    assert replies.newest([old, new, old]) is new
    assert replies.newest([]) is None


def test_what_is_no_address_among_the_peers_is_passed_over() -> None:
    """MB-R33."""
    address = NodeAddress(NODE_ID, "host", 7460)
    assert replies.read_peers(["", str(address), "http://x", f"lnstore://{NODE_ID}@h:0"]) == [address]


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    """M-R17, M-R19: escape sequences, line breaks and text that changes direction."""
    assert replies.printable("lnstore/1 (ünïcode)") == "lnstore/1 (ünïcode)"
    assert not set(replies.printable("a\x1b[2Jb\n\r\x07\x9b\u202e\u2066")) & set("\x1b\n\r\x07\x9b\u202e\u2066")
