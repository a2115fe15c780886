"""newaddr, listfunds."""

from __future__ import annotations

from typing import Any

from lnstore.lightning.simulated import chain, channels, nodes, params
from lnstore.lightning.simulated.commands import LIGHTNINGD
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.simulation import Daemon

RESERVE_BLOCKS = 2016


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
