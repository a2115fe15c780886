"""Storage tokens near their end are made anew from what the node shows, and rent goes on with them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from money_world import Killed
from node_street import PERIOD, House, Street, damaged_files, open_street
from transfer_fixtures import content

from lnstore.client.accounts import standing
from lnstore.client.money_errors import TokensUsedUp
from lnstore.client.node_errors import NodeRefused
from lnstore.client.purse import Purse
from lnstore.client.renewal import RenewalFailed, plan_renewal, renew
from lnstore.client.rent import pay_rent
from lnstore_protocol.ids import Msat, ShareId
from lnstore_protocol.messages import TOKENS_PER_SHARE, GetShare, PutTokens


async def stored(street: Street) -> None:
    """Three files: six shares at the one node, manifests included."""
    async with street.client() as (_, client):
        for number in range(3):
            await client.put(BytesIO(content(50_000, number)), name=f"file{number}")


def shorten(purse: Purse, house: House, left: int) -> None:
    """As if only so many tokens had been made at upload: in the catalog and in the node's books."""
    with purse.catalog.transaction() as db:
        db.execute("UPDATE shares SET token_end = ? WHERE node_id = ?", (left, bytes(house.node_id)))
    with closing(sqlite3.connect(house.directory / "books.db")) as books, books:
        books.execute("UPDATE leases SET tokens = substr(tokens, 1, ?)", (16 * left,))


async def pay(street: Street, purse: Purse, periods: int = 1) -> None:
    for _ in range(periods):
        street.clock.at += PERIOD
        for outcome in await pay_rent(purse):
            assert outcome.error is None
            assert all(paid.verified for paid in outcome.paid)


async def test_tokens_are_renewed_each_share_read_once_and_rent_is_paid_past_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_street(tmp_path, 1, needed=1, total=1) as street:
        (house,) = street.houses
        await stored(street)
        read: list[ShareId] = []

        async def count(true: Any, request: Any, message: GetShare) -> Any:
            read.append(message.share_id)
            return await true(request, message)

        street.cheat(monkeypatch, house, GetShare, count)
        async with street.client() as (purse, _):
            entry = street.entry(purse, house)
            assert (await plan_renewal(purse, entry)).shares == ()
            shorten(purse, house, 3)
            await pay(street, purse)
            plan = await plan_renewal(purse, entry)
            assert (len(plan.shares), plan.token_start) == (6, 1)
            assert 0 < plan.cost_msat <= plan.deposit_msat
            assert await renew(purse, plan) == 6
            assert sorted(read) == sorted(share.share_id for share in plan.shares)
            assert {s.token_end for s in purse.catalog.shares_at(house.node_id)} == {1 + TOKENS_PER_SHARE}
            assert (await plan_renewal(purse, entry)).shares == ()
            await pay(street, purse, 3)


async def test_a_share_without_a_token_left_is_renewed_and_then_paid_for(tmp_path: Path) -> None:
    async with open_street(tmp_path, 1, needed=1, total=1) as street:
        (house,) = street.houses
        await stored(street)
        async with street.client() as (purse, _):
            shorten(purse, house, 0)
            street.clock.at += PERIOD
            (outcome,) = await pay_rent(purse)
            assert isinstance(outcome.error, TokensUsedUp)
            await renew(purse, await plan_renewal(purse, street.entry(purse, house)))
            (outcome,) = await pay_rent(purse)
            assert outcome.error is None
            assert len(outcome.paid) == 1


@pytest.mark.parametrize("where", ["before the answer", "before the catalog", "after the catalog"])
async def test_the_client_is_killed_within_a_renewal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """MB-R38: whichever table the node has, its proof is paid, and renewal goes on."""
    async with open_street(tmp_path, 1, needed=1, total=1) as street:
        (house,) = street.houses
        await stored(street)
        async with street.client() as (purse, _):
            await pay(street, purse)
            shorten(purse, house, 3)
            plan = await plan_renewal(purse, street.entry(purse, house))
            real = purse.catalog.tokens_renewed

            def dies(*args: Any) -> None:
                if where == "after the catalog":
                    real(*args)
                raise Killed

            with monkeypatch.context() as patch:
                if where == "before the answer":
                    refused = _refusing(patch, street, house)
                    with pytest.raises(NodeRefused):
                        await renew(purse, plan)
                    assert refused
                else:
                    patch.setattr(purse.catalog, "tokens_renewed", dies)
                    with pytest.raises(Killed):
                        await renew(purse, plan)
        async with street.client() as (purse, _):
            await pay(street, purse)
            left = await plan_renewal(purse, street.entry(purse, house))
            assert bool(left.shares) == (where != "after the catalog")
            assert await renew(purse, left) == len(left.shares)
            await pay(street, purse)


def _refusing(patch: pytest.MonkeyPatch, street: Street, house: House) -> list[bool]:
    """The node takes the tokens and its answer is lost."""
    done: list[bool] = []

    async def wrap(true: Any, request: Any, message: Any) -> Any:
        await true(request, message)
        done.append(True)
        raise OSError("the node's machine lost power")

    street.cheat(patch, house, PutTokens, wrap)
    return done


async def test_the_node_is_killed_around_a_renewal(tmp_path: Path) -> None:
    """MB-R37: the tokens it acknowledged are there when it is up again, and its proof is paid."""
    async with open_street(tmp_path, 1, needed=1, total=1) as street:
        (house,) = street.houses
        await stored(street)
        async with street.client() as (purse, _):
            shorten(purse, house, 1)
            await renew(purse, await plan_renewal(purse, street.entry(purse, house)))
        await street.stop(house, kill=True)
        await street.start(house)
        async with street.client() as (purse, _):
            await pay(street, purse, 2)


async def test_a_damaged_share_gets_no_tokens_and_is_named(tmp_path: Path) -> None:
    """P-W6: tokens are only made from bytes whose id was verified; the others are renewed."""
    async with open_street(tmp_path, 1, needed=1, total=1) as street:
        (house,) = street.houses
        await stored(street)
        victim, *_ = sorted(damaged_files(house))
        victim.write_bytes(bytes(victim.stat().st_size))
        async with street.client() as (purse, _):
            shorten(purse, house, 1)
            plan = await plan_renewal(purse, street.entry(purse, house))
            with pytest.raises(RenewalFailed, match=victim.name[:16]) as failed:
                await renew(purse, plan)
            assert [share_id.hex() for share_id in failed.value.shares] == [victim.name]
            ends = {s.share_id.hex(): s.token_end for s in purse.catalog.shares_at(house.node_id)}
            assert ends.pop(victim.name) == 1
            assert set(ends.values()) == {TOKENS_PER_SHARE}


async def test_nothing_is_read_when_the_deposit_does_not_reach(tmp_path: Path) -> None:
    """The text says what it takes, and how to add to the deposit."""
    async with open_street(tmp_path, 1, needed=1, total=1) as street:
        (house,) = street.houses
        await stored(street)
        async with street.client() as (purse, _):
            shorten(purse, house, 1)
            plan = replace(await plan_renewal(purse, street.entry(purse, house)), deposit_msat=Msat(1))
            with pytest.raises(RenewalFailed, match=rf"rent buy n0 \d+ --deposit {plan.cost_msat}"):
                await renew(purse, plan)
            _, status = await standing(purse, street.entry(purse, house))
            assert status.egress_bytes == 0
