"""What every Lightning daemon must do: give out what a node earned in its channels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.supply import EMERGENCY_SAT
from lnstore.node.earnings import SWEEP_FILE, NothingToSweep, Way, plan_sweep, sweep
from lnstore.ports import LightningRefused, LightningUnavailable
from tests.contract.conftest import eventually

if TYPE_CHECKING:
    from tests.contract.conftest import Pair


async def node_that_earned(pair: Pair, name: str, earned_sat: int) -> CoreLightning:
    """A daemon to which A opened a channel of half a million sat, and paid so much (no whole number of sat)."""
    node = await pair.network.add_node(name)
    info = await node.info()
    await ensure_channel(
        pair.a,
        info.lightning_id,
        *info.addresses[0],
        amount_sat=500_000,
        push_msat=earned_sat * 1000 + 123,
        timeout_seconds=60,
    )

    async def usable() -> bool:
        return any(channel.usable for channel in await node.channels())

    await eventually(usable)
    return node


async def settled_wallet_msat(pair: Pair) -> int:
    await until_nothing_outstanding(pair.a)
    return await pair.a.wallet_msat()


async def until_nothing_outstanding(daemon: CoreLightning) -> None:
    async def nothing_outstanding() -> bool:
        return all(coin.spendable for coin in await daemon.coins())

    await eventually(nothing_outstanding)


async def test_a_sweep_empties_the_channel_and_keeps_it(pair: Pair, tmp_path: Path) -> None:
    """What was earned arrives, but for fees and the emergency reserve; the channel stays, with room again."""
    node = await node_that_earned(pair, "vera", 205_000)
    before = await settled_wallet_msat(pair)
    plan = await plan_sweep(node, tmp_path, everything=False)
    assert [step.way for step in plan.steps] == [Way.SPLICE]
    with pytest.raises(LightningRefused) as caught:
        await sweep(node, tmp_path, "bcrt1qnonsense", everything=False)
    assert caught.value.code == -1
    assert not (await node.channels())[0].splicing

    swept = await sweep(node, tmp_path, await pair.a.new_address(), everything=False, timeout_seconds=60)
    assert not (tmp_path / SWEEP_FILE).exists()
    assert len(swept.withdrawal_txid) == 64
    # 200,000 are above the reserve of the channel.
    assert 200_000 - EMERGENCY_SAT - 1000 < plan.arriving_sat < 200_000 - EMERGENCY_SAT

    async def arrived() -> bool:
        return await pair.a.wallet_msat() > before

    await eventually(arrived)
    arrived_sat = (await pair.a.wallet_msat() - before) // 1000
    assert plan.arriving_sat <= arrived_sat < plan.arriving_sat + 200
    (channel,) = await node.channels()
    assert channel.usable
    assert channel.receivable_msat > 280_000_000
    with pytest.raises(NothingToSweep, match="nothing to sweep"):
        await sweep(node, tmp_path, await pair.a.new_address(), everything=False)
    # The reserve that the wallet keeps cannot leave it as long as there is a channel; it is the withdrawal's change.
    await until_nothing_outstanding(node)
    with pytest.raises(NothingToSweep, match="keeps 25,000 sat"):
        await sweep(node, tmp_path, await pair.a.new_address(), everything=True)


async def test_an_interrupted_sweep_is_finished_by_the_next(pair: Pair, tmp_path: Path) -> None:
    """What had left the channel when the first one gave up is waited for and sent on by the second."""
    node = await node_that_earned(pair, "wim", 105_000)
    before = await settled_wallet_msat(pair)
    address = await pair.a.new_address()
    with pytest.raises(LightningUnavailable, match="not in force"):
        await sweep(node, tmp_path, address, everything=False, timeout_seconds=0.01)
    assert (tmp_path / SWEEP_FILE).exists()
    swept = await sweep(node, tmp_path, address, everything=False, timeout_seconds=60)
    assert len(swept.withdrawal_txid) == 64
    assert not (tmp_path / SWEEP_FILE).exists()

    async def arrived() -> bool:
        return await pair.a.wallet_msat() > before + 70_000_000

    await eventually(arrived)
