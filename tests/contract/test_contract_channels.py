"""What every Lightning daemon must do: peers, channels, the wallet behind them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from lnstore.lightning.channels import ensure_channel
from lnstore.ports import LightningRefused, LightningUnavailable, Outcome
from lnstore_protocol.ids import LightningId, Msat
from tests.contract.conftest import CHANNEL_SAT, eventually

if TYPE_CHECKING:
    from tests.contract.conftest import Pair

STRANGER = LightningId.from_hex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_channel_as_both_see_it(pair: Pair) -> None:
    """Both sides list the same channel with mirrored balances, and the reserve on each side."""
    ours = (await pair.a.channels(pair.b_id))[0]
    theirs = next(one for one in await pair.b.channels(pair.a_id) if one.channel_id == ours.channel_id)
    assert ours.usable
    assert theirs.usable
    assert ours.capacity_msat == theirs.capacity_msat == CHANNEL_SAT * 1000
    assert ours.to_us_msat + theirs.to_us_msat == ours.capacity_msat
    assert ours.short_channel_id == theirs.short_channel_id
    assert ours.funding_txid == theirs.funding_txid
    assert ours.spendable_msat == theirs.receivable_msat
    # 1 % reserve, the fee of a commitment transaction at double the rate with two HTLCs, two anchors.
    assert ours.to_us_msat - ours.spendable_msat in range(14_250_000, 14_350_000)


async def test_ensure_channel_reuses(pair: Pair) -> None:
    """A usable channel is used again, whatever size was asked for."""
    existing = (await pair.a.channels(pair.b_id))[0]
    said: list[str] = []
    channel = await ensure_channel(
        pair.a, pair.b_id, *pair.b_place, amount_sat=5_000_000, progress=said.append, timeout_seconds=30
    )
    assert channel.channel_id == existing.channel_id
    assert said == []


async def test_ensure_channel_waits_for_one_that_is_opening(pair: Pair) -> None:
    """After a crash between funding and usability the same channel is waited for, and no second one opened."""
    dave = await pair.network.add_node("dave")
    info = await dave.info()
    wallet = await pair.a.wallet_msat()
    await pair.a.connect(info.lightning_id, *info.addresses[0])
    channel_id = await pair.a.open_channel(info.lightning_id, amount_sat=100_000, push_msat=Msat(0), announce=True)
    said: list[str] = []
    channel = await ensure_channel(
        pair.a, info.lightning_id, *info.addresses[0], amount_sat=100_000, progress=said.append, timeout_seconds=60
    )
    assert channel.channel_id == channel_id
    assert channel.usable
    assert not any("opening" in word for word in said)
    assert len(await pair.a.channels(info.lightning_id)) == 1

    async def paid_for() -> bool:
        return wallet - 102_000_000 < await pair.a.wallet_msat() < wallet - 100_000_000

    await eventually(paid_for)


async def test_pushed_money_is_the_peers(pair: Pair) -> None:
    """What is pushed at opening belongs to the peer, who can spend what is above its reserve."""
    frank = await pair.network.add_node("frank")
    info = await frank.info()
    await pair.a.connect(info.lightning_id, *info.addresses[0])
    await pair.a.open_channel(info.lightning_id, amount_sat=200_000, push_msat=Msat(50_000_000), announce=True)

    async def usable() -> bool:
        return all(channel.usable for channel in await frank.channels())

    await eventually(usable)
    (channel,) = await frank.channels(pair.a_id)
    assert channel.to_us_msat == 50_000_000
    assert channel.spendable_msat == 48_000_000
    invoice = await pair.a.call("invoice", amount_msat=30_000_000, label=f"back-{info.alias}", description="back")
    payment = await frank.pay(invoice["bolt11"], max_fee_msat=Msat(0), retry_for_seconds=30)
    assert payment.outcome is Outcome.SETTLED


@pytest.mark.parametrize(("amount_sat", "code"), [(1_000_000_000, 301), (1000, -1), (5000, -1)])
async def test_ensure_channel_of_an_impossible_size(pair: Pair, amount_sat: int, code: int) -> None:
    """A channel that cannot be afforded, or is too small, is refused with a sentence that says what to do."""
    grace = await pair.network.add_node("grace")
    info = await grace.info()
    with pytest.raises(LightningRefused, match=r"send coins|another size") as caught:
        await ensure_channel(pair.a, info.lightning_id, *info.addresses[0], amount_sat=amount_sat, timeout_seconds=30)
    assert caught.value.code == code
    assert await pair.a.channels(info.lightning_id) == []


async def test_ensure_channel_to_nobody(pair: Pair) -> None:
    """A peer that does not answer, or has another key, is 401 with a sentence that says what to check."""
    for host, port in (("127.0.0.1", unused_port()), pair.b_place):
        with pytest.raises(LightningRefused, match="check that address and key") as caught:
            await ensure_channel(pair.a, STRANGER, host, port, amount_sat=100_000, timeout_seconds=30)
        assert caught.value.code == 401


async def test_ensure_channel_gives_up_in_time(pair: Pair) -> None:
    """A channel that is not usable in time is LightningUnavailable, and says that trying again resumes."""
    heidi = await pair.network.add_node("heidi")
    info = await heidi.info()
    with pytest.raises(LightningUnavailable, match="Try again"):
        await ensure_channel(pair.a, info.lightning_id, *info.addresses[0], amount_sat=100_000, timeout_seconds=0.001)


async def test_peers_without_address_or_name(pair: Pair) -> None:
    """No address is 400, for connecting as for funding; disconnecting a stranger is -32602."""
    for method, params in (("connect", {}), ("fundchannel", {"amount": 100_000})):
        with pytest.raises(LightningRefused) as caught:
            await pair.a.call(method, id=STRANGER.hex(), **params)
        assert caught.value.code == 400
    with pytest.raises(LightningRefused) as unknown:
        await pair.a.call("disconnect", id=STRANGER.hex())
    assert unknown.value.code == -32602
    assert await pair.a.call("listpeers", id=STRANGER.hex()) == {"peers": []}
    assert await pair.a.channels(STRANGER) == []


async def test_connecting_twice(pair: Pair) -> None:
    """Connecting to a connected peer succeeds at once, with an address and without one."""
    await pair.a.connect(pair.b_id, *pair.b_place)
    await pair.a.call("connect", id=pair.b_id.hex())
    (peer,) = (await pair.a.call("listpeers", id=pair.b_id.hex()))["peers"]
    assert peer["connected"] is True
    with pytest.raises(LightningRefused) as caught:
        await pair.a.call("disconnect", id=pair.b_id.hex())
    assert caught.value.code == -1


async def test_forced_disconnect_heals(pair: Pair) -> None:
    """Peers with a channel that were disconnected by force connect again by themselves."""
    await pair.a.call("disconnect", id=pair.b_id.hex(), force=True)
    await pair.reconnected()
    assert (await pair.a.channels(pair.b_id))[0].usable


async def test_addresses_and_wallet(pair: Pair) -> None:
    """Coins sent to a fresh address count once they are confirmed."""
    first, second = await pair.b.new_address(), await pair.b.new_address()
    assert first != second
    assert first.startswith("bcrt1q")
    before = await pair.b.wallet_msat()
    await pair.network.fund("bob", 300_000)
    assert await pair.b.wallet_msat() == before + 300_000_000


async def test_closing_returns_the_money(pair: Pair) -> None:
    """A mutual close is in the mempool at once and in the wallet after a block; the channel is no longer usable."""
    ivan = await pair.network.add_node("ivan")
    info = await ivan.info()
    channel = await ensure_channel(
        pair.a, info.lightning_id, *info.addresses[0], amount_sat=150_000, timeout_seconds=60
    )

    async def no_change_outstanding() -> bool:
        outputs = (await pair.a.call("listfunds"))["outputs"]
        return all(output["status"] == "confirmed" and not output["reserved"] for output in outputs)

    await eventually(no_change_outstanding)
    before = await pair.a.wallet_msat()
    closing = await pair.a.close_channel(channel.channel_id, unilateral_timeout_seconds=30)
    assert (len(closing.txid), closing.mutual) == (64, True)

    async def closed() -> bool:
        (after,) = await pair.a.channels(info.lightning_id)
        return after.state == "ONCHAIN" and after.closed_by_us is True and not after.usable

    await eventually(closed)

    async def returned() -> bool:
        return before + 149_000_000 < await pair.a.wallet_msat() < before + 150_000_000

    await eventually(returned)
    with pytest.raises(LightningRefused) as caught:
        await pair.a.close_channel(info.lightning_id.hex(), unilateral_timeout_seconds=1)
    assert caught.value.code == -1


async def test_closing_without_the_peer(pair: Pair) -> None:
    """A peer that is away is not waited for beyond the limit: the channel is closed alone."""
    judy = await pair.network.add_node("judy")
    info = await judy.info()
    channel = await ensure_channel(
        pair.a, info.lightning_id, *info.addresses[0], amount_sat=150_000, timeout_seconds=60
    )
    await pair.network.crash("judy")

    async def apart() -> bool:
        return not (await pair.a.channels(info.lightning_id))[0].connected

    await eventually(apart)
    closing = await pair.a.close_channel(channel.channel_id, unilateral_timeout_seconds=1)
    assert (len(closing.txid), closing.mutual) == (64, False)
    states = {one.state for one in await pair.a.channels(info.lightning_id)}
    assert states <= {"AWAITING_UNILATERAL", "FUNDING_SPEND_SEEN", "ONCHAIN"}
