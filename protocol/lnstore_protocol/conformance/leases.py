"""Checks of 02b: storing, asking, listing and dropping shares, and renewing their tokens."""

from __future__ import annotations

import os
from typing import Final

from lnstore_protocol.conformance.link import PeerClosed
from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.tenant import new_share, new_tenant, put, status, the_tenant
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import share_id
from lnstore_protocol.messages import (
    LEAF_BYTES,
    MAX_IDS,
    MAX_SHARE_BYTES,
    TOKEN_INDICES,
    AuditShare,
    AuditShareReply,
    DropShares,
    DropSharesReply,
    ErrorReply,
    HaveShares,
    HaveSharesReply,
    ListShares,
    ListSharesReply,
    PutShare,
    PutShareReply,
    PutTokens,
    PutTokensReply,
)
from lnstore_protocol.proofs import join_token_tables

CHECKS = Checks()
MALFORMED: Final = ErrorCode.MALFORMED
SIZES = (1, 511, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 5 * LEAF_BYTES + 7, 40 * LEAF_BYTES + 7)
FILLED_AT_MOST_BYTES = 64 << 20
"""Up to this capacity an account is filled to see that it can not be overfilled."""

LISTED_BYTES = 36


def have(trial: Trial, link: NodeLink, ids: list[ShareId]) -> list[bool]:
    """Which of the shares the account has, by the node's bits (MB-R14)."""
    held = trial.reply(link, HaveShares(payload=b"".join(ids)), HaveSharesReply, "MB-R12").held
    trial.require("MB-R14", len(held) == -(-len(ids) // 8), f"{len(held)} bytes of bits for {len(ids)} ids")
    bits = [bool(held[at // 8] & 0x80 >> at % 8) for at in range(len(held) * 8)]
    trial.require("MB-R12", not any(bits[len(ids) :]), "unused bits that are not 0")
    return bits[: len(ids)]


def listed(trial: Trial, link: NodeLink, *, after: ShareId | None = None, limit: int = MAX_IDS) -> dict[ShareId, int]:
    """The account's shares and their sizes, by the node's list (MB-R16)."""
    payload = bytes(trial.reply(link, ListShares(limit=limit, after=after), ListSharesReply, "MB-W3").payload)
    rows = [payload[at : at + LISTED_BYTES] for at in range(0, len(payload), LISTED_BYTES)]
    trial.require("MB-R16", not rows or len(rows[-1]) == LISTED_BYTES, "a list that is not a multiple of 36 bytes")
    trial.require("MB-R16", len(rows) <= limit, f"{len(rows)} shares listed, {limit} asked for")
    ids = [row[:32] for row in rows]
    trial.require("MB-R16", ids == sorted(set(ids)), "a list that is not strictly ascending")
    trial.require("MB-R16", not ids or after is None or ids[0] > after, "a list that is not after the id asked for")
    return {ShareId(row[:32]): int.from_bytes(row[32:], "big") for row in rows}


def audited(trial: Trial, link: NodeLink, wanted: ShareId, requirement: str = "MB-R21") -> bytes:
    """The first leaf of a share; `requirement` is broken when there is none."""
    return bytes(trial.reply(link, AuditShare(share_id=wanted, leaf=0), AuditShareReply, requirement).payload)


# --- storing ----------------------------------------------------------------------------------------------------------


@CHECKS.on("MB-R2", "MB-R5", "MB-R12", "MB-W3", "P-W1", "P-R1")
def storing(trial: Trial) -> None:
    """Shares of every kind of size are stored, counted, held and listed; the greatest is 4 MiB."""
    tenant, link = the_tenant(trial)
    before = status(trial, link)
    stored = {}
    for size in (*SIZES, *([MAX_SHARE_BYTES] if tenant.capacity_bytes >= 2 * MAX_SHARE_BYTES else [])):
        stored[put(trial, link, tenant, new_share(size))] = size
    after = status(trial, link)
    used = before.used_bytes + sum(stored.values())
    trial.require("MB-R5", after.used_bytes == used, f"{after.used_bytes} bytes used instead of {used}")
    trial.require("MB-R5", after.shares == before.shares + len(stored), f"{after.shares} shares")
    trial.require("MB-R12", all(have(trial, link, list(stored))), "have_shares lacks a share that was stored")
    shown = listed(trial, link)
    trial.require("MB-W3", stored.items() <= shown.items(), "list_shares lacks a share that was stored, or its size")
    trial.reached.update({"P-W1", "P-R1", "MB-R2"})


@CHECKS.on("MB-R3", "MB-R2")
def wrong_root(trial: Trial) -> None:
    """A payload whose share id is another is refused with ROOT_MISMATCH, and nothing is stored.

    Of small and of large ones: a node may well store these in different ways.
    """
    tenant, link = the_tenant(trial)
    share, large = new_share(2 * LEAF_BYTES), new_share(40 * LEAF_BYTES + 1)
    for what, wanted, payload in (
        ("a share with one bit changed", share_id(share), _one_bit_changed(share)),
        ("a large share with one bit changed", share_id(large), _one_bit_changed(large)),
        ("a share cut short", share_id(share), share[:-1]),
        ("a share with a zero byte more", share_id(share), share + b"\0"),
        ("a share under random bytes", ShareId(os.urandom(32)), share),
    ):
        request = PutShare(share_id=wanted, token_start=0, tokens=b"", payload=payload)
        trial.refusal("MB-R3", link, request, ErrorCode.ROOT_MISMATCH, what=what)
        trial.require("MB-R3", not any(have(trial, link, [wanted])), f"{what} is held nonetheless")
    trial.require("MB-R3", status(trial, link).used_bytes == sum(listed(trial, link).values()), "refused bytes count")
    put(trial, link, tenant, share)
    trial.reached.add("MB-R2")


def _one_bit_changed(share: bytes) -> bytes:
    return bytes([share[0] ^ 1]) + share[1:]


@CHECKS.on("MB-R2", "P-R1")
def malformed_puts(trial: Trial) -> None:
    """An empty share, and tokens that are not a multiple of 16 bytes, are MALFORMED."""
    _, link = the_tenant(trial)
    share = new_share(10)
    for what, request in (
        ("an empty share", PutShare(share_id=ShareId(bytes(32)), token_start=0, tokens=b"", payload=b"")),
        ("15 bytes of tokens", PutShare(share_id=share_id(share), token_start=0, tokens=bytes(15), payload=share)),
        ("383 bytes of tokens", PutShare(share_id=share_id(share), token_start=0, tokens=bytes(383), payload=share)),
    ):
        trial.refusal("MB-R2", link, request, MALFORMED, what=what)
    trial.reached.add("P-R1")


@CHECKS.on("MB-R2")
def capacity_is_enforced(trial: Trial) -> None:
    """What does not fit into the rest of the capacity is refused with CAPACITY_EXCEEDED; what just fits is stored."""
    tenant, link = the_tenant(trial)
    now = status(trial, link)
    room = now.capacity_bytes - now.used_bytes
    if room > FILLED_AT_MOST_BYTES:
        raise Skipped(f"the account has {room} bytes of room; give --capacity for less")
    while room > MAX_SHARE_BYTES:
        put(trial, link, tenant, new_share(MAX_SHARE_BYTES), tokens=b"")
        room -= MAX_SHARE_BYTES
    if room < MAX_SHARE_BYTES:
        over = new_share(room + 1)
        request = PutShare(share_id=share_id(over), token_start=0, tokens=b"", payload=over)
        what = f"a share of {room + 1} bytes where {room} fit"
        trial.refusal("MB-R2", link, request, ErrorCode.CAPACITY_EXCEEDED, what=what)
    if room:
        put(trial, link, tenant, new_share(room), tokens=b"")
    one = new_share(4)
    request = PutShare(share_id=share_id(one), token_start=0, tokens=b"", payload=one)
    trial.refusal("MB-R2", link, request, ErrorCode.CAPACITY_EXCEEDED, what="a share where nothing fits any more")
    full = status(trial, link)
    trial.require("MB-R2", full.used_bytes <= full.capacity_bytes, "more is used than the capacity")


@CHECKS.on("MB-R5")
def storing_twice(trial: Trial) -> None:
    """A share that is stored again counts once and is answered as a new one."""
    tenant, link = the_tenant(trial)
    share = new_share(20_000)
    put(trial, link, tenant, share)
    first = status(trial, link)
    for tokens in (tenant.tokens(share), tenant.tokens(share, 5, 3), b""):
        request = PutShare(share_id=share_id(share), token_start=0, tokens=tokens, payload=share)
        reply = trial.reply(link, request, PutShareReply, "MB-R5")
        trial.require("MB-R5", reply.used_bytes == first.used_bytes, "a share that is stored again counts again")
    again = status(trial, link)
    same = (again.shares, again.used_bytes) == (first.shares, first.used_bytes)
    trial.require("MB-R5", same, "a share that is stored again counts again")


@CHECKS.on("MB-R6", "MB-R12", "MB-R21", "V-R2")
def anothers_shares(trial: Trial) -> None:
    """Whoever has not sent a share's bytes has no lease on it, and is told nothing of who has."""
    tenant, link = the_tenant(trial)
    other = new_tenant(trial)
    stranger = trial.link(other.identity)
    share = new_share(2 * LEAF_BYTES)
    stored = put(trial, link, tenant, share)
    for what, payload in (
        ("other bytes", os.urandom(len(share))),
        ("one byte", b"x"),
        ("half of it", share[:LEAF_BYTES]),
    ):
        request = PutShare(share_id=stored, token_start=0, tokens=b"", payload=payload)
        refused = ErrorCode.ROOT_MISMATCH
        trial.refusal("MB-R6", stranger, request, refused, what=f"{what} for a share that another account has")
    trial.require("MB-R12", not any(have(trial, stranger, [stored])), "have_shares shows another account's share")
    trial.require("V-R2", stored not in listed(trial, stranger), "list_shares shows another account's share")
    audit = AuditShare(share_id=stored, leaf=0)
    trial.refusal("MB-R21", stranger, audit, ErrorCode.SHARE_UNKNOWN, what="an audit of another account's share")
    request = PutShare(share_id=stored, token_start=0, tokens=other.tokens(share), payload=share)
    reply = stranger.ask(request)
    said = reply.code.name if isinstance(reply, ErrorReply) else ""
    trial.require("MB-R6", isinstance(reply, PutShareReply), f"the share's own bytes were answered {said}")
    trial.leases.append((other.identity, stored))


# --- asking and listing -----------------------------------------------------------------------------------------------


@CHECKS.on("MB-R12", "MB-R14")
def many_ids(trial: Trial) -> None:
    """have_shares answers one bit per id, in order, for none to 16,384 ids."""
    tenant, link = the_tenant(trial)
    stored = put(trial, link, tenant, new_share(100))
    for count in (0, 1, 8, 9, MAX_IDS):
        ids = [ShareId(os.urandom(32)) for _ in range(count)]
        places = {0, count // 2, count - 1} if count else set()
        for place in places:
            ids[place] = stored
        held = {at for at, is_held in enumerate(have(trial, link, ids)) if is_held}
        trial.require("MB-R12", held == places, f"of {count} ids the bits {sorted(held)} are set, not {sorted(places)}")


@CHECKS.on("MB-R13", "MB-R19")
def ids_of_odd_length(trial: Trial) -> None:
    """A payload of ids that is not a multiple of 32 bytes is MALFORMED."""
    _, link = the_tenant(trial)
    for length in (1, 31, 33, 32 * 100 + 1):
        trial.refusal("MB-R13", link, HaveShares(payload=bytes(length)), MALFORMED, what=f"{length} bytes of ids")
        trial.refusal("MB-R19", link, DropShares(payload=bytes(length)), MALFORMED, what=f"{length} bytes of ids")


@CHECKS.on("MB-W3", "MB-R16")
def listing_in_pages(trial: Trial) -> None:
    """Pages of any length give the same list, and a page is short only when it is the last."""
    tenant, link = the_tenant(trial)
    for _ in range(7):
        put(trial, link, tenant, new_share(50))
    whole = listed(trial, link)
    for limit in (1, 3, len(whole), len(whole) + 1):
        pages: dict[ShareId, int] = {}
        after: ShareId | None = None
        while page := listed(trial, link, after=after, limit=limit):
            pages |= page
            after = max(page)
            if len(page) < limit:
                break
        trial.require("MB-W3", pages == whole, f"pages of {limit} give {len(pages)} of {len(whole)} shares")
    last = ShareId(b"\xff" * 32)
    trial.require("MB-W3", not listed(trial, link, after=last), "shares after the last id there can be")


@CHECKS.on("MB-R15")
def limits_of_lists(trial: Trial) -> None:
    """A list of no share, or of more than 16,384, is TOO_LARGE."""
    _, link = the_tenant(trial)
    for limit in (0, MAX_IDS + 1, (1 << 63) - 1):
        trial.refusal("MB-R15", link, ListShares(limit=limit), ErrorCode.TOO_LARGE, what=f"a limit of {limit}")


# --- dropping ---------------------------------------------------------------------------------------------------------


@CHECKS.on("MB-R18")
def dropping(trial: Trial) -> None:
    """Dropped shares are gone at once; unknown ids are passed over; dropping again does nothing."""
    tenant, link = the_tenant(trial)
    keep = put(trial, link, tenant, new_share(300))
    gone = [put(trial, link, tenant, new_share(1000 + at)) for at in range(3)]
    before = status(trial, link)
    ids = [gone[0], ShareId(os.urandom(32)), gone[1], gone[2], gone[0]]
    reply = trial.reply(link, DropShares(payload=b"".join(ids)), DropSharesReply, "MB-R18")
    trial.require("MB-R18", reply.dropped == len(gone), f"{reply.dropped} leases ended instead of {len(gone)}")
    left = before.used_bytes - 3003
    trial.require("MB-R18", reply.used_bytes == left, f"{reply.used_bytes} bytes used instead of {left}")
    trial.require("MB-R18", have(trial, link, [keep, *gone]) == [True, False, False, False], "what was dropped is held")
    again = trial.reply(link, DropShares(payload=b"".join(gone)), DropSharesReply, "MB-R18")
    trial.require("MB-R18", again.dropped == 0, "the same leases ended twice")


@CHECKS.on("MB-R18", "MB-R20")
def dropping_what_others_lease(trial: Trial) -> None:
    """Nobody can drop another account's lease, and a share stays while anybody leases it."""
    tenant, link = the_tenant(trial)
    other = new_tenant(trial)
    stranger = trial.link(other.identity)
    share = new_share(5000)
    stored = put(trial, link, tenant, share)
    reply = trial.reply(stranger, DropShares(payload=stored), DropSharesReply, "MB-R18")
    trial.require("MB-R18", reply.dropped == 0, "a stranger ended a lease")
    trial.require("MB-R18", have(trial, link, [stored]) == [True], "a stranger ended a lease")
    put(trial, stranger, other, share)
    trial.reply(stranger, DropShares(payload=stored), DropSharesReply, "MB-R18")
    trial.require("MB-R20", have(trial, link, [stored]) == [True], "the lease went with another account's")
    trial.require(
        "MB-R20", audited(trial, link, stored, "MB-R20") == share, "the share went with another account's lease"
    )


@CHECKS.on("MB-R4", "T-R19")
def put_on_a_connection_that_ends(trial: Trial) -> None:
    """What was acknowledged is there on the next connection; a put that was cut off can be repeated."""
    tenant, link = the_tenant(trial)
    stored = put(trial, link, tenant, new_share(9_000))
    share = new_share(700_000)
    request = PutShare(share_id=share_id(share), token_start=0, tokens=b"", payload=share)
    link.send_requests(request)
    link.close()
    fresh = trial.link(tenant.identity)
    trial.require("MB-R4", have(trial, fresh, [stored]) == [True], "a share that was acknowledged is gone")
    try:
        put(trial, fresh, tenant, share)
    except PeerClosed:
        raise Failed("T-R19", "a put could not be repeated") from None
    trial.reached.add("T-R19")


# --- renewing tokens --------------------------------------------------------------------------------------------------


def put_tokens(
    trial: Trial, link: NodeLink, shares: list[bytes], tables: list[bytes], *, start: int = 0
) -> tuple[bool, ...]:
    """Send these tables of one length; the node's bits (MB-R39)."""
    payload = join_token_tables((share_id(share), table) for share, table in zip(shares, tables, strict=True))
    request = PutTokens(token_start=start, count=len(tables[0]) // 16, payload=payload)
    stored = trial.reply(link, request, PutTokensReply, "MB-R35").stored
    trial.require(
        "MB-R38", len(stored) == -(-len(shares) // 8), f"{len(stored)} bytes of bits for {len(shares)} shares"
    )
    bits = [bool(stored[at // 8] & 0x80 >> at % 8) for at in range(len(stored) * 8)]
    trial.require("MB-R36", not any(bits[len(shares) :]), "unused bits that are not 0")
    return tuple(bits[: len(shares)])


@CHECKS.on("MB-R35", "MB-R36", "MB-R39")
def renewing_tokens(trial: Trial) -> None:
    """New tokens are taken for leased shares and for no others, as often as they are sent, and nothing else changes."""
    tenant, link = the_tenant(trial)
    shares = [new_share(size) for size in (5, 20_000, 300)]
    for share in (shares[0], shares[2]):
        put(trial, link, tenant, share, tokens=tenant.tokens(share, 0, 2))
    before = status(trial, link)
    tables = [tenant.tokens(share) for share in shares]
    for _ in range(2):
        stored = put_tokens(trial, link, shares, tables)
        trial.require("MB-R36", stored == (True, False, True), f"bits {stored}: the first and the third are leased")
    trial.require("MB-R35", not any(have(trial, link, [share_id(shares[1])])), "tokens alone gave a lease")
    after = status(trial, link)
    same = (after.shares, after.used_bytes, after.token_index) == (before.shares, before.used_bytes, before.token_index)
    trial.require("MB-R35", same, "tokens changed what the account uses")
    other = new_tenant(trial)
    strange = put_tokens(trial, trial.link(other.identity), shares[:1], [other.tokens(shares[0])])
    trial.require("MB-R36", strange == (False,), "an account replaced another's tokens")


@CHECKS.on("MB-R34")
def tokens_refused(trial: Trial) -> None:
    """Tokens in no form, and for indices that there are none of, are refused."""
    tenant, link = the_tenant(trial)
    share = new_share(700)
    stored = put(trial, link, tenant, share)
    for count, length in (
        (0, 32),
        (25, 32 + 25 * 16),
        (24, 0),
        (24, 415),
        (24, 417),
        (1, 1025 * 48),
        ((1 << 63) - 1, 48),
    ):
        request = PutTokens(token_start=0, count=count, payload=bytes(length))
        trial.refusal("MB-R34", link, request, MALFORMED, what=f"{length} bytes of tokens, {count} for each share")
    for start, count in ((TOKEN_INDICES, 1), (TOKEN_INDICES - 1, 2), ((1 << 63) - 1, 24)):
        request = PutTokens(token_start=start, count=count, payload=stored + bytes(16 * count))
        trial.refusal("MB-R34", link, request, MALFORMED, what=f"{count} tokens from index {start} on")
