"""The virtual nodes and which of them are connected."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lnstore.lightning.simulated import crypto
from lnstore.lightning.simulated.database import Database, Row
from lnstore.lightning.simulated.failure import RpcFailure

FIRST_PORT = 29735
"""Where the virtual nodes say they listen for peers, counting up. Nothing listens there: peers meet in-process."""
HOST = "127.0.0.1"
FEATURES_NODE = "808898880a8a59a1"
FEATURES_INIT = "800898880a8a59a1"
FEATURES_WITHOUT_SPLICING = "000898880a8a59a1"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Node:
    """One virtual lightningd."""

    name: str
    node_id: str
    port: int
    running: bool


def _node(row: Row) -> Node:
    return Node(row["name"], row["node_id"], row["port"], bool(row["running"]))


def add(db: Database, name: str) -> Node:
    """The node of this name, made if it is new. ValueError for a name that cannot be a directory's."""
    if not _NAME.fullmatch(name) or name in {"control", "lock"}:
        raise ValueError(
            f"{name!r} cannot name a node: letters, digits, - and _, at most 32, and not 'control' or 'lock'"
        )
    with db.transaction():
        if db.one("SELECT 1 FROM node WHERE name = ?", name) is None:
            secret = crypto.new_secret()
            count = db.all("SELECT count(*) AS n FROM node")[0]["n"]
            db.insert("node", name=name, secret=secret, node_id=crypto.public_key(secret), port=FIRST_PORT + count)
        return by_name(db, name)


def every(db: Database) -> list[Node]:
    """All of them, in the order in which they were made."""
    return [_node(row) for row in db.all("SELECT * FROM node ORDER BY port")]


def by_name(db: Database, name: str) -> Node:
    """KeyError when there is none."""
    row = db.one("SELECT * FROM node WHERE name = ?", name)
    if row is None:
        raise KeyError(f"there is no simulated node named {name!r}")
    return _node(row)


def by_id(db: Database, node_id: str) -> Node | None:
    """The node with this public key, 66 hex digits."""
    row = db.one("SELECT * FROM node WHERE node_id = ?", node_id)
    return None if row is None else _node(row)


def splices(db: Database, name: str) -> bool:
    """Whether the node can splice, as a current lightningd can and an older one cannot."""
    return not db.meta(f"no_splicing/{name}")


def features(db: Database, name: str) -> str:
    """What the node tells its peers that it can do."""
    return FEATURES_INIT if splices(db, name) else FEATURES_WITHOUT_SPLICING


def secret(db: Database, name: str) -> bytes:
    """The node's private key."""
    row = db.one("SELECT secret FROM node WHERE name = ?", name)
    if row is None:
        raise KeyError(f"there is no simulated node named {name!r}")
    return bytes(row["secret"])


def set_running(db: Database, name: str, running: bool) -> None:
    """Starts or stops the node; its connections end with it, and come back to those it has channels with."""
    with db.transaction():
        db.run("UPDATE node SET running = ? WHERE name = ?", running, name)
        if not running:
            db.run("UPDATE link SET connected = 0 WHERE ? IN (caller, callee)", name)
            return
        reconnect(db)


def reconnect(db: Database) -> None:
    """Connects again those that have a channel together, run, and are not held apart: lightningd keeps trying."""
    for link in db.all("SELECT caller, callee FROM link WHERE NOT connected"):
        a, b = link["caller"], link["callee"]
        if by_name(db, a).running and by_name(db, b).running and has_channel(db, a, b) and not held_apart(db, a, b):
            db.run("UPDATE link SET connected = 1 WHERE caller = ? AND callee = ?", a, b)


def has_channel(db: Database, a: str, b: str) -> bool:
    """Whether the two have a channel that is not yet closed."""
    return (
        db.one(
            "SELECT 1 FROM channel WHERE ((opener = ?1 AND acceptor = ?2) OR (opener = ?2 AND acceptor = ?1)) "
            "AND state IN ('CHANNELD_AWAITING_LOCKIN', 'CHANNELD_NORMAL', 'CHANNELD_AWAITING_SPLICE')",
            a,
            b,
        )
        is not None
    )


def held_apart(db: Database, a: str, b: str) -> bool:
    """Whether a fault keeps the two from being connected."""
    return (
        db.one(
            "SELECT 1 FROM fault WHERE kind = 'peer_down' AND ((node = ?1 AND peer = ?2) OR (node = ?2 AND peer = ?1))",
            a,
            b,
        )
        is not None
    )


def connected(db: Database, a: str, b: str) -> bool:
    """Whether the two are connected now."""
    return (
        db.one(
            "SELECT 1 FROM link WHERE connected AND ((caller = ?1 AND callee = ?2) OR (caller = ?2 AND callee = ?1))",
            a,
            b,
        )
        is not None
    )


def connect(db: Database, caller: Node, peer_id: str, host: str | None, port: int | None) -> tuple[Node, str]:
    """Connects; the peer and who called whom ('out' or 'in'). RpcFailure 400 or 401, as lightningd's."""
    if peer_id == caller.node_id:
        raise RpcFailure(400, "Unable to connect, no address known for peer")
    peer = by_id(db, peer_id)
    with db.transaction():
        known = peer is not None and (
            db.one(
                "SELECT * FROM link WHERE (caller = ?1 AND callee = ?2) OR (caller = ?2 AND callee = ?1)",
                caller.name,
                peer.name,
            )
        )
        if peer is not None and known and known["connected"]:
            return peer, "out" if known["caller"] == caller.name else "in"
        # An address is remembered only for peers that a channel makes worth remembering.
        if host is None and not (peer is not None and has_channel(db, caller.name, peer.name)):
            raise RpcFailure(400, "Unable to connect, no address known for peer")
        address = f"{host or HOST}:{port or (peer.port if peer else 9735)}"
        listening = db.one("SELECT * FROM node WHERE port = ? AND running", port or (peer.port if peer else 0))
        if listening is None or (peer is not None and held_apart(db, caller.name, peer.name)):
            raise RpcFailure(401, f"All addresses failed: {address}: Connection establishment: Connection refused. ")
        if peer is None or listening["name"] != peer.name:
            raise RpcFailure(
                401,
                f"All addresses failed: {address}: Cryptographic handshake: peer closed connection (wrong key?). ",
            )
        if known:
            db.run("UPDATE link SET connected = 1 WHERE caller = ? AND callee = ?", known["caller"], known["callee"])
            return peer, "out" if known["caller"] == caller.name else "in"
        db.insert("link", caller=caller.name, callee=peer.name, connected=1)
        return peer, "out"


def disconnect(db: Database, a: str, b: str) -> bool:
    """Ends the connection between the two; whether there was one."""
    with db.transaction():
        return (
            db.run(
                "UPDATE link SET connected = 0 WHERE connected AND "
                "((caller = ?1 AND callee = ?2) OR (caller = ?2 AND callee = ?1))",
                a,
                b,
            )
            > 0
        )
