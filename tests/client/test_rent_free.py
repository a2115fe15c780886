"""An account at no price: invited, grown and proven without a payment, and believed no more than one that is paid."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from money_world import GIB, PERIOD
from test_money_simulated import Town, put_share, town_of_a_real_node

from lnstore.books import SqlBooks
from lnstore.cli.pay_command import rent_outcome_json, rent_paid_sentence
from lnstore.cli.rent_status_table import difference_sentence, print_table, status_json
from lnstore.client.buying import buy
from lnstore.client.catalog import Catalog
from lnstore.client.faults import Fault
from lnstore.client.given import check_given
from lnstore.client.money_errors import InvoiceRefused, NodeUntrusted, ProofFailed
from lnstore.client.node_errors import ConnectionLost, NodeRefused
from lnstore.client.nodes import InvitationExpired, add_invited, add_node, list_nodes
from lnstore.client.purse import Purse
from lnstore.client.rent import pay_rent
from lnstore.client.rent_status import rent_status
from lnstore.client.standing import standings
from lnstore.client.wallet import Wallet
from lnstore.client.wallet_entries import Offer
from lnstore.config import NodeConfig
from lnstore.node import accounting
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, Msat, NodeAddress, NodeId
from lnstore_protocol.invitations import Invitation, parse_invitation
from lnstore_protocol.messages import (
    AccountState,
    AddCapacityReply,
    InvoicePurpose,
    InvoiceReply,
    TermsReply,
)
from lnstore_protocol.terms import SignedTerms

FREE: dict[str, Any] = {"price_msat_per_gib_month": 0, "egress_msat_per_gib": 0}


@asynccontextmanager
async def operator(town: Town) -> AsyncIterator[SqlBooks]:
    """The node's books, as a second process opens them."""
    async with SqlBooks.open(town.directory / "node" / "books.db") as books:
        yield books


async def invited(town: Town, **conditions: Any) -> Invitation:
    """An invitation of the town's node."""
    async with operator(town) as books:
        config = NodeConfig.load(town.directory / "node")
        (town.directory / "node" / "address").write_text(f"{town.address}\n")
        _, text = await accounting.invite(config, books, valid_seconds=10 * PERIOD, **conditions)
    return parse_invitation(text)


@dataclass
class Meddling:
    """A connection whose replies are changed, or lost, on their way."""

    conversation: Any
    change: Callable[[Any], Any]

    @property
    def hello(self) -> Any:
        return self.conversation.hello

    async def request(self, message: Any, *, timeout_seconds: float) -> Any:
        return self.change(await self.conversation.request(message, timeout_seconds=timeout_seconds))


def meddled(town: Town, change: Callable[[Any], Any]) -> Purse:
    """The purse, over connections that are meddled with."""
    dial: Callable[[NodeAddress], Awaitable[Any]] = town.purse.dial

    async def through(address: NodeAddress) -> Meddling:
        return Meddling(await dial(address), change)

    return replace(town.purse, dial=through)


def losing(town: Town, *kinds: type[Any]) -> Purse:
    """The purse, where replies of these kinds never arrive."""

    def lose(reply: Any) -> Any:
        if type(reply) in kinds:
            raise ConnectionLost(town.address, "ended the connection")
        return reply

    return meddled(town, lose)


async def test_a_friend_stores_and_proves_period_after_period_without_a_channel(tmp_path: Path) -> None:
    """RA-R9, R-W27: also when replies are lost on the way; and a share that was lost shows at once."""
    async with town_of_a_real_node(tmp_path) as town:
        purse = town.purse
        invitation = await invited(town, **FREE, maximum_capacity_bytes=GIB, petname="friend")
        node = await add_invited(purse, invitation, "alice")
        assert node.invitation == invitation.encoded
        (listing,) = await list_nodes(purse)
        assert listing.terms is not None
        assert listing.terms.price_msat_per_gib_month == 0

        # The node gives the capacity, and its answer is lost: the same command again takes it up.
        with pytest.raises(ConnectionLost):
            await buy(losing(town, AddCapacityReply), node, GIB)
        bought = await buy(purse, purse.catalog.node(node.node_id), GIB)
        assert (bought.status.capacity_bytes, bought.paid_msat) == (GIB, 0)
        assert purse.catalog.node(node.node_id).invitation is None
        node = purse.catalog.node(node.node_id)
        assert purse.wallet.standing(node.node_id, anchor_at=bought.agreement.anchor_at).rented.in_the_end == GIB
        stored = [await put_share(town, number) for number in range(3)]

        town.clock.at += PERIOD
        (outcome,) = await pay_rent(purse)
        (proven,) = outcome.paid
        assert outcome.error is None
        assert (proven.period, proven.amount_msat, proven.sampled, proven.verified) == (1, 0, 3, True)
        assert rent_paid_sentence(proven).startswith("alice: proved, free, ")
        assert rent_outcome_json(outcome)["paid"][0]["free"] is True
        assert (await pay_rent(purse))[0].paid == ()

        # RA-R10: the answer to a revealed nonce is lost. The node has moved on, the client asks for that one again.
        town.clock.at += PERIOD
        (outcome,) = await pay_rent(losing(town, InvoiceReply))
        assert isinstance(outcome.error, ConnectionLost)
        (outcome,) = await pay_rent(purse)
        assert outcome.error is None
        assert [paid.period for paid in outcome.paid] == [2]
        # Periods that nobody asked for pass without a proof.
        town.clock.at += 3 * PERIOD
        (outcome,) = await pay_rent(purse)
        assert [paid.period for paid in outcome.paid] == [5]
        (status,) = await rent_status(purse)
        assert status.agrees
        assert status.at_no_price
        assert status.next_due_at is None
        assert (status.proofs_passed, status.proofs_failed) == (3, 0)
        shown = status_json(status)
        assert (shown["free"], shown["blocked"], shown["proofs_passed"], shown["differences"]) == (True, False, 3, [])

        assert town.shares is not None
        town.shares.delete(stored[1])
        town.clock.at += PERIOD
        for _ in range(2):  # it is not forgotten with the next run
            (outcome,) = await pay_rent(purse)
            assert isinstance(outcome.error, ProofFailed)
        (status,) = await rent_status(purse)
        assert (status.proofs_failed, status.agrees) == (1, True)
        assert purse.wallet.balances() == {}
        assert await purse.lightning.channels() == []


async def test_a_nonce_that_never_arrived_is_given_up_when_its_period_has_passed(tmp_path: Path) -> None:  # RA-R11
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_invited(town.purse, await invited(town, **FREE), "alice")
        await buy(town.purse, node, GIB)
        await put_share(town, 1)
        town.clock.at += PERIOD

        def cut(reply: Any) -> Any:
            raise ConnectionLost(town.address, "ended the connection")

        node = town.purse.catalog.node(node.node_id)
        agreement = SignedTerms.decode(node.terms or b"").terms
        assert agreement.price_msat_per_gib_month == 0
        dial = town.purse.dial

        async def deaf(address: NodeAddress) -> Any:
            conversation = await dial(address)

            class Deaf(Meddling):
                async def request(self, message: Any, *, timeout_seconds: float) -> Any:
                    if type(message).__name__ == "RequestInvoice":
                        return cut(message)
                    return await conversation.request(message, timeout_seconds=timeout_seconds)

            return Deaf(conversation, cut)

        (outcome,) = await pay_rent(replace(town.purse, dial=deaf))
        assert isinstance(outcome.error, ConnectionLost)
        town.clock.at += 2 * PERIOD
        (outcome,) = await pay_rent(town.purse)
        assert outcome.error is None
        assert [paid.period for paid in outcome.paid] == [3]
        (row,) = await rent_status(town.purse)
        assert row.status is not None
        assert row.status.token_index == 2


async def test_what_a_node_gives_is_held_against_our_own_computation(tmp_path: Path) -> None:  # RA-R8, RA-R9, RA-R10
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_invited(town.purse, await invited(town, **FREE), "alice")
        await buy(town.purse, node, GIB)
        await put_share(town, 1)

        def wrong(reply: Any) -> Any:
            return replace(reply, preimage=bytes(32)) if isinstance(reply, InvoiceReply) else reply

        town.clock.at += PERIOD
        (outcome,) = await pay_rent(meddled(town, wrong))
        assert isinstance(outcome.error, ProofFailed)
        assert outcome.error.fault is Fault.WRONG_ANSWERS

        def priced(reply: Any) -> Any:
            return replace(reply, amount_msat=Msat(5), bolt11="lnbc") if isinstance(reply, InvoiceReply) else reply

        town.clock.at += PERIOD
        (outcome,) = await pay_rent(losing(town, InvoiceReply))
        (outcome,) = await pay_rent(meddled(town, priced))
        assert isinstance(outcome.error, NodeUntrusted)
        assert "shows as paid" in str(outcome.error)
        (outcome,) = await pay_rent(town.purse)
        assert (outcome.error, len(outcome.paid)) == (None, 1)
        (row,) = await rent_status(town.purse)
        assert (row.proofs_passed, row.proofs_failed) == (1, 1)
        # The node counts both as passed: it is for the client to say, and shown.
        assert row.differences == ("proofs passed",)
        assert "1 proofs passed" in difference_sentence(row)


async def test_a_block_shows_and_keeps_new_files_away(tmp_path: Path) -> None:  # RA-R1
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_invited(town.purse, await invited(town, **FREE), "alice")
        await buy(town.purse, node, GIB)
        await put_share(town, 1)
        account_id = AccountId(town.purse.identity.public_key)
        assert town.pool is not None
        async with operator(town) as books:
            await books.set_quota(account_id, 40_000)
            (fit,), _ = await standings(town.pool, town.purse.catalog, town.purse.catalog.nodes())
            assert fit.free_bytes == 10_000
            await books.set_blocked(account_id, town.clock.now(), blocked=True)
        fit_nodes, (unfit,) = await standings(town.pool, town.purse.catalog, town.purse.catalog.nodes())
        assert fit_nodes == []
        assert "blocked" in unfit.reason
        town.clock.at += PERIOD
        (outcome,) = await pay_rent(town.purse)
        assert isinstance(outcome.error, NodeRefused)
        assert outcome.error.code is ErrorCode.ACCOUNT_BLOCKED
        (row,) = await rent_status(town.purse)
        assert status_json(row)["blocked"] is True
        assert row.status is not None
        assert row.status.state in {AccountState.ACTIVE, AccountState.GRACE}


async def test_an_invitation_is_refused_late_or_when_its_terms_are_worse(tmp_path: Path) -> None:  # RA-R2, RA-R6
    async with town_of_a_real_node(tmp_path) as town:
        invitation = await invited(town, maximum_capacity_bytes=GIB, price_msat_per_gib_month=5, price_periods=9)
        for changes in (
            {"price_msat_per_gib_month": Msat(4)},
            {"egress_msat_per_gib": Msat(0)},
            {"maximum_capacity_bytes": GIB + 1},
            {"price_periods": 10},
        ):
            with pytest.raises(NodeUntrusted, match="worse than its invitation"):
                await add_invited(town.purse, replace(invitation, **changes))

        def usual(reply: Any) -> Any:
            return TermsReply(terms=terms) if isinstance(reply, TermsReply) else reply

        await add_node(town.purse, town.address, "alice")
        terms = town.purse.catalog.node(town.address.node_id).terms or b""
        with pytest.raises(NodeUntrusted, match="another invitation"):
            await add_invited(meddled(town, usual), invitation)
        town.clock.at = invitation.expires_at + 1
        with pytest.raises(InvitationExpired):
            await add_invited(town.purse, invitation)


def test_a_gift_that_is_not_well_formed_is_refused() -> None:  # RA-R8
    reply = InvoiceReply(bolt11="", amount_msat=Msat(0), from_at=0, until_at=1, capacity_bytes=1, preimage=bytes(32))
    assert check_given(reply, "alice") == bytes(32)
    for change in ({"bolt11": "lnbc"}, {"preimage": None}, {"preimage": bytes(31)}):
        with pytest.raises(InvoiceRefused, match="takes nothing"):
            check_given(replace(reply, **change), "alice")


async def test_the_table_adds_up_and_marks_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_invited(town.purse, await invited(town, **FREE), "alice")
        await buy(town.purse, node, GIB)
        (row,) = await rent_status(town.purse)
        assert difference_sentence(row) == ""
        assert row.status is not None
        claimed = replace(row.status, capacity_bytes=2 * GIB, shares=7, quota_bytes=GIB)
        print_table([row, replace(row, status=claimed), replace(row, status=None, error="no answer")])
        printed = capsys.readouterr().out
        assert "2.0 GiB (quota 1.0 GiB) (!)" in printed
        assert "active, free" in printed
        last = printed.splitlines()[-1]
        assert last.startswith("all")
        assert "2 of 3 accounts" in last
        assert "3.0 GiB" in last
        print_table([])


def test_what_has_a_price_is_not_written_down_as_given(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        wallet = Wallet(catalog)
        offer = Offer(
            node_id=NodeId(bytes(32)),
            purpose=InvoicePurpose.CAPACITY,
            index=0,
            bolt11="",
            amount_msat=Msat(0),
            from_at=0,
            until_at=9,
            capacity_bytes=5,
        )
        with pytest.raises(ValueError, match="paid for"):
            wallet.given(replace(offer, amount_msat=Msat(1)), bytes(32), 1)
        first = wallet.given(offer, bytes(32), 1)
        assert wallet.given(offer, bytes(32), 7) == first
        assert wallet.payments() == [first]
        assert wallet.postings() == []
