"""What a client checks in replies that no reader of a message can: whether they answer what was asked (spec 02b).

Each function takes the parts of a reply and what was asked, and gives what the reply says. RemoteProtocolError means
that the node is at fault, whatever else it sent; the codes are local names.
"""

from __future__ import annotations

from collections.abc import Iterable

from lnstore_protocol import merkle
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import AccountId, NodeAddress, ShareId
from lnstore_protocol.messages import MAX_SHARE_BYTES, Buffer, GetShareReply
from lnstore_protocol.terms import Record

LISTED_BYTES = ShareId.SIZE + 4
"""One entry of list_shares: share id and size."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def check_range(reply: GetShareReply, share_id: ShareId, offset: int, length: int) -> None:
    """Check that a get_share_reply is what was asked for (MB-R10, MB-R11); `length` 0 is to the end.

    RemoteProtocolError: RANGE_INVALID when the leaves are others than those of `length` bytes at `offset`,
    ROOT_MISMATCH when they are not the share's.
    """
    if reply.share_bytes > MAX_SHARE_BYTES:
        raise RemoteProtocolError("a share larger than any", ErrorCode.RANGE_INVALID)
    leaves = merkle.leaf_range(reply.share_bytes, offset, length)
    if (reply.offset, reply.offset + len(reply.payload)) != merkle.leaf_span(reply.share_bytes, *leaves):
        raise RemoteProtocolError("not the range that was asked for", ErrorCode.RANGE_INVALID)
    merkle.verify_range(share_id, reply.share_bytes, reply.offset, reply.payload, reply.proof)


def read_held(held: bytes, asked: int) -> list[bool]:
    """For each of the `asked` ids of a have_shares, in their order, whether it is held (MB-R14)."""
    if len(held) != -(-asked // 8):
        raise RemoteProtocolError(f"{len(held)} bytes of bits for {asked} shares")
    return [bool(held[i // 8] & 0x80 >> i % 8) for i in range(asked)]


def pack_bits(flags: Iterable[bool]) -> bytes:
    """One bit each, the first in the most significant bit of the first byte, unused bits 0: what read_held reads."""
    given = list(flags)
    bits = bytearray(-(-len(given) // 8))
    for at, flag in enumerate(given):
        if flag:
            bits[at // 8] |= 0x80 >> at % 8
    return bytes(bits)


def read_share_list(payload: Buffer, *, limit: int, after: bytes | None = None) -> list[tuple[ShareId, int]]:
    """The (share id, size in bytes) pairs of a list_shares_reply, ascending (MB-R16).

    Fewer than `limit` are the last ones; else ask again with `after` the last id.
    """
    data = bytes(payload)
    if len(data) % LISTED_BYTES or len(data) > limit * LISTED_BYTES:
        raise RemoteProtocolError(f"a list of {len(data)} bytes, where at most {limit} shares were asked for")
    parts = [data[at : at + LISTED_BYTES] for at in range(0, len(data), LISTED_BYTES)]
    listed = [(ShareId(part[: ShareId.SIZE]), int.from_bytes(part[ShareId.SIZE :], "big")) for part in parts]
    before = after or b""
    for share_id, size in listed:
        if share_id <= before or not 0 < size <= MAX_SHARE_BYTES:
            raise RemoteProtocolError("a list of shares out of order, or a share of an impossible size")
        before = share_id
    return listed


def read_record(encoded: bytes, *, account_id: AccountId, name: bytes) -> Record:
    """The record that was asked for (MB-R29); RemoteProtocolError also when it is another one."""
    record = Record.decode(encoded)
    if (record.account_id, record.name) != (account_id, name):
        raise RemoteProtocolError("a record of another account or name", ErrorCode.BAD_SIGNATURE)
    return record


def newest(records: Iterable[Record]) -> Record | None:
    """The record to believe, of those that several nodes gave (MB-R30): the one of the greatest sequence."""
    return max(records, key=lambda record: record.sequence, default=None)


def read_peers(peers: Iterable[str]) -> list[NodeAddress]:
    """The addresses among the texts of a list_peers_reply; anything else is passed over (MB-R33)."""
    addresses: list[NodeAddress] = []
    for text in peers:
        try:
            addresses.append(NodeAddress.parse(text))
        except ValueError:
            continue
    return addresses


def printable(text: str) -> str:
    """Text from the peer as it may be shown or logged (M-R17, M-R19): what a terminal would obey is replaced."""
    return "".join(letter if letter.isprintable() else _REPLACEMENT for letter in text)
