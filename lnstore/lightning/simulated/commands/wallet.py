"""newaddr, listfunds."""

from __future__ import annotations

from typing import Any

from lnstore.lightning.simulated import chain, channels, nodes, params
from lnstore.lightning.simulated.commands import LIGHTNINGD
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.simulation import Daemon


@LIGHTNINGD.command("newaddr", Param("addresstype", params.one_of("bech32", "p2tr", "all"), "p2tr"))
async def newaddr(daemon: Daemon, addresstype: str) -> dict[str, Any]:
    """A fresh address."""
    versions = {"bech32": 0, "p2tr": 1}
    wanted = versions if addresstype == "all" else {addresstype: versions[addresstype]}
    return {name: chain.new_address(daemon.db, daemon.name, version) for name, version in wanted.items()}


@LIGHTNINGD.command("listfunds", Param("spent", params.boolean, default=False))
async def listfunds(daemon: Daemon, spent: bool) -> dict[str, Any]:
    """The wallet's outputs, and what is in channels."""
    return {
        "outputs": [
            _output(row, daemon.db.height)
            for row in chain.wallet_outputs(daemon.db, daemon.name)
            if spent or row["spent_by"] is None
        ],
        "channels": [_channel(daemon, side) for side in channels.of_node(daemon.db, daemon.name)],
    }


def _output(row: Any, height: int) -> dict[str, Any]:
    if row["spent_by"] is not None:
        status = "spent"
    elif row["height"] is None:
        status = "unconfirmed"
    else:
        status = "immature" if row["mature_after"] > height else "confirmed"
    entry = {
        "txid": row["txid"],
        "output": row["outnum"],
        "amount_msat": row["amount_sat"] * 1000,
        "scriptpubkey": row["script"],
        "address": row["address"],
        "status": status,
        "reserved": False,
    }
    return entry if row["height"] is None else {**entry, "blockheight": row["height"]}


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
