"""What every Lightning daemon must do: channels that grow, shrink, open at once, close; fees and withdrawals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import trio

from lnstore.lightning.channel_changes import close_channel, top_up, until_spliced
from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.supply import (
    EMERGENCY_SAT,
    SPLICE_IN_WEIGHT,
    SPLICE_OUT_WEIGHT,
    WITHDRAWAL_WEIGHT,
    Phase,
    fee_of,
    phase,
)
from lnstore.ports import Channel, LightningError, LightningRefused, Outcome
from lnstore_protocol.ids import Msat
from tests.contract.conftest import eventually

if TYPE_CHECKING:
    from tests.contract.conftest import Pair

AWAY = 351
MAINNET_ADDRESS = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


async def channel_to(pair: Pair, name: str, amount_sat: int, *, push_sat: int = 0) -> tuple[CoreLightning, Channel]:
    """A new daemon of this name and a usable channel from A to it."""
    peer = await pair.network.add_node(name)
    info = await peer.info()
    place = info.addresses[0]
    channel = await ensure_channel(
        pair.a, info.lightning_id, *place, amount_sat=amount_sat, push_msat=push_sat * 1000, timeout_seconds=60
    )

    async def both_usable() -> bool:
        return any(one.usable for one in await peer.channels(pair.a_id))

    await eventually(both_usable)
    return peer, channel


async def settled(pair: Pair) -> None:
    """Waits until A's wallet has nothing in the air."""

    async def nothing_outstanding() -> bool:
        # What a refused opening has reserved of the wallet is free again some blocks later.
        await pair.network.mine(1)
        outputs = (await pair.a.call("listfunds"))["outputs"]
        return all(output["status"] == "confirmed" and not output["reserved"] for output in outputs)

    await eventually(nothing_outstanding)


async def pays(payer: CoreLightning, payee: CoreLightning, amount_msat: int) -> Outcome:
    label = f"pays-{amount_msat}-{await payee.new_address()}"
    invoice = await payee.call("invoice", amount_msat=amount_msat, label=label, description="x")
    return (await payer.pay(invoice["bolt11"], max_fee_msat=Msat(0), retry_for_seconds=20)).outcome


async def test_the_trial_tells_what_opening_costs(pair: Pair) -> None:
    """The fee that the trial names is the one that the channel costs; it says when the wallet has not enough."""
    kate = await pair.network.add_node("kate")
    await pair.network.fund("kate", 1_000_000)
    rates = await kate.feerates()
    assert rates.opening >= 253
    assert rates.opening <= rates.splice <= 2 * rates.opening
    fee_sat = await kate.opening_fee_sat(300_000)
    for amount_sat, code in ((2_000_000, 301), (990_000, 313)):
        with pytest.raises(LightningRefused) as caught:
            await kate.opening_fee_sat(amount_sat)
        assert caught.value.code == code
    await kate.connect(pair.b_id, *pair.b_place)
    await kate.open_channel(pair.b_id, amount_sat=300_000, push_msat=Msat(0), announce=True)

    async def spent() -> bool:
        return abs(await kate.wallet_msat() - (700_000 - fee_sat) * 1000) <= 2000

    await eventually(spent)


async def test_opening_leaves_the_emergency_reserve(pair: Pair) -> None:
    """A channel that would leave too little in the wallet is 313, with a sentence of its own."""
    lena = await pair.network.add_node("lena")
    await pair.network.fund("lena", 200_000)
    for percent in (None, 5):
        with pytest.raises(LightningRefused, match=r"min-emergency-msat.*smaller by that much") as caught:
            await ensure_channel(
                lena, pair.b_id, *pair.b_place, amount_sat=190_000, maximum_fee_percent=percent, timeout_seconds=30
            )
        assert caught.value.code == 313
    assert await lena.channels() == []


async def test_a_channel_is_topped_up_by_a_splice(pair: Pair) -> None:
    """Coins of the wallet become spendable in the channel that is there, without a second one; payments go on."""
    mary, before = await channel_to(pair, "mary", 200_000)
    await settled(pair)
    wallet = await pair.a.wallet_msat()
    assert await pair.a.can_splice(before.peer)
    said: list[str] = []
    after = await top_up(
        pair.a,
        before.peer,
        (await mary.info()).addresses[0],
        amount_sat=100_000,
        minimum_sat=100_000,
        maximum_fee_percent=5,
        progress=said.append,
        timeout_seconds=60,
    )
    assert said[0].startswith("splicing 100,000 sat into ")
    assert (after.channel_id, after.capacity_msat) == (before.channel_id, 300_000_000)
    assert after.funding_txid != before.funding_txid
    # The reserve grows with the channel.
    assert after.spendable_msat - before.spendable_msat == 99_000_000
    assert len(await pair.a.channels(before.peer)) == 1
    await settled(pair)
    paid_sat = (wallet - await pair.a.wallet_msat()) // 1000 - 100_000
    assert 0 < paid_sat <= fee_of(SPLICE_IN_WEIGHT, (await pair.a.feerates()).splice)

    async def seen_by_both() -> bool:
        (theirs,) = await mary.channels(pair.a_id)
        return theirs.usable and theirs.capacity_msat == after.capacity_msat

    await eventually(seen_by_both)
    # As one payment, larger than the channel was before.
    assert await pays(pair.a, mary, 250_000_000) is Outcome.SETTLED


async def test_payments_pass_while_a_splice_waits(pair: Pair) -> None:
    """Between a splice and its block the channel goes on paying, in both directions."""
    nora, channel = await channel_to(pair, "nora", 300_000, push_sat=100_000)
    await settled(pair)
    await pair.a.splice_in(channel.channel_id, amount_sat=50_000)
    assert await pays(pair.a, nora, 5_000_000) is Outcome.SETTLED
    assert await pays(nora, pair.a, 6_000_000) is Outcome.SETTLED
    after = await until_spliced(pair.a, channel, timeout_seconds=60)
    assert after.to_us_msat == 251_000_000


async def test_what_was_earned_is_spliced_out_and_sent_on(pair: Pair) -> None:
    """The peer takes its part out of the channel into its wallet, and sends the coin on; the channel stays."""
    olga, _ = await channel_to(pair, "olga", 500_000, push_sat=200_000)
    (before,) = await olga.channels(pair.a_id)
    assert not before.opened_by_us
    rates = await olga.feerates()
    txid = await olga.splice_out(before.channel_id, amount_sat=100_000)
    after = await until_spliced(olga, before, timeout_seconds=60)
    fee_msat = before.to_us_msat - after.to_us_msat - 100_000_000
    assert 0 < fee_msat <= 1000 * fee_of(SPLICE_OUT_WEIGHT, rates.splice)

    async def in_the_wallet() -> bool:
        return await olga.wallet_msat() == 100_000_000

    await eventually(in_the_wallet)
    (coin,) = await olga.coins()
    assert coin.outpoint.startswith(txid)
    assert coin.spendable
    await settled(pair)
    wallet = await pair.a.wallet_msat()
    for refused_address in ("bcrt1qnonsense", MAINNET_ADDRESS):
        for sending in (olga.check_address(refused_address), olga.withdraw(refused_address, coins=[coin.outpoint])):
            with pytest.raises(LightningRefused) as caught:
                await sending
            assert caught.value.code == -1
    await olga.check_address(ADDRESS)
    await olga.withdraw(await pair.a.new_address(), coins=[coin.outpoint])

    async def arrived() -> bool:
        return await pair.a.wallet_msat() > wallet

    await eventually(arrived)
    fee_sat = 100_000 - EMERGENCY_SAT - (await pair.a.wallet_msat() - wallet) // 1000
    assert 0 < fee_sat <= fee_of(WITHDRAWAL_WEIGHT, rates.opening)

    async def kept() -> bool:
        return await olga.wallet_msat() == EMERGENCY_SAT * 1000

    await eventually(kept)
    (coin,) = await olga.coins()
    with pytest.raises(LightningRefused) as refused:
        await olga.withdraw(ADDRESS, coins=[coin.outpoint])
    assert refused.value.code == 313


async def test_splices_that_cannot_be(pair: Pair) -> None:
    """Unknown channels and amounts that nobody has are -32602, a peer that is away is 351; the channel stays."""
    pete, channel = await channel_to(pair, "pete", 200_000)
    await settled(pair)

    async def refusal(splice: Callable[..., Awaitable[str]], channel_id: str, amount_sat: int) -> int:
        """The code; a real daemon connects anew after some refusals, and says 351 meanwhile."""
        while True:
            with pytest.raises(LightningRefused) as caught:
                await splice(channel_id, amount_sat=amount_sat)
            if caught.value.code != AWAY:
                return caught.value.code
            await trio.sleep(0.1)

    for splice, channel_id, amount_sat in (
        (pair.a.splice_in, "11" * 32, 10_000),
        (pair.a.splice_out, "11" * 32, 10_000),
        (pair.a.splice_in, channel.channel_id, 900_000_000),
        (pair.a.splice_out, channel.channel_id, 250_000),
    ):
        assert await refusal(splice, channel_id, amount_sat) == -32602
    # The daemon would spend the last coin; we keep what closing a channel alone costs.
    wallet_sat = await pair.a.wallet_msat() // 1000
    with pytest.raises(LightningRefused, match="to keep for closing a channel alone") as poor:
        await top_up(
            pair.a,
            channel.peer,
            (await pete.info()).addresses[0],
            amount_sat=wallet_sat - EMERGENCY_SAT,
            minimum_sat=0,
            maximum_fee_percent=5,
            timeout_seconds=30,
        )
    assert poor.value.code == 301
    await pair.network.crash("pete")

    async def apart() -> bool:
        return not (await pair.a.channels(channel.peer))[0].connected

    await eventually(apart)
    assert not await pair.a.can_splice(channel.peer)
    with pytest.raises(LightningRefused) as away:
        await pair.a.splice_in(channel.channel_id, amount_sat=10_000)
    assert away.value.code == AWAY
    (after,) = await pair.a.channels(channel.peer)
    assert (after.state, after.capacity_msat) == ("CHANNELD_NORMAL", 200_000_000)


async def test_zero_conf_takes_both_sides(pair: Pair) -> None:
    """Asked for alone it changes nothing; with the peer's consent the channel pays before its funding has a block."""
    rosa = await pair.network.add_node("rosa")
    info = await rosa.info()
    place = info.addresses[0]
    await settled(pair)
    await pair.a.connect(info.lightning_id, *place)
    channel_id = await pair.a.open_channel(
        info.lightning_id, amount_sat=100_000, push_msat=Msat(0), announce=True, zero_conf=True
    )
    first = await ensure_channel(
        pair.a, info.lightning_id, *place, amount_sat=100_000, timeout_seconds=60, zero_conf=True
    )
    assert first.channel_id == channel_id
    assert first.short_channel_id is not None
    await settled(pair)
    await pair.network.allow_zero_conf("rosa")
    height = (await pair.a.info()).block_height
    second = await ensure_channel(
        pair.a,
        info.lightning_id,
        *place,
        amount_sat=200_000,
        least_spendable_msat=150_000_000,
        timeout_seconds=60,
        zero_conf=True,
    )
    listed = (await pair.a.call("listpeerchannels", id=info.lightning_id.hex()))["channels"]
    (entry,) = [one for one in listed if one["channel_id"] == second.channel_id]
    assert "zeroconf/even" in entry["channel_type"]["names"]
    assert second.usable
    if (await pair.a.info()).block_height == height:
        assert second.short_channel_id is None
    assert await pays(pair.a, rosa, 120_000_000) is Outcome.SETTLED

    async def mined() -> bool:
        return all(one.short_channel_id for one in await pair.a.channels(info.lightning_id))

    await eventually(mined)


async def test_closing_to_an_address(pair: Pair) -> None:
    """Our part of a channel that is closed together goes where we say; an address that is none is refused first."""
    sven, ours = await channel_to(pair, "sven", 200_000, push_sat=60_000)
    (theirs,) = await sven.channels(pair.a_id)
    with pytest.raises(LightningRefused) as caught:
        await close_channel(sven, theirs, unilateral_after_seconds=10, destination="nonsense")
    assert caught.value.code == -1
    await settled(pair)
    before = await pair.a.wallet_msat()
    closing = await close_channel(sven, theirs, unilateral_after_seconds=20, destination=await pair.a.new_address())
    assert closing.mutual

    async def arrived() -> bool:
        return await pair.a.wallet_msat() > before + 199_000_000

    await eventually(arrived)
    assert await sven.wallet_msat() == 0

    async def noticed() -> bool:
        (here,), (there,) = await pair.a.channels(ours.peer), await sven.channels(pair.a_id)
        return phase(here.state) is phase(there.state) is Phase.CLOSED

    await eventually(noticed)
    (closed,) = await pair.a.channels(ours.peer)
    assert closed.closed_by_us is False
    with pytest.raises(LightningRefused, match="closed already"):
        await close_channel(pair.a, closed, unilateral_after_seconds=1)


async def test_a_client_killed_while_funding_finds_its_channel(pair: Pair) -> None:
    """Whoever asked for the channel dies before the answer; the next one waits for that channel, and opens no other."""
    tina = await pair.network.add_node("tina")
    info = await tina.info()
    place = info.addresses[0]
    await pair.a.connect(info.lightning_id, *place)
    with trio.move_on_after(0.02):
        await pair.a.open_channel(info.lightning_id, amount_sat=150_000, push_msat=Msat(0), announce=True)
    channel = await ensure_channel(pair.a, info.lightning_id, *place, amount_sat=150_000, timeout_seconds=60)
    assert channel.usable
    assert len(await pair.a.channels(info.lightning_id)) == 1


async def test_a_daemon_killed_while_funding_opens_one_channel(pair: Pair) -> None:
    """The daemon itself dies at about the moment of funding: afterwards there is one usable channel, not two."""
    ulla = await pair.network.add_node("ulla")
    for _ in range(2):
        await pair.network.fund("ulla", 400_000)
    await ulla.connect(pair.b_id, *pair.b_place)
    with trio.move_on_after(0.03):
        await ulla.open_channel(pair.b_id, amount_sat=150_000, push_msat=Msat(0), announce=True)
    await pair.network.crash("ulla")
    with pytest.raises(LightningError):
        await ulla.info()
    await pair.network.restart("ulla")
    for _ in range(2):
        channel = await ensure_channel(ulla, pair.b_id, *pair.b_place, amount_sat=150_000, timeout_seconds=60)
        assert channel.usable
    assert len([one for one in await ulla.channels() if one.usable]) == 1
