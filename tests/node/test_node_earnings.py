"""What a node's channels can receive, and moving out what was earned where peers cannot splice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.control import SimulatedNetwork
from lnstore.lightning.supply import Supply
from lnstore.node.earnings import NothingToSweep, Way, plan_sweep, sweep
from lnstore.node.liquidity import liquidity
from lnstore.ports import Account, Channel
from lnstore_protocol.ids import AccountId, LightningId, Msat
from lnstore_protocol.messages import AccountState

GIB, PERIOD = 1 << 30, 30 * 86_400
ACCOUNT = Account(
    account_id=AccountId(b"a" * 32),
    agreement=b"",
    state=AccountState.ACTIVE,
    anchor_at=0,
    period_seconds=PERIOD,
    grace_seconds=0,
    price_msat_per_gib_month=Msat(2000),
    egress_msat_per_gib=Msat(0),
    capacity_bytes=20 * GIB,
    used_bytes=0,
    shares=0,
    paid_until_at=0,
    token_index=0,
    growth_index=0,
    deposit_index=0,
    deposit_msat=Msat(0),
    ingress_bytes=0,
    egress_bytes=0,
)
CHANNEL = Channel(
    peer=LightningId(b"\x02" * 33),
    state="CHANNELD_NORMAL",
    connected=True,
    channel_id="11" * 32,
    short_channel_id="1x1x1",
    funding_txid="22" * 32,
    capacity_msat=Msat(1_000_000),
    to_us_msat=Msat(0),
    spendable_msat=Msat(0),
    receivable_msat=Msat(100_000),
    opened_by_us=False,
)


def test_room_is_counted_in_periods_of_all_accounts_rent() -> None:
    """Accounts pay 40 sat each; lapsed ones owe nothing; closed channels receive nothing; warnings say what to do."""
    one, two = ACCOUNT, replace(ACCOUNT, account_id=AccountId(b"b" * 32), state=AccountState.GRACE)
    lapsed = replace(ACCOUNT, account_id=AccountId(b"c" * 32), state=AccountState.LAPSED)
    closed = replace(CHANNEL, state="ONCHAIN")
    state = liquidity([CHANNEL, CHANNEL, closed], [one, lapsed], period_seconds=PERIOD)
    assert (state.rent_msat, state.inbound_msat, state.periods_left) == (40_000, 200_000, 5)
    assert (state.supply, state.warning) == (Supply.FINE, "")
    state = liquidity([CHANNEL, closed], [one], period_seconds=PERIOD)
    assert (state.periods_left, state.supply) == (2, Supply.WARN)
    assert "only 2 more periods" in state.warning
    state = liquidity([CHANNEL], [one, two, replace(one, capacity_bytes=20 * GIB)], period_seconds=PERIOD)
    assert state.supply is Supply.TOP_UP
    assert "lnstore node sweep" in state.warning
    state = liquidity([closed], [one], period_seconds=PERIOD)
    assert "no open channel" in state.warning
    assert "lnstore node channel open" in state.warning
    assert "sweep" not in state.warning
    state = liquidity([], [], period_seconds=PERIOD)
    assert (state.periods_left, state.warning) == (None, "")


async def test_a_channel_that_cannot_be_spliced_is_closed_to_the_address(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The whole balance goes to the address at once; with --all the wallet's coins follow; then nothing is left."""
    directory: Path = tmp_path_factory.mktemp("sw")
    async with SimulatedNetwork.start(directory, ["client", "node"], block_seconds=0.02) as network:
        client, node = (CoreLightning(network.socket(name)) for name in ("client", "node"))
        await network.fund("client", 2_000_000)
        info = await node.info()
        await ensure_channel(
            client,
            info.lightning_id,
            *info.addresses[0],
            amount_sat=500_000,
            push_msat=200_000_000,
            timeout_seconds=20,
        )
        await network.forbid_splicing("client")
        address = await client.new_address()
        before = await client.wallet_msat()
        plan = await plan_sweep(node, directory, everything=False)
        assert [(step.way, step.amount_sat, step.fee_sat) for step in plan.steps] == [(Way.CLOSE, 200_000, 0)]
        assert plan.arriving_sat == 200_000

        await network.fault("peer_down", "node", peer="client")
        with pytest.raises(NothingToSweep, match="not connected"):
            await sweep(node, directory, address, everything=False)
        await network.clear_faults()
        swept = await sweep(node, directory, address, everything=False)
        assert swept.withdrawal_txid == ""
        with trio.fail_after(20):
            while await client.wallet_msat() < before + 499_000_000:  # noqa: ASYNC110 - another process mines
                await trio.sleep(0.01)
        await network.fund("node", 50_000)
        with pytest.raises(NothingToSweep, match="nothing to sweep"):
            await sweep(node, directory, address, everything=False)
        swept = await sweep(node, directory, address, everything=True)
        assert len(swept.withdrawal_txid) == 64
        # Without a channel nothing has to be kept.
        with trio.fail_after(20):
            while await node.coins():  # noqa: ASYNC110 - as above
                await trio.sleep(0.01)


async def test_too_little_for_its_fees_is_left(tmp_path_factory: pytest.TempPathFactory) -> None:
    """At high fees, or with little earned, nothing is done and the text says why."""
    directory: Path = tmp_path_factory.mktemp("sw")
    async with SimulatedNetwork.start(directory, ["client", "node"], block_seconds=0.02) as network:
        client, node = (CoreLightning(network.socket(name)) for name in ("client", "node"))
        await network.fund("client", 2_000_000)
        info = await node.info()
        await ensure_channel(
            client, info.lightning_id, *info.addresses[0], amount_sat=200_000, push_msat=22_000_000, timeout_seconds=20
        )
        address = await client.new_address()
        with pytest.raises(NothingToSweep, match="keeps 25,000 sat"):
            await sweep(node, directory, address, everything=False)
        await network.settings(feerate_per_kw=25_000)
        with pytest.raises(NothingToSweep, match="too little in it for the fees"):
            await sweep(node, directory, address, everything=False)
        (channel,) = await node.channels()
        assert (channel.to_us_msat, channel.splicing) == (22_000_000, False)
