"""Channels that change, on a network where blocks, peers, fees and disks do what the test says."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from lnstore.lightning.channel_changes import ChannelBusy, close_channel, top_up, until_spliced
from lnstore.lightning.channels import FeeTooHigh, ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.reconnecting import reconnect
from lnstore.lightning.supply import Phase, Supply, phase, supply
from lnstore.ports import Channel, LightningRefused, LightningUnavailable, Outcome
from lnstore_protocol.ids import Msat
from tests.unit.lightning.conftest import Alice, eventually


async def place_of(alice: Alice) -> tuple[str, int]:
    return (await alice.b.info()).addresses[0]


async def the_channel(alice: Alice) -> Channel:
    (channel,) = await alice.a.channels(alice.b_id)
    return channel


async def add(alice: Alice, amount_sat: int, *, timeout_seconds: float = 20, percent: int = 5) -> Channel:
    return await top_up(
        alice.a,
        alice.b_id,
        await place_of(alice),
        amount_sat=amount_sat,
        minimum_sat=100_000,
        maximum_fee_percent=percent,
        timeout_seconds=timeout_seconds,
    )


async def test_a_splice_without_blocks_waits_and_is_not_disturbed(lone_alice: Alice) -> None:
    """While it waits the channel pays, is neither spliced nor closed again, and is found by the next command."""
    alice = lone_alice
    await alice.network.fault("withhold_blocks")
    before = await the_channel(alice)
    with pytest.raises(LightningUnavailable, match="Nothing needs to be done again"):
        await add(alice, 200_000, timeout_seconds=0.3)
    waiting = await the_channel(alice)
    assert (waiting.state, waiting.splicing, waiting.usable) == ("CHANNELD_AWAITING_SPLICE", True, True)
    assert waiting.capacity_msat == before.capacity_msat
    assert (await alice.pay(await alice.invoice(3000))).outcome is Outcome.SETTLED
    with pytest.raises(ChannelBusy, match="already"):
        await add(alice, 200_000)
    with pytest.raises(ChannelBusy, match="wait until the splice"):
        await close_channel(alice.a, waiting, unilateral_after_seconds=1)
    await alice.network.restart_node(alice.a_name)
    await alice.network.clear_faults()
    after = await until_spliced(alice.a, before, timeout_seconds=20)
    assert after.capacity_msat == before.capacity_msat + 200_000_000
    assert after.to_us_msat == 1_200_000_000 - 3000


async def test_why_a_second_splice_is_never_tried(lone_alice: Alice) -> None:
    """The daemon, asked directly, closes the channel alone when the second splice cannot be afforded."""
    alice = lone_alice
    await alice.network.fault("withhold_blocks")
    channel = await the_channel(alice)
    await alice.a.splice_in(channel.channel_id, amount_sat=100_000)
    with pytest.raises(LightningRefused, match="350"):
        await alice.a.splice_out(channel.channel_id, amount_sat=1000)
    assert (await the_channel(alice)).usable
    with pytest.raises(LightningRefused, match="301"):
        await alice.a.splice_in(channel.channel_id, amount_sat=900_000_000)
    assert (await the_channel(alice)).state == "AWAITING_UNILATERAL"
    with pytest.raises(LightningRefused, match="closed while it was changed"):
        await until_spliced(alice.a, channel, timeout_seconds=5)


async def test_a_second_channel_where_the_peer_cannot_splice(alice: Alice) -> None:
    """What the peer does not offer is not tried: another channel, of at least the smallest size."""
    await alice.network.forbid_splicing(alice.b_name)
    assert not await alice.a.can_splice(alice.b_id)
    second = await add(alice, 20_000)
    assert second.capacity_msat == 100_000_000
    assert len(await alice.a.channels(alice.b_id)) == 2
    with pytest.raises(LightningRefused) as caught:
        await alice.a.splice_in(second.channel_id, amount_sat=1000)
    assert caught.value.code == 354


async def test_fees_above_the_share_are_not_paid(lone_alice: Alice) -> None:
    """At 100 sat/vB neither opening nor topping up is worth it for so little; the text names the setting."""
    alice = lone_alice
    await alice.network.settings(feerate_per_kw=25_000)
    with pytest.raises(FeeTooHigh, match="maximum_opening_percent"):
        await add(alice, 100_000)
    carol = CoreLightning(await alice.network.add_node("carol"))
    info = await carol.info()
    with pytest.raises(FeeTooHigh, match="opening a channel of 100,000 sat would cost"):
        await ensure_channel(
            alice.a,
            info.lightning_id,
            *info.addresses[0],
            amount_sat=100_000,
            maximum_fee_percent=5,
            timeout_seconds=10,
        )
    assert await alice.a.channels(info.lightning_id) == []
    opened = await ensure_channel(
        alice.a, info.lightning_id, *info.addresses[0], amount_sat=1_000_000, maximum_fee_percent=5, timeout_seconds=20
    )
    assert opened.usable


@pytest.mark.parametrize("mutual", [True, False])
async def test_a_channel_that_the_peer_closes_is_noticed(alice: Alice, mutual: bool) -> None:
    """Who closed it is known, nothing is paid over it, and waiting for it ends."""
    await alice.network.close_channel(alice.a_name, alice.b_name, mutual=mutual)
    closed = await the_channel(alice)
    assert phase(closed.state) in {Phase.CLOSING, Phase.CLOSED}
    assert closed.closed_by_us is False
    assert not closed.usable
    assert (await alice.pay(await alice.invoice())).outcome is Outcome.FAILED
    with pytest.raises(LightningRefused, match="closed already"):
        await close_channel(alice.a, closed, unilateral_after_seconds=1)


async def test_nothing_but_the_reserve(alice: Alice) -> None:
    """A channel that is spent down to its reserve pays nothing more, and says top up; the peer can pay back."""
    given = await alice.network.drain(alice.a_name, alice.b_name)
    drained = await the_channel(alice)
    assert given == 985_709_000
    assert drained.usable
    assert supply(drained.spendable_msat, [40_000] * 3) is Supply.TOP_UP
    payment = await alice.pay(await alice.invoice(40_000))
    assert payment.outcome is Outcome.FAILED
    assert "205" in payment.reason
    back = await alice.a.call("invoice", amount_msat=1_000_000, label="back", description="back")
    assert (await alice.b.pay(back["bolt11"], max_fee_msat=Msat(0), retry_for_seconds=1)).outcome is Outcome.SETTLED


@pytest.mark.parametrize("moment", ["channel-spliced", "channel-closed"])
async def test_daemon_restarts_at_the_worst_moment(alice: Alice, moment: str) -> None:
    """The answer is lost, the daemon comes back by itself, and what it did shows in its list."""
    await alice.network.fault("restart", alice.a_name, command=moment, seconds=0.05)
    before = await the_channel(alice)
    commands: dict[str, tuple[str, dict[str, Any]]] = {
        "channel-spliced": ("splicein", {"channel": before.channel_id, "amount": "50000"}),
        "channel-closed": ("close", {"id": before.channel_id}),
    }
    method, params = commands[moment]
    with pytest.raises(LightningUnavailable):
        await alice.a.call(method, **params)

    async def done() -> bool:
        try:
            after = await the_channel(alice)
        except LightningUnavailable:
            return False
        return after.capacity_msat == 1_050_000_000 or phase(after.state) is Phase.CLOSED

    await eventually(done)


@pytest.mark.parametrize("command", ["fundchannel", "xpay", "splicein", None])
async def test_disk_full_at_any_command_that_writes(alice: Alice, command: str | None) -> None:
    """A daemon that cannot write is gone without an answer, and has done nothing; reading goes on until then."""
    await alice.network.fault("disk_full", alice.a_name, command=command)
    before = await the_channel(alice)
    await alice.a.info()
    invoice = await alice.invoice()
    if command == "xpay":
        assert (await alice.pay(invoice)).outcome is Outcome.UNKNOWN
    else:
        funding: tuple[str, dict[str, Any]] = ("fundchannel", {"id": alice.b_id.hex(), "amount": 100_000})
        splicing: tuple[str, dict[str, Any]] = ("splicein", {"channel": before.channel_id, "amount": "50000"})
        method, params = splicing if command == "splicein" else funding
        with pytest.raises(LightningUnavailable):
            await alice.a.call(method, **params)
    await alice.network.start_node(alice.a_name)
    assert [one.channel_id for one in await alice.a.channels()] == [before.channel_id]

    async def usable() -> bool:
        return (await the_channel(alice)).usable

    await eventually(usable)
    assert (await alice.pay(invoice)).outcome is Outcome.SETTLED


async def test_a_peer_that_was_away_is_called_again(alice: Alice) -> None:
    """Calling goes on, ever more rarely, until the peer answers or the time is up."""
    place = await place_of(alice)
    await alice.network.fault("peer_down", alice.a_name, peer=alice.b_name)
    said: list[str] = []
    assert not await reconnect(alice.a, alice.b_id, place, timeout_seconds=0.3, progress=said.append)
    assert said == [f"its Lightning daemon is not connected; calling {place[0]}:{place[1]}"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.network.clear_faults, "peer_down", alice.a_name)
        assert await reconnect(alice.a, alice.b_id, place, timeout_seconds=10)
    assert (await the_channel(alice)).usable
