"""Nodes with one defect each are caught by the number of the requirement they break.

Each is lnstore's own node with one handler, one part of a port or one step of the protocol exchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cbor2
import msgpack
import pytest
from conformance_world import NodeWorld
from sqlalchemy.dialects.sqlite import insert

from lnstore.books import SqlBooks, adding, ingress
from lnstore.books.schema import leases
from lnstore.node import proof, session
from lnstore.node.egress import Egress
from lnstore.node.errors import Refusal
from lnstore.node.handlers import HANDLERS, shares
from lnstore.ports import SMALL_SHARE_BYTES, Account, BooksRefused
from lnstore.storage import NodeShares
from lnstore_protocol.connection import Connection
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.events import UnknownRequest
from lnstore_protocol.frames import Frame, FrameReader
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, Msat, NodeId, ShareId
from lnstore_protocol.merkle import leaf_hashes
from lnstore_protocol.messages import (
    AccountStatus,
    DropShares,
    DropSharesReply,
    GetShare,
    GetTerms,
    HaveShares,
    HaveSharesReply,
    Leave,
    PutRecord,
    PutRecordReply,
    PutShare,
    PutShareReply,
    PutTokens,
    PutTokensReply,
    RequestInvoice,
    ShrinkCapacity,
    TermsReply,
)
from lnstore_protocol.prices import Prices
from lnstore_protocol.proofs import fold
from lnstore_protocol.terms import SignedTerms, traffic_msat

Handler = Callable[[Any, Any], Awaitable[Any]]
Break = Callable[[NodeWorld, pytest.MonkeyPatch], None]
DEFECTS: list[Any] = []


def defect(requirement: str, **tools: Any) -> Callable[[Break], Break]:
    """Puts the decorated function, which breaks a node, into the table."""

    def add(break_it: Break) -> Break:
        DEFECTS.append(pytest.param(break_it, requirement, tools, id=break_it.__name__))
        return break_it

    return add


def around(patch: pytest.MonkeyPatch, kind: type[Any], wrap: Callable[[Handler, Any, Any], Awaitable[Any]]) -> None:
    """Put `wrap(true handler, request, message)` in the place of a handler."""
    true = HANDLERS[kind]

    async def handler(request: Any, message: Any) -> Any:
        return await wrap(true, request, message)

    patch.setitem(HANDLERS, kind, handler)


# --- shares -----------------------------------------------------------------------------------------------------------


@defect("MB-R3")
def accepts_a_small_share_with_a_wrong_root(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    _check_only(patch, lambda size: size > SMALL_SHARE_BYTES)


@defect("MB-R3")
def accepts_a_large_share_with_a_wrong_root(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    _check_only(patch, lambda size: size <= SMALL_SHARE_BYTES)


def _check_only(patch: pytest.MonkeyPatch, checked: Callable[[int], bool]) -> None:
    """Of the one check that every way to store a share goes through, leave that of shares of some sizes."""
    true = shares._check_root
    patch.setattr(
        shares, "_check_root", lambda wanted, data: true(wanted, data) if checked(len(data)) else leaf_hashes(data)
    )


@defect("P-R5")
def serves_a_wrong_range_proof(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        reply = await true(request, message)
        return dataclasses.replace(reply, proof=bytes(len(reply.proof)))

    around(patch, GetShare, wrap)


@defect("MB-W2")
def serves_a_leaf_too_many(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        return await true(request, dataclasses.replace(message, length=0))

    around(patch, GetShare, wrap)


@defect("MB-R9", patience_seconds=1.0)
def serves_shares_without_a_deposit(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def reading(_egress: Egress, _account: Any, _count: int) -> AsyncIterator[None]:
        yield

    patch.setattr(Egress, "reading", reading)


@defect("R-W22")
def charges_reading_twice(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    true = Egress.reading

    @asynccontextmanager
    async def reading(egress: Egress, account: Any, count: int) -> AsyncIterator[None]:
        async with true(egress, account, count), true(egress, account, count):
            yield

    patch.setattr(Egress, "reading", reading)


@defect("RI-W1")
def rounds_each_share_up(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ingress, "ingress_msat", lambda _before, count, price: traffic_msat(count, price))


@defect("RI-W2")
def charges_a_share_that_is_stored_again(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adding, "_there", lambda _connection, _ids: frozenset())
    patch.setattr(adding, "_INSERT", insert(leases).prefix_with("OR IGNORE"))


@defect("RI-W4")
def writes_without_a_deposit(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(adding, "tabs_of", lambda _connection, _keys: {})
    patch.setattr(ingress.Tab, "refusal", lambda *_args: None)


@defect("MB-R12")
def tells_whether_anybody_has_a_share(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(_true: Handler, request: Any, message: Any) -> Any:
        ids = bytes(message.payload)
        held = [request.node.shares.size(ShareId(ids[at : at + 32])) for at in range(0, len(ids), 32)]
        bits = bytearray(-(-len(held) // 8))
        for at, size in enumerate(held):
            bits[at // 8] |= 0x80 >> at % 8 if size else 0
        return HaveSharesReply(held=bytes(bits))

    around(patch, HaveShares, wrap)


@defect("MB-R18")
def lets_a_stranger_drop_leases(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(_true: Handler, request: Any, message: Any) -> Any:
        ids = bytes(message.payload)
        wanted = [ShareId(ids[at : at + 32]) for at in range(0, len(ids), 32)]
        ended = [
            await request.node.books.drop_leases(a.account_id, wanted) for a in await request.node.books.accounts()
        ]
        return DropSharesReply(dropped=sum(count for count, _ in ended), used_bytes=0)

    around(patch, DropShares, wrap)


@defect("MB-R2")
def ignores_the_capacity(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        try:
            return await true(request, message)
        except BooksRefused:
            return PutShareReply(used_bytes=0)

    around(patch, PutShare, wrap)


@defect("MB-R4")
def forgets_small_puts_after_a_restart(world: NodeWorld, _patch: pytest.MonkeyPatch) -> None:
    world.make_shares = partial(_without, lambda size: size <= SMALL_SHARE_BYTES)


@defect("MB-R4")
def forgets_large_puts_after_a_restart(world: NodeWorld, _patch: pytest.MonkeyPatch) -> None:
    world.make_shares = partial(_without, lambda size: size > SMALL_SHARE_BYTES)


def _without(lost: Callable[[int], bool], folder: Path) -> NodeShares:
    """What is in the folder, but for the shares of these sizes."""
    store = NodeShares(folder)
    for share_id in list(store.share_ids()):
        if lost(store.size(share_id) or 0):
            store.delete(share_id)
    return store


# --- money ------------------------------------------------------------------------------------------------------------


@defect("R-W8")
def charges_a_growth_over_its_terms(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    right = Prices.growth_msat
    patch.setattr(Prices, "growth_msat", lambda *args: Msat(right(*args) + 1))


@defect("R-W17")
def charges_rent_over_its_terms(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    right = Prices.rent_msat
    patch.setattr(Prices, "rent_msat", lambda *args: Msat(right(*args) * 2))


@defect("R-W15")
def credits_twice(world: NodeWorld, _patch: pytest.MonkeyPatch) -> None:
    class Books(SqlBooks):
        async def account(self, account_id: AccountId) -> Account | None:
            account = await super().account(account_id)
            return account and dataclasses.replace(account, deposit_msat=Msat(2 * account.deposit_msat))

    world.make_books = Books.open


@defect("MA-R18")
def gives_another_reply_for_the_same_nonce(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        reply = await true(request, message)
        asked.append(message)
        return reply if asked.count(message) == 1 else dataclasses.replace(reply, sample=b"", shares=0)

    around(patch, RequestInvoice, wrap)


@defect("MA-R17")
def accepts_another_nonce(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    first: dict[Any, Any] = {}

    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        return await true(request, first.setdefault((request.account_id, message.period), message))

    around(patch, RequestInvoice, wrap)


@defect("P-W11")
def folds_without_reading(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    def fold_zeros(nonce: bytes, answers: Any) -> bytes:
        return fold(nonce, [(share_id, bytes(16)) for share_id, _ in answers])

    patch.setattr(proof, "fold", fold_zeros)


@defect("P-W10")
def makes_up_tokens(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proof, "NO_TOKEN", b"\xff" * 16)


# --- signed structures ------------------------------------------------------------------------------------------------


@defect("R-R3")
def signs_the_terms_of_another_node(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    other = Identity.generate()

    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        terms = SignedTerms.decode((await true(request, message)).terms).terms
        moved = dataclasses.replace(terms, node_id=NodeId(other.public_key))
        return TermsReply(terms=moved.sign(other).encoded)

    around(patch, GetTerms, wrap)


@defect("C-R6")
def writes_cbor_in_any_order(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        terms = cbor2.loads((await true(request, message)).terms)
        return TermsReply(terms=cbor2.dumps(dict(reversed(terms.items()))))

    around(patch, GetTerms, wrap)


@defect("MB-R26")
def takes_an_older_record(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        try:
            return await true(request, message)
        except BooksRefused:
            return PutRecordReply()

    around(patch, PutRecord, wrap)


# --- the wire ---------------------------------------------------------------------------------------------------------


@defect("T-W7")
def uses_a_nonce_twice(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    class Repeating(Connection):
        def send_reply(self, request_id: int, message: Any) -> Any:
            assert self._sender is not None
            cipher = self._sender._cipher
            cipher._next = max(0, cipher._next - 1)
            return super().send_reply(request_id, message)

    patch.setattr(session, "Connection", Repeating)


@defect("T-R12", patience_seconds=0.5)
def ignores_size_limits(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    class Unlimited(FrameReader):
        def _check_limits(self) -> None:
            self._type = GetTerms.TYPE

    class Open(Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._frames = Unlimited()

    patch.setattr(session, "Connection", Open)


@defect("M-R5")
def closes_on_an_unknown_even_message(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    class Strict(Connection):
        def _frame_event(self, frame: Frame) -> Any:
            event = super()._frame_event(frame)
            if isinstance(event, UnknownRequest):
                raise RemoteProtocolError("not known")
            return event

    patch.setattr(session, "Connection", Strict)


@defect("M-R4")
def answers_an_unknown_odd_message(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    class Talkative(Connection):
        def _frame_event(self, frame: Frame) -> Any:
            if frame.type != 1001:
                return super()._frame_event(frame)
            self._note_request(77, frame.type)
            return UnknownRequest(77, frame.type)

    patch.setattr(session, "Connection", Talkative)


@defect("M-R3")
def closes_on_an_odd_field(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    class Strict(Connection):
        def _request_event(self, frame: Frame) -> Any:
            if 201 in dict(msgpack.unpackb(frame.head, strict_map_key=False)[2]):
                raise RemoteProtocolError("not known")
            return super()._request_event(frame)

    patch.setattr(session, "Connection", Strict)


@defect("C-R2")
def takes_a_boolean_for_an_integer(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    class Lax(Connection):
        def _request_event(self, frame: Frame) -> Any:
            try:
                kind, request_id, body = msgpack.unpackb(frame.head, strict_map_key=False)
                body = {key: int(value) if value is True else value for key, value in body.items()}
            except (ValueError, AttributeError):
                return super()._request_event(frame)
            return super()._request_event(frame._replace(head=msgpack.packb([kind, request_id, body])))

    patch.setattr(session, "Connection", Lax)


@defect("M-R9")
def serves_without_a_hello(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    true = session.Session.__init__

    def greeted(self: session.Session, *args: Any, **more: Any) -> None:
        true(self, *args, **more)
        self._greeted = True

    patch.setattr(session.Session, "__init__", greeted)


# --- stages and leaving -----------------------------------------------------------------------------------------------


@defect("RP-W1")
def tells_a_stage_an_hour_late(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        reply = await true(request, message)
        return dataclasses.replace(reply, next_stage_at=reply.next_stage_at and reply.next_stage_at + 3600)

    around(patch, AccountStatus, wrap)


@defect("RP-W3")
def puts_a_smaller_capacity_off(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        reply = await true(request, message)
        return dataclasses.replace(reply, from_period=reply.from_period + 1)

    around(patch, ShrinkCapacity, wrap)


@defect("RP-W8")
def gives_back_other_than_the_terms_say(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        reply = await true(request, message)
        return dataclasses.replace(reply, refund_msat=Msat(reply.refund_msat + 1))

    around(patch, Leave, wrap)


# --- tokens -----------------------------------------------------------------------------------------------------------


@defect("MB-R34")
def refuses_tokens_past_its_own_index(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        if message.token_start > (await request.account()).token_index:
            raise Refusal(ErrorCode.PERIOD_REFUSED, "those tokens are of no use yet")
        return await true(request, message)

    around(patch, PutTokens, wrap)


@defect("MB-R35")
def keeps_tokens_that_begin_too_late(_world: NodeWorld, patch: pytest.MonkeyPatch) -> None:
    latest: dict[bytes, int] = {}

    async def wrap(true: Handler, request: Any, message: Any) -> Any:
        if message.token_start < latest.setdefault(request.account_id, message.token_start):
            return PutTokensReply(stored=b"\x80")
        return await true(request, message)

    around(patch, PutTokens, wrap)


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("break_it", "requirement", "tools"), DEFECTS)
async def test_broken_nodes_are_caught(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch, break_it: Break, requirement: str, tools: dict[str, Any]
) -> None:
    """By the number of the requirement; that a node without the defect keeps it, test_conformance_node shows."""
    break_it(world, monkeypatch)
    report = await world.check(requirement, **tools)
    assert requirement in report.failed, report.as_text()
    (line,) = [line for line in report.lines if line.requirement == requirement]
    assert any(result.entries for result in line.results)
