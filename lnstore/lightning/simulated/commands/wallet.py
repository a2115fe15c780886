"""newaddr, listfunds, feerates, fundpsbt, withdraw."""

from __future__ import annotations

from typing import Any

from lnstore.lightning.simulated import chain, channels, nodes, params
from lnstore.lightning.simulated.commands import LIGHTNINGD
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.simulation import Daemon

RESERVE_BLOCKS = 2016
NO_PSBT = "cHNidP8BAAoCAAAAAAAAAAAAAA=="
"""Of a transaction without inputs and outputs: here nothing is signed."""

_OPENING_WEIGHT, _CLOSE_WEIGHT, _ANCHOR_CLOSE_WEIGHT, _HTLC_WEIGHTS = 702, 673, 1112, (663, 703)


@LIGHTNINGD.command("newaddr", Param("addresstype", params.string, "all"))
async def newaddr(daemon: Daemon, addresstype: str) -> dict[str, Any]:
    """A fresh address."""
    versions = {"bech32": 0, "p2tr": 1}
    if addresstype not in {*versions, "all"}:
        raise RpcFailure(
            params.INVALID_PARAMS, f"'addresstype' should be 'p2tr', 'bech32', or 'all', not '{addresstype}'"
        )
    wanted = versions if addresstype == "all" else {addresstype: versions[addresstype]}
    return {name: chain.new_address(daemon.db, daemon.name, version) for name, version in wanted.items()}


@LIGHTNINGD.command("feerates", Param("style", params.one_of("perkw", "perkb")))
async def feerates(daemon: Daemon, style: str) -> dict[str, Any]:
    """What transactions cost now."""
    rate, factor = chain.feerate_per_kw(daemon.db), 1 if style == "perkw" else 4
    names = ("opening", "mutual_close", "unilateral_close", "penalty", "min_acceptable", "floor")
    rates = dict.fromkeys(names, rate * factor)
    rates |= {
        "unilateral_anchor_close": max(rate, channels.FEERATE_PER_KW) * factor,
        "splice": chain.splice_feerate_per_kw(daemon.db) * factor,
        "max_acceptable": 10 * rate * factor,
    }
    estimates = [
        {"blockcount": blocks, "feerate": rate * factor, "smoothed_feerate": rate * factor}
        for blocks in (2, 6, 12, 100)
    ]
    timeout, success = _HTLC_WEIGHTS
    typical = {
        "opening_channel_satoshis": _OPENING_WEIGHT * rate // 1000,
        "mutual_close_satoshis": _CLOSE_WEIGHT * rate // 1000,
        "unilateral_close_satoshis": _ANCHOR_CLOSE_WEIGHT * channels.FEERATE_PER_KW // 1000,
        "htlc_timeout_satoshis": timeout * rate // 1000,
        "htlc_success_satoshis": success * rate // 1000,
    }
    return {style: {**rates, "estimates": estimates}, "onchain_fee_estimates": typical}


@LIGHTNINGD.command(
    "fundpsbt",
    Param("satoshi", params.sat_or_all),
    Param("feerate", params.one_of("opening")),
    Param("startweight", params.integer),
    Param("minconf", params.unsupported, None),
    Param("reserve", params.one_of(0)),  # only as a trial: coins are set aside by nothing but a transaction here
    Param("locktime", params.unsupported, None),
    Param("min_witness_weight", params.unsupported, None),
    Param("excess_as_change", params.boolean, default=False),
    Param("nonwrapped", params.unsupported, None),
    Param("opening_anchor_channel", params.boolean, default=False),
)
async def fundpsbt(
    daemon: Daemon,
    *,
    satoshi: int | None,
    startweight: int,
    excess_as_change: bool,
    opening_anchor_channel: bool,
    **unused: Any,  # noqa: ARG001
) -> dict[str, Any]:
    """Which coins a transaction would spend, and what it would weigh."""
    choice, amount_sat = chain.choose(
        daemon.db, daemon.name, satoshi, keep_sat=_kept_sat(daemon, opening=opening_anchor_channel)
    )
    weight = startweight + chain.INPUT_WEIGHT * len(choice.coins) + chain.OUTPUT_WEIGHT * excess_as_change
    reply = {
        "psbt": NO_PSBT,
        "feerate_per_kw": chain.feerate_per_kw(daemon.db),
        "estimated_final_weight": weight,
        "excess_msat": 0 if excess_as_change else choice.change_sat(amount_sat) * 1000,
    }
    return {**reply, "change_outnum": 0} if excess_as_change else reply


def _kept_sat(daemon: Daemon, *, opening: bool = False) -> int:
    """What the wallet keeps for the fees of commitment transactions: nothing without a channel."""
    needed = opening or any(side.row["state"] in channels.OPEN for side in channels.of_node(daemon.db, daemon.name))
    return chain.EMERGENCY_SAT if needed else 0


@LIGHTNINGD.command(
    "withdraw",
    Param("destination", params.address),
    Param("satoshi", params.sat_or_all),
    Param("feerate", params.unsupported, None),
    Param("minconf", params.unsupported, None),
    Param("utxos", params.outpoints, None),
)
async def withdraw(
    daemon: Daemon,
    *,
    destination: str,
    satoshi: int | None,
    utxos: list[tuple[str, int]] | None,
    **unused: Any,  # noqa: ARG001
) -> dict[str, Any]:
    """Pays coins of the wallet to an address."""
    with daemon.db.transaction():
        kept = _kept_sat(daemon)
        txid = chain.withdraw(daemon.db, daemon.name, satoshi, destination, coins=utxos, keep_sat=kept)
    daemon.simulation.changed()
    return {"tx": chain.raw(daemon.db, txid), "txid": txid, "psbt": NO_PSBT}


@LIGHTNINGD.command("listfunds", Param("spent", params.boolean, default=False))
async def listfunds(daemon: Daemon, spent: bool) -> dict[str, Any]:
    """The wallet's outputs, and what is in channels."""
    return {
        "outputs": [
            _output(row, daemon.db.height)
            for row in chain.wallet_outputs(daemon.db, daemon.name)
            if spent or row["spent_height"] is None
        ],
        "channels": [_channel(daemon, side) for side in channels.of_node(daemon.db, daemon.name)],
    }


def _output(row: Any, height: int) -> dict[str, Any]:
    if row["spent_height"] is not None:
        status = "spent"
    elif row["height"] is None:
        status = "unconfirmed"
    else:
        status = "immature" if row["mature_after"] > height else "confirmed"
    reserved = row["spent_by"] is not None and row["spent_height"] is None
    entry = {
        "txid": row["txid"],
        "output": row["outnum"],
        "amount_msat": row["amount_sat"] * 1000,
        "scriptpubkey": row["script"],
        "address": row["address"],
        "status": status,
        "blockheight": row["height"],
        "reserved": reserved,
        # lightningd sets an output aside while the transaction that spends it waits for a block
        "reserved_to_block": height + RESERVE_BLOCKS if reserved else None,
    }
    return {key: value for key, value in entry.items() if value is not None}


def _channel(daemon: Daemon, side: channels.Side) -> dict[str, Any]:
    row = side.row
    entry = {
        "peer_id": nodes.by_name(daemon.db, side.peer).node_id,
        "connected": nodes.connected(daemon.db, side.node, side.peer),
        "state": row["state"],
        "channel_id": row["channel_id"],
        "short_channel_id": row["scid"],
        "our_amount_msat": side.to_us,
        "amount_msat": side.capacity,
        "funding_txid": row["funding_txid"],
        "funding_output": row["funding_outnum"],
    }
    return {key: value for key, value in entry.items() if value is not None}
