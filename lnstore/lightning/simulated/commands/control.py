"""The control socket's commands: what a test, or a person, does to the network from outside."""

from __future__ import annotations

from typing import Any

from lnstore.lightning.simulated import chain, channels, faults, nodes, params, payments
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.server import Commands
from lnstore.lightning.simulated.simulation import Simulation

CONTROL = Commands()
"""Every command of the control socket."""


def _known(simulation: Simulation, name: str) -> str:
    try:
        return nodes.by_name(simulation.db, name).name
    except KeyError as exc:
        raise RpcFailure(params.INVALID_PARAMS, str(exc.args[0])) from None


@CONTROL.command("add_node", Param("name", params.string))
async def add_node(simulation: Simulation, name: str) -> dict[str, Any]:
    """Makes sure that a node of this name exists and runs."""
    try:
        path = await simulation.add(name)
    except (ValueError, OSError) as exc:
        raise RpcFailure(params.INVALID_PARAMS, str(exc)) from None
    return {"name": name, "socket": str(path), "id": nodes.by_name(simulation.db, name).node_id}


@CONTROL.command("fund", Param("name", params.string), Param("amount_sat", params.integer))
async def fund(simulation: Simulation, name: str, amount_sat: int) -> dict[str, Any]:
    """Pays coins from outside to a fresh address of the node and mines the block that holds them."""
    node = _known(simulation, name)
    if amount_sat < chain.DUST_SAT:
        raise RpcFailure(params.INVALID_PARAMS, f"amount_sat must be at least {chain.DUST_SAT}")
    with simulation.db.transaction():
        address = chain.new_address(simulation.db, node, 0)
        txid = chain.deposit(simulation.db, address, amount_sat)
    return {"address": address, "txid": txid, "blockheight": simulation.mine(1)}


@CONTROL.command("mine", Param("blocks", params.integer, 1))
async def mine(simulation: Simulation, blocks: int) -> dict[str, Any]:
    """Mines blocks now."""
    if not 1 <= blocks <= 10_000:
        raise RpcFailure(params.INVALID_PARAMS, "blocks must be from 1 to 10000")
    return {"blockheight": simulation.mine(blocks)}


@CONTROL.command("status")
async def status(simulation: Simulation) -> dict[str, Any]:
    """Everything worth knowing at a glance."""
    db = simulation.db
    return {
        "blockheight": db.height,
        "mempool": chain.mempool_size(db),
        "block_seconds": simulation.block_seconds,
        "payment_seconds": simulation.payment_seconds,
        "clock_offset_seconds": db.meta("clock_offset_seconds"),
        "nodes": [
            {
                "name": node.name,
                "id": node.node_id,
                "running": node.running,
                "socket": str(simulation.path(node.name)),
                "wallet_sat": sum(row["amount_sat"] for row in chain.spendable_outputs(db, node.name)),
                "channels": [
                    {
                        "channel_id": side.row["channel_id"],
                        "peer": side.peer,
                        "state": side.row["state"],
                        "to_us_msat": side.to_us,
                        "spendable_msat": side.spendable,
                    }
                    for side in channels.of_node(db, node.name)
                ],
                "pending_payments": len(
                    db.all("SELECT 1 FROM payment WHERE node = ? AND status = 'pending'", node.name)
                ),
            }
            for node in nodes.every(db)
        ],
        "faults": [{key: row[key] for key in row.keys() if row[key] is not None} for row in faults.every(db)],  # noqa: SIM118
    }


@CONTROL.command(
    "fault",
    Param("kind", params.string),
    Param("node", params.string, None),
    Param("peer", params.string, None),
    Param("command", params.string, None),
    Param("seconds", params.number, None),
    Param("count", params.integer, 1),
)
async def fault(
    simulation: Simulation,
    *,
    kind: str,
    node: str | None,
    peer: str | None,
    command: str | None,
    seconds: float | None,
    count: int,
) -> dict[str, Any]:
    """Arms a fault (see `faults.KINDS`)."""
    for name in (node, peer):
        if name is not None:
            _known(simulation, name)
    try:
        fault_id = faults.add(simulation.db, kind, node=node, peer=peer, command=command, seconds=seconds, count=count)
    except ValueError as exc:
        raise RpcFailure(params.INVALID_PARAMS, str(exc)) from None
    if kind == "peer_down" and node is not None and peer is not None:
        nodes.disconnect(simulation.db, node, peer)
    simulation.changed()
    return {"fault": fault_id}


@CONTROL.command("clear_faults", Param("kind", params.string, None), Param("node", params.string, None))
async def clear_faults(simulation: Simulation, kind: str | None, node: str | None) -> dict[str, Any]:
    """Disarms faults; peers that were held apart connect again."""
    cleared = faults.clear(simulation.db, kind, node)
    nodes.reconnect(simulation.db)
    simulation.changed()
    return {"cleared": cleared}


@CONTROL.command(
    "release", Param("node", params.string), Param("outcome", params.one_of("complete", "fail"), "complete")
)
async def release(simulation: Simulation, node: str, outcome: str) -> dict[str, Any]:
    """Lets the node's held payments complete, or fail."""
    released = simulation.release(_known(simulation, node), outcome)
    return {"released": released}


@CONTROL.command("crash", Param("node", params.string))
async def crash(simulation: Simulation, node: str) -> dict[str, Any]:
    """Ends the node's daemon; its socket refuses when this is answered."""
    await simulation.crash(_known(simulation, node)).wait()
    return {}


@CONTROL.command("start", Param("node", params.string))
async def start(simulation: Simulation, node: str) -> dict[str, Any]:
    """Starts the node's daemon again."""
    await simulation.start(_known(simulation, node))
    return {"socket": str(simulation.path(node))}


@CONTROL.command("restart", Param("node", params.string), Param("seconds", params.number, 0.0))
async def restart(simulation: Simulation, node: str, seconds: float) -> dict[str, Any]:
    """Ends the node's daemon, and starts it again after so long."""
    await simulation.crash(_known(simulation, node)).wait()
    simulation.restart_after(node, seconds)
    return {}


@CONTROL.command(
    "close_channel",
    Param("node", params.string),
    Param("peer", params.string),
    Param("mutual", params.boolean, default=False),
)
async def close_channel(simulation: Simulation, node: str, peer: str, mutual: bool) -> dict[str, Any]:
    """Has `peer` close its channels with `node`, alone or (if they are connected) together with it."""
    db = simulation.db
    name, closer = _known(simulation, node), _known(simulation, peer)
    closed = []
    with db.transaction():
        for side in channels.of_node(db, closer):
            if side.peer == name and side.row["state"] in channels.OPEN:
                payments.abandon(db, side.row["channel_id"])
                together = mutual and channels.usable(db, name, closer)
                closed.append(channels.close(db, side.row, closer, mutual=together))
    simulation.changed()
    return {"txids": closed}


@CONTROL.command("drain", Param("node", params.string), Param("peer", params.string))
async def drain(simulation: Simulation, node: str, peer: str) -> dict[str, Any]:
    """Moves all that `node` can spend in its channels with `peer` to the peer: only the reserve is left."""
    db = simulation.db
    name, receiver = _known(simulation, node), _known(simulation, peer)
    with db.transaction():
        sides = [side for side in channels.of_node(db, name) if side.peer == receiver]
        drained = sum(channels.drain(db, side.row, name) for side in sides if side.row["state"] in channels.OPERATING)
    simulation.changed()
    return {"drained_msat": drained}


@CONTROL.command("forbid_splicing", Param("node", params.string))
async def forbid_splicing(simulation: Simulation, node: str) -> dict[str, Any]:
    """From now on the node cannot splice, like a lightningd before v26.06."""
    simulation.db.set_meta(f"no_splicing/{_known(simulation, node)}", 1)
    return {}


@CONTROL.command("allow_zero_conf", Param("node", params.string), Param("allowed", params.boolean, default=True))
async def allow_zero_conf(simulation: Simulation, node: str, allowed: bool) -> dict[str, Any]:
    """Whether the node takes channels that are usable before their funding has a block."""
    simulation.db.set_meta(f"zero_conf/{_known(simulation, node)}", int(allowed))
    return {"allowed": allowed}


@CONTROL.command(
    "settings",
    Param("block_seconds", params.number, None),
    Param("payment_seconds", params.number, None),
    Param("feerate_per_kw", params.integer, None),
)
async def settings(
    simulation: Simulation, block_seconds: float | None, payment_seconds: float | None, feerate_per_kw: int | None
) -> dict[str, Any]:
    """Changes how long blocks and payments take, until the process ends, and what transactions cost."""
    if feerate_per_kw is not None:
        simulation.db.set_meta("feerate_per_kw", max(feerate_per_kw, chain.FEERATE_PER_KW))
    if block_seconds is not None:
        simulation.block_seconds = block_seconds
    if payment_seconds is not None:
        simulation.payment_seconds = payment_seconds
    simulation.changed()
    return {
        "block_seconds": simulation.block_seconds,
        "payment_seconds": simulation.payment_seconds,
        "feerate_per_kw": chain.feerate_per_kw(simulation.db),
    }


@CONTROL.command("advance_clock", Param("seconds", params.integer))
async def advance_clock(simulation: Simulation, seconds: int) -> dict[str, Any]:
    """Sets the clock of all nodes forward: what expires, expires."""
    offset = simulation.db.meta("clock_offset_seconds") + seconds
    simulation.db.set_meta("clock_offset_seconds", offset)
    simulation.changed()
    return {"clock_offset_seconds": offset}


@CONTROL.command("stop")
async def stop(simulation: Simulation) -> str:
    """Ends the process once this is answered."""
    simulation.stop_soon(None)
    return "Shutdown complete"
