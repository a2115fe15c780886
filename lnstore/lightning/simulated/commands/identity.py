"""getinfo, help, signmessage, checkmessage, waitblockheight, stop."""

from __future__ import annotations

from typing import Any

import trio

from lnstore.lightning.messages import recover_signer
from lnstore.lightning.simulated import channels, crypto, nodes, params
from lnstore.lightning.simulated.commands import LIGHTNINGD
from lnstore.lightning.simulated.database import Database
from lnstore.lightning.simulated.failure import LostDaemonError, RpcFailure
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.simulation import Daemon

VERSION = "v26.06.6-simulated"
WAIT_BLOCK_SECONDS = 60


@LIGHTNINGD.command("getinfo")
async def getinfo(daemon: Daemon) -> dict[str, Any]:
    """Who the node is."""
    node = daemon.node
    states = [side.row["state"] for side in channels.of_node(daemon.db, node.name)]
    peers = daemon.db.all("SELECT 1 FROM link WHERE ? IN (caller, callee)", node.name)
    return {
        "id": node.node_id,
        "alias": node.name,
        "color": node.node_id[:6],
        "num_peers": len(peers),
        "num_pending_channels": states.count("CHANNELD_AWAITING_LOCKIN"),
        "num_active_channels": sum(state in channels.OPERATING for state in states),
        "num_inactive_channels": sum(state not in channels.OPEN for state in states),
        "address": [],
        "binding": [{"type": "ipv4", "address": nodes.HOST, "port": node.port}],
        "version": VERSION,
        "blockheight": daemon.db.height,
        "network": "regtest",
        "fees_collected_msat": 0,
        "lightning-dir": str(daemon.simulation.path(node.name).parent),
        "our_features": {
            "init": nodes.FEATURES_INIT,
            "node": nodes.FEATURES_NODE,
            "channel": "",
            "invoice": "02000002024100",
        },
    }


@LIGHTNINGD.command("help", Param("command", params.string, None))
async def help_(_daemon: Daemon, command: str | None) -> dict[str, Any]:
    """Which commands there are."""
    if command is not None and command not in LIGHTNINGD:
        raise RpcFailure(-32601, f"Unknown command {command}")
    wanted = sorted(LIGHTNINGD) if command is None else [command]
    return {"help": [{"command": LIGHTNINGD[name].usage()} for name in wanted], "format-hint": "simple"}


@LIGHTNINGD.command("signmessage", Param("message", params.string))
async def signmessage(daemon: Daemon, message: str) -> dict[str, Any]:
    """Signs a text."""
    signed = crypto.sign_message(nodes.secret(daemon.db, daemon.name), message)
    return {"signature": signed.signature, "recid": signed.recid, "zbase": signed.zbase}


@LIGHTNINGD.command(
    "checkmessage",
    Param("message", params.string),
    Param("zbase", params.string),
    Param("pubkey", params.node_id, None),
)
async def checkmessage(daemon: Daemon, message: str, zbase: str, pubkey: str | None) -> dict[str, Any]:
    """Says who signed a text; without `pubkey` only for keys that gossip has told of."""
    try:
        signer = recover_signer(message, zbase)
    except ValueError:
        raise RpcFailure(params.INVALID_PARAMS, "zbase is not valid zbase32") from None
    if signer is None:
        # Core Lightning v26.06.6 aborts here, which is why CoreLightning.check_message does not ask it.
        raise LostDaemonError(daemon.name)
    if pubkey is not None:
        return {"pubkey": signer, "verified": signer == pubkey}
    if not _announced(daemon.db, signer):
        raise RpcFailure(1301, "pubkey not found in the graph", {"claimed_key": signer})
    return {"pubkey": signer, "verified": True}


def _announced(db: Database, node_id: str) -> bool:
    node = nodes.by_id(db, node_id)
    return node is not None and (
        db.one(
            "SELECT 1 FROM channel JOIN tx ON tx.txid = funding_txid WHERE ? IN (opener, acceptor) "
            "AND public AND state IN ('CHANNELD_NORMAL', 'CHANNELD_AWAITING_SPLICE') AND height <= ?",
            node.name,
            db.height - 5,  # a channel is announced when its funding is six blocks deep
        )
        is not None
    )


@LIGHTNINGD.command(
    "waitblockheight", Param("blockheight", params.integer), Param("timeout", params.integer, WAIT_BLOCK_SECONDS)
)
async def waitblockheight(daemon: Daemon, blockheight: int, timeout: int) -> dict[str, Any]:
    """Waits for a block."""
    with trio.move_on_after(timeout):
        while daemon.db.height < blockheight:
            await daemon.simulation.blocks.wait()
        return {"blockheight": daemon.db.height}
    raise RpcFailure(2000, "Timed out.")


@LIGHTNINGD.command("stop")
async def stop(daemon: Daemon) -> str:
    """Ends the daemon once this is answered."""
    daemon.simulation.stop_soon(daemon.name)
    return "Shutdown complete"
