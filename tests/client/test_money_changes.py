"""A node that announces what it may not, or shows agreements that are not ours: nothing is signed, nothing is paid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from money_world import GIB, PERIOD, START, World, make_world

from lnstore.cli.agree_command import change_sentence, pin
from lnstore.client.accounts import agreement_of
from lnstore.client.buying import buy
from lnstore.client.money_errors import NodeUntrusted, PriceUnsigned, TermsRefused
from lnstore.client.nodes import add_node
from lnstore.client.renewing import find_change, sign_change
from lnstore.client.rent import pay_rent
from lnstore.client.rent_status import rent_status
from lnstore_protocol.ids import LightningId, Msat
from lnstore_protocol.messages import AccountStatusReply, RenewAgreementReply
from lnstore_protocol.terms import Agreement, Terms


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """A client that rents 20 GiB at one node."""
    made = await make_world(tmp_path)
    await add_node(made.purse, made.node.address, "alice")
    await buy(made.purse, made.entry, 20 * GIB)
    return made


def tells(world: World, from_period: int, announced_at: int = START, **changes: Any) -> None:
    """The node announces a change from that period on."""
    terms = world.node.agreed
    given: dict[str, Any] = {
        "price_msat_per_gib_month": Msat(3000),
        "valid_until_at": START + 99 * PERIOD,
        "fiat_currency": "EUR",
        "fiat_per_tib_month": "1.50",
    }
    told: Terms = replace(terms, **(given | changes))

    def tamper(reply: Any) -> Any:
        if not isinstance(reply, AccountStatusReply):
            return reply
        return replace(
            reply,
            announced_terms=told.sign(world.node.identity).encoded,
            announced_period=from_period,
            announced_at=announced_at,
        )

    world.node.tamper = tamper


@pytest.mark.parametrize(
    ("tell", "fault"),
    [
        (lambda w: tells(w, 11), "before period 12"),
        (lambda w: tells(w, 12, START + 601), "in the future"),
        (lambda w: tells(w, 12, START + 11 * PERIOD), "before period 13"),
        (lambda w: tells(w, 12, valid_until_at=START - 1), "its time is over"),
        (lambda w: tells(w, 12, period_seconds=PERIOD + 1), "the length of the periods"),
        (lambda w: tells(w, 12, lightning_id=LightningId(b"\x02" * 33)), "another Lightning key"),
    ],
)
async def test_what_a_node_may_not_announce_is_not_signed(  # R-R27
    world: World, tell: Callable[[World], None], fault: str
) -> None:
    """It is named with its fault, and what was agreed is paid on."""
    tell(world)
    found = await find_change(world.purse, world.entry)
    assert found is not None
    with pytest.raises(TermsRefused, match=fault):
        await sign_change(world.purse, found.change)
    (status,) = await rent_status(world.purse)
    assert status.change is not None
    assert fault in change_sentence(status.change)


async def test_an_announced_period_is_not_paid_for_without_a_signature(world: World) -> None:  # R-R29
    """Nor is a nonce revealed for it, or capacity added that reaches into it."""
    tells(world, 1)
    world.clock.at = START + PERIOD
    (outcome,) = await pay_rent(world.purse)
    assert isinstance(outcome.error, PriceUnsigned)
    world.clock.at = START
    tells(world, 0)
    with pytest.raises(PriceUnsigned, match="lnstore rent agree alice"):
        await buy(world.purse, world.entry, 30 * GIB)


async def test_announced_terms_that_cannot_be_read_are_the_nodes_fault(world: World) -> None:
    world.node.tamper = lambda reply: (
        replace(reply, announced_terms=b"\xa0", announced_period=12, announced_at=START)
        if isinstance(reply, AccountStatusReply)
        else reply
    )
    with pytest.raises(NodeUntrusted, match="cannot be read"):
        await find_change(world.purse, world.entry)


async def test_an_agreement_of_another_beginning_is_not_taken_for_ours(world: World) -> None:  # MA-R26
    """Though we signed it once."""
    other = Agreement.propose(world.node.open.agreement.terms, world.purse.identity, START - 5, from_period=12)
    encoded = other.countersign(world.node.identity).encoded
    world.node.tamper = lambda reply: (
        replace(reply, renewed_agreement=encoded) if isinstance(reply, AccountStatusReply) else reply
    )
    with pytest.raises(NodeUntrusted, match="another beginning"):
        await find_change(world.purse, world.entry)


async def test_what_the_node_signs_must_be_what_was_proposed(world: World) -> None:  # MA-R29
    """Another agreement of ours in its place is refused and not kept."""
    tells(world, 12)
    found = await find_change(world.purse, world.entry)
    assert found is not None
    assert pin(found.change.after.terms) == "1.50 EUR per TiB and month"
    assert pin(found.change.before.terms.terms) == ""
    first = agreement_of(world.purse, world.entry)

    world.node.tamper = lambda reply: (
        RenewAgreementReply(agreement=first.encoded) if isinstance(reply, RenewAgreementReply) else reply
    )
    with pytest.raises(NodeUntrusted, match="another agreement"):
        await sign_change(world.purse, found.change)
    assert world.purse.catalog.kept_agreements(world.entry.node_id, first.anchor_at) == []
    world.node.tamper = lambda reply: reply
    signed = await sign_change(world.purse, found.change)
    assert world.purse.catalog.kept_agreements(world.entry.node_id, first.anchor_at) == [signed.encoded]
