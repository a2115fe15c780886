"""connect, disconnect, listpeers, fundchannel, close, setchannel, listpeerchannels."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import trio

from lnstore.lightning.simulated import chain, channels, crypto, nodes, params, payments
from lnstore.lightning.simulated.commands import LIGHTNINGD
from lnstore.lightning.simulated.database import Database, Row
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.simulation import Daemon

TYPE_BITS = {12: "static_remotekey/even", 22: "anchors/even", 50: "zeroconf/even"}
ZERO_CONF_BIT = 50
UNILATERAL_SECONDS = 172_800
_CHANNEL_ID = re.compile(r"[0-9a-f]{64}|[0-9]+x[0-9]+x[0-9]+")


def _peer_string(value: Any) -> str:
    """A node id, or node id@host:port."""
    text = params.string(value)
    params.node_id(text.partition("@")[0])
    return text


@LIGHTNINGD.command(
    "connect", Param("id", _peer_string), Param("host", params.string, None), Param("port", params.integer, None)
)
async def connect(daemon: Daemon, id: str, host: str | None, port: int | None) -> dict[str, Any]:  # noqa: A002
    """Connects to a peer."""
    peer_id, _, place = id.partition("@")
    if place:
        if host is not None:
            raise RpcFailure(params.INVALID_PARAMS, "Can't specify host as both xxx@yyy and separate argument")
        host, _, digits = place.rpartition(":") if ":" in place else (place, "", "9735")
        port = int(digits)
    peer, direction = nodes.connect(daemon.db, daemon.node, peer_id.lower(), host, port)
    daemon.simulation.changed()
    return {
        "id": peer.node_id,
        "features": nodes.features(daemon.db, peer.name),
        "direction": direction,
        "address": {"type": "ipv4", "address": nodes.HOST, "port": peer.port},
    }


@LIGHTNINGD.command("disconnect", Param("id", params.node_id), Param("force", params.boolean, default=False))
async def disconnect(daemon: Daemon, id: str, force: bool) -> dict[str, Any]:  # noqa: A002
    """Ends the connection with a peer."""
    peer = nodes.by_id(daemon.db, id)
    if peer is None or not nodes.connected(daemon.db, daemon.name, peer.name):
        if peer is not None and nodes.has_channel(daemon.db, daemon.name, peer.name):
            raise RpcFailure(-1, "Peer not connected")
        raise RpcFailure(params.INVALID_PARAMS, f"Unknown peer '{id}'")
    if nodes.has_channel(daemon.db, daemon.name, peer.name) and not force:
        raise RpcFailure(-1, "Peer has (at least one) channel in state CHANNELD_NORMAL")
    nodes.disconnect(daemon.db, daemon.name, peer.name)
    daemon.simulation.changed()
    daemon.simulation.reconnect_soon()
    return {}


@LIGHTNINGD.command("listpeers", Param("id", params.node_id, None), Param("level", params.unsupported, None))
async def listpeers(daemon: Daemon, id: str | None, level: None) -> dict[str, Any]:  # noqa: A002, ARG001
    """The peers, and whether they are connected."""
    peers = []
    for link in daemon.db.all("SELECT * FROM link WHERE ? IN (caller, callee)", daemon.name):
        name = link["callee"] if link["caller"] == daemon.name else link["caller"]
        peer = nodes.by_name(daemon.db, name)
        count = sum(side.peer == name for side in channels.of_node(daemon.db, daemon.name))
        if id not in {None, peer.node_id} or not (link["connected"] or count):
            continue
        entry = {
            "id": peer.node_id,
            "connected": bool(link["connected"]),
            "num_channels": count,
            "features": nodes.features(daemon.db, peer.name),
        }
        if link["connected"]:
            entry["netaddr"] = [f"{nodes.HOST}:{peer.port}"]
        peers.append(entry)
    return {"peers": peers}


@LIGHTNINGD.command(
    "fundchannel",
    Param("id", params.node_id),
    Param("amount", params.sat_or_all),
    Param("feerate", params.unsupported, None),
    Param("announce", params.boolean, default=True),
    Param("minconf", params.unsupported, None),
    Param("push_msat", params.msat, 0),
    Param("close_to", params.unsupported, None),
    Param("request_amt", params.unsupported, None),
    Param("compact_lease", params.unsupported, None),
    Param("utxos", params.unsupported, None),
    Param("mindepth", params.integer, None),
    Param("reserve", params.unsupported, None),
    Param("channel_type", params.unsupported, None),
)
async def fundchannel(
    daemon: Daemon,
    *,
    id: str,  # noqa: A002
    amount: int | None,
    announce: bool,
    push_msat: int,
    mindepth: int | None,
    **unused: Any,  # noqa: ARG001
) -> dict[str, Any]:
    """Opens a channel; it is usable once its funding is in a block, or at once if both sides want no block."""
    try:
        peer, _ = nodes.connect(daemon.db, daemon.node, id, None, None)
    except RpcFailure as failure:
        failure.data = {"id": id, "method": "connect"}
        raise
    row = channels.open_channel(
        daemon.db,
        daemon.node,
        peer,
        amount_sat=amount,
        push_msat=push_msat,
        public=announce,
        zero_conf=mindepth == 0,
    )
    daemon.simulation.crash_if(daemon.name, "channel-funded")
    daemon.simulation.changed()
    return {
        "tx": chain.raw(daemon.db, row["funding_txid"]),
        "txid": row["funding_txid"],
        "channel_id": row["channel_id"],
        "channel_type": _channel_type(row),
        "outnum": row["funding_outnum"],
    }


def _channel_type(row: Row) -> dict[str, Any]:
    bits = [bit for bit in TYPE_BITS if bit != ZERO_CONF_BIT or row["zero_conf"]]
    return {"bits": bits, "names": [TYPE_BITS[bit] for bit in bits]}


@LIGHTNINGD.command(
    "close",
    Param("id", params.string),
    Param("unilateraltimeout", params.integer, UNILATERAL_SECONDS),
    Param("destination", params.address, None),
    Param("fee_negotiation_step", params.unsupported, None),
    Param("wrong_funding", params.unsupported, None),
    Param("force_lease_closed", params.unsupported, None),
    Param("feerange", params.unsupported, None),
)
async def close(
    daemon: Daemon,
    *,
    id: str,  # noqa: A002
    unilateraltimeout: int,
    destination: str | None,
    **unused: Any,  # noqa: ARG001
) -> dict[str, Any]:
    """Closes a channel: together if the peer is there in time, alone after that."""
    row = channels.find(daemon.db, daemon.name, id)
    if row is None and nodes.by_id(daemon.db, id) is None:
        why = "Channel id not found" if _CHANNEL_ID.fullmatch(id) else "should be a channel ID or short channel ID"
        raise RpcFailure(params.INVALID_PARAMS, f"id: {why}: invalid token '\"{id}\"'")
    if row is None or row["state"] not in channels.OPEN:
        raise RpcFailure(-1, "Peer has no active channel")
    seconds = unilateraltimeout or float("inf")
    mutual = False
    with trio.move_on_after(seconds):
        while not _can_close(daemon.db, row["channel_id"]):
            await daemon.bell.wait()
        mutual = True
    row = channels.find(daemon.db, daemon.name, row["channel_id"])
    if row is None or row["state"] not in channels.OPEN:
        raise RpcFailure(-1, "Channel was closed by its peer")
    with daemon.db.transaction():
        payments.abandon(daemon.db, row["channel_id"])
        txid = channels.close(daemon.db, row, daemon.name, mutual=mutual, script=destination)
    daemon.simulation.crash_if(daemon.name, "channel-closed")
    daemon.simulation.changed()
    return {"txs": [chain.raw(daemon.db, txid)], "txids": [txid], "type": "mutual" if mutual else "unilateral"}


@LIGHTNINGD.command(
    "setchannel",
    Param("id", params.string),
    Param("feebase", params.unsupported, None),
    Param("feeppm", params.unsupported, None),
    Param("htlcmin", params.unsupported, None),
    Param("htlcmax", params.msat, None),
    Param("enforcedelay", params.unsupported, None),
    Param("ignorefeelimits", params.unsupported, None),
)
async def setchannel(daemon: Daemon, *, id: str, htlcmax: int | None, **unused: Any) -> dict[str, Any]:  # noqa: A002, ARG001
    """Changes the largest payment that we send over a channel."""
    row = channels.find(daemon.db, daemon.name, id)
    if row is None:
        raise RpcFailure(params.INVALID_PARAMS, f"id: Channel id not found: invalid token '\"{id}\"'")
    if htlcmax is not None:
        column = "opener_largest_msat" if row["opener"] == daemon.name else "acceptor_largest_msat"
        daemon.db.run(f"UPDATE channel SET {column} = ? WHERE channel_id = ?", htlcmax, row["channel_id"])  # noqa: S608
    side = channels.side(daemon.db, channels.by_id(daemon.db, row["channel_id"]), daemon.name)
    entry = {
        "peer_id": nodes.by_name(daemon.db, side.peer).node_id,
        "channel_id": row["channel_id"],
        "short_channel_id": row["scid"],
        "fee_base_msat": channels.FEE_BASE_MSAT,
        "fee_proportional_millionths": channels.FEE_PPM,
        "minimum_htlc_out_msat": 0,
        "maximum_htlc_out_msat": side.largest,
        "ignore_fee_limits": True,
    }
    return {"channels": [{key: value for key, value in entry.items() if value is not None}]}


def _can_close(db: Database, channel_id: str) -> bool:
    row = db.one("SELECT * FROM channel WHERE channel_id = ?", channel_id)
    if row is None or row["state"] not in channels.OPEN:
        return True
    in_flight = db.one("SELECT 1 FROM htlc WHERE channel_id = ?", channel_id)
    return in_flight is None and channels.usable(db, row["opener"], row["acceptor"])


@LIGHTNINGD.command(
    "listpeerchannels",
    Param("id", params.node_id, None),
    Param("short_channel_id", params.string, None),
    Param("channel_id", params.payment_hash, None),
)
async def listpeerchannels(
    daemon: Daemon,
    *,
    id: str | None,  # noqa: A002
    short_channel_id: str | None,
    channel_id: str | None,
) -> dict[str, Any]:
    """The channels, in full."""
    found = []
    for side in channels.of_node(daemon.db, daemon.name):
        entry = _channel(daemon.db, side)
        if (
            id in {None, entry["peer_id"]}
            and short_channel_id in {None, side.row["scid"]}
            and channel_id in {None, side.row["channel_id"]}
        ):
            found.append(entry)
    return {"channels": found}


def _channel(db: Database, side: channels.Side) -> dict[str, Any]:
    row, capacity = side.row, side.capacity
    ours, theirs = ("forth", "back") if side.opener else ("back", "forth")
    aliases = (row["opener_alias"], row["acceptor_alias"])
    low, high = row["opener_min_msat"], row["opener_max_msat"]
    connected = nodes.connected(db, side.node, side.peer)
    normal = row["state"] in channels.OPERATING
    update = {
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": side.largest,
        "cltv_expiry_delta": channels.CLTV_DELTA,
        "fee_base_msat": channels.FEE_BASE_MSAT,
        "fee_proportional_millionths": channels.FEE_PPM,
    }
    untrimmed = sum(htlc["amount_msat"] >= channels.DUST_MSAT for htlc in side.htlcs)
    close_to = crypto.witness_script(1, _filler(row["channel_id"], side.node))
    entry: dict[str, Any] = {
        "peer_id": nodes.by_name(db, side.peer).node_id,
        "peer_connected": connected,
        "channel_type": _channel_type(row),
        "updates": {"local": update, "remote": update} if normal else {"local": update},
        "ignore_fee_limits": True,
        "lost_state": False,
        "state": row["state"],
        "owner": "channeld" if connected and row["state"] in channels.OPEN else None,
        "reestablished": True if connected else None,
        "short_channel_id": row["scid"],
        "direction": None if row["scid"] is None else int(_direction(db, side)),
        "channel_id": row["channel_id"],
        "funding_txid": row["funding_txid"],
        "funding_outnum": row["funding_outnum"],
        "feerate": {"perkw": channels.FEERATE_PER_KW, "perkb": 4 * channels.FEERATE_PER_KW},
        "scratch_txid": row["close_txid"] or _filler(row["channel_id"], side.to_us).hex(),
        "close_to": close_to.script,
        "close_to_addr": close_to.address,
        "last_tx_fee_msat": channels.commitment_fee_sat(untrimmed) * 1000,
        "private": not row["public"],
        "opener": "local" if side.opener else "remote",
        "closer": None if row["closer"] is None else "local" if row["closer"] == side.node else "remote",
        "alias": {"local": aliases[not side.opener], "remote": aliases[side.opener]},
        "features": [
            "option_static_remotekey",
            "option_anchors",
            *(["option_zeroconf"] if row["zero_conf"] else []),
        ],
        **_inflight(side),
        "funding": {
            "local_funds_msat": capacity if side.opener else 0,
            "remote_funds_msat": 0 if side.opener else capacity,
            "pushed_msat": row["push_msat"],
            "withheld": False,
        },
        "to_us_msat": side.to_us,
        "min_to_us_msat": low if side.opener else capacity - high,
        "max_to_us_msat": high if side.opener else capacity - low,
        "total_msat": capacity,
        "fee_base_msat": channels.FEE_BASE_MSAT,
        "fee_proportional_millionths": channels.FEE_PPM,
        "dust_limit_msat": channels.DUST_MSAT,
        "their_max_htlc_value_in_flight_msat": channels.UNLIMITED_MSAT,
        "our_max_htlc_value_in_flight_msat": channels.UNLIMITED_MSAT,
        "their_reserve_msat": side.reserve,
        "our_reserve_msat": side.reserve,
        "spendable_msat": side.spendable,
        "receivable_msat": side.receivable,
        "minimum_htlc_in_msat": 0,
        "minimum_htlc_out_msat": 0,
        "maximum_htlc_out_msat": side.largest,
        "their_to_self_delay": channels.TO_SELF_DELAY,
        "our_to_self_delay": channels.TO_SELF_DELAY,
        "max_accepted_htlcs": 483,
        "state_changes": _state_changes(db, side),
        "status": [_status(row["state"])],
        "in_payments_offered": row[f"{theirs}_offered"],
        "in_offered_msat": row[f"{theirs}_offered_msat"],
        "in_payments_fulfilled": row[f"{theirs}_fulfilled"],
        "in_fulfilled_msat": row[f"{theirs}_fulfilled_msat"],
        "out_payments_offered": row[f"{ours}_offered"],
        "out_offered_msat": row[f"{ours}_offered_msat"],
        "out_payments_fulfilled": row[f"{ours}_fulfilled"],
        "out_fulfilled_msat": row[f"{ours}_fulfilled_msat"],
        "htlcs": [_htlc(htlc, outgoing=bool(htlc["forth"]) == side.opener) for htlc in side.htlcs],
    }
    return {key: value for key, value in entry.items() if value is not None}


def _filler(channel_id: str, about: object) -> bytes:
    """32 bytes where lightningd shows something that only exists in a real commitment transaction."""
    return hashlib.sha256(f"{channel_id} {about}".encode()).digest()


def _direction(db: Database, side: channels.Side) -> bool:
    """BOLT 7: direction 0 is from the node with the lesser id."""
    return nodes.by_name(db, side.node).node_id > nodes.by_name(db, side.peer).node_id


def _status(state: str) -> str:
    words = {
        "CHANNELD_NORMAL": "Channel ready for use.",
        "CHANNELD_AWAITING_LOCKIN": "Funding needs 1 more confirmations to be ready.",
        "CHANNELD_AWAITING_SPLICE": "Channel ready for use. Splice awaits lock-in.",
    }
    return f"{state}:{words.get(state, 'Channel closed.')}"


def _inflight(side: channels.Side) -> dict[str, Any]:
    row = side.row
    if row["splice_txid"] is None:
        return {}
    rate = chain.FEERATE_PER_KW
    entry = {
        "funding_txid": row["splice_txid"],
        "funding_outnum": row["splice_outnum"],
        "feerate": f"{rate}perkw",
        "total_funding_msat": side.capacity + row["splice_sat"] * 1000,
        "our_funding_msat": side.capacity if side.opener else 0,
        "splice_amount": row["splice_sat"] if row["splicer"] == side.node else 0,
        "scratch_txid": _filler(row["channel_id"], row["splice_txid"]).hex(),
    }
    # The next one of the same splice would have to pay a 24th more (BOLT 2).
    rates = {"initial_feerate": rate, "last_feerate": rate, "next_feerate": rate * 25 // 24}
    return {"inflight": [entry], **{name: f"{value}perkw" for name, value in rates.items()}}


def _state_changes(db: Database, side: channels.Side) -> list[dict[str, str]]:
    return [
        {
            "timestamp": datetime.fromtimestamp(change["at"], UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "old_state": change["old_state"],
            "new_state": change["new_state"],
            "cause": "user" if change["node"] == side.node else "remote",
            "message": change["message"],
        }
        for change in channels.changes(db, side.row["channel_id"])
    ]


def _htlc(row: Any, *, outgoing: bool) -> dict[str, Any]:
    entry = {
        "direction": "out" if outgoing else "in",
        "id": row["id"],
        "amount_msat": row["amount_msat"],
        "expiry": row["expiry"],
        "payment_hash": row["payment_hash"],
        "state": "SENT_ADD_ACK_REVOCATION" if outgoing else "RCVD_ADD_ACK_REVOCATION",
    }
    return {**entry, "local_trimmed": True} if row["amount_msat"] < channels.DUST_MSAT else entry
