"""splicein, spliceout: making a channel larger or smaller without closing it."""

from __future__ import annotations

from typing import Any

from lnstore.lightning.simulated import chain, channels, nodes, params, payments
from lnstore.lightning.simulated.commands import LIGHTNINGD
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.simulation import Daemon

_CANNOT_AFFORD = 301


@LIGHTNINGD.command("splicein", Param("channel", params.string), Param("amount", params.string))
async def splicein(daemon: Daemon, channel: str, amount: str) -> dict[str, Any]:
    """Puts coins of the wallet into a channel."""
    return _splice(daemon, channel, _sat(amount))


@LIGHTNINGD.command(
    "spliceout",
    Param("channel", params.string),
    Param("amount", params.string),
    Param("destination", params.string, "wallet"),
    Param("force_feerate", params.boolean, default=False),
)
async def spliceout(
    daemon: Daemon,
    *,
    channel: str,
    amount: str,
    destination: str,
    force_feerate: bool,  # noqa: ARG001
) -> dict[str, Any]:
    """Takes coins out of a channel, into the wallet."""
    if destination != "wallet":
        raise RpcFailure(params.INVALID_PARAMS, "Dynamic bitcoin address amounts not supported for now")
    return _splice(daemon, channel, -_sat(amount))


def _sat(amount: str) -> int:
    if not amount.isdecimal():
        raise RpcFailure(params.INVALID_PARAMS, "Splice script compile failed")
    return int(amount)


def _splice(daemon: Daemon, channel: str, amount_sat: int) -> dict[str, Any]:
    db = daemon.db
    row = channels.find(db, daemon.name, channel)
    if row is None:
        raise RpcFailure(params.INVALID_PARAMS, "Splice script compile failed")
    side = channels.side(db, row, daemon.name)
    if row["state"] not in channels.OPERATING or not channels.usable(db, daemon.name, side.peer):
        raise RpcFailure(351, "Channel is disconnected")
    if not nodes.splices(db, side.peer):
        raise RpcFailure(354, "Peer does not support splicing")
    if row["state"] == "CHANNELD_AWAITING_SPLICE":
        _splice_again(daemon, side, amount_sat)
    try:
        spliced = channels.splice(db, row, daemon.node, nodes.by_name(db, side.peer), amount_sat)
    except RpcFailure as failure:
        if failure.code != _CANNOT_AFFORD:
            raise
        raise _nested(failure) from None
    daemon.simulation.crash_if(daemon.name, "channel-spliced")
    daemon.simulation.changed()
    return {"txid": spliced["splice_txid"]}


def _nested(failure: RpcFailure) -> RpcFailure:
    return RpcFailure(params.INVALID_PARAMS, f'addpsbtinput: {{"code":{failure.code},"message":"{failure.message}"}}')


def _splice_again(daemon: Daemon, side: channels.Side, amount_sat: int) -> None:
    """What Core Lightning v26.06.6 does with a splice while another one waits for its block: nothing good.

    It tries to replace the first one, which the chain refuses for its fee. And when the wallet cannot afford the second
    one it abandons both, by closing the channel alone.
    """
    db = daemon.db
    affordable = sum(row["amount_sat"] for row in chain.spendable_outputs(db, daemon.name))
    if amount_sat > affordable:
        with db.transaction():
            payments.abandon(db, side.row["channel_id"])
            channels.close(db, side.row, daemon.name, mutual=False)
        daemon.simulation.changed()
        short = amount_sat - affordable
        raise _nested(
            RpcFailure(
                _CANNOT_AFFORD, f"Could not afford {amount_sat}sat using all 0 available UTXOs: {short}sat short"
            )
        )
    raise RpcFailure(
        -1, '{"code":350,"message":"Error broadcasting splice error code: -26 insufficient fee, rejecting replacement"}'
    )
