"""Channels: how they open, what can be spent over them, how they close.

The arithmetic of what is spendable is lightningd's (lightningd/peer_control.c, channel_amount_spendable): our
balance, less what is on its way, less the 1 % reserve, and for the side that opened the channel less the fee of a
commitment transaction with room for two more HTLCs at a higher fee rate, and the two anchors.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from lnstore.lightning.simulated import chain, crypto, nodes
from lnstore.lightning.simulated.database import Database, Row
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.nodes import Node

FEERATE_PER_KW = 1250
DUST_MSAT = chain.DUST_SAT * 1000
FEE_BASE_MSAT = 1
FEE_PPM = 10
CLTV_DELTA = 6
TO_SELF_DELAY = 6
FORGET_AFTER_BLOCKS = 100
CLOSE_FEE_SAT = 153
MIN_CAPACITY_SAT = 10_000
UNLIMITED_MSAT = 2**64 - 1
_COMMIT_WEIGHT, _HTLC_WEIGHT = 1124, 172
_ANCHORS_SAT = 660
_FEERATE_FLOOR, _FEERATE_CEILING = 253, 45_000

OPERATING = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")
OPEN = ("CHANNELD_AWAITING_LOCKIN", *OPERATING)


def reserve_sat(capacity_sat: int) -> int:
    """What each side must keep: 1 %, at least the dust limit."""
    return max(capacity_sat // 100, chain.DUST_SAT)


def commitment_fee_sat(untrimmed_htlcs: int) -> int:
    """The fee of a commitment transaction as it is."""
    return (_COMMIT_WEIGHT + _HTLC_WEIGHT * untrimmed_htlcs) * FEERATE_PER_KW // 1000


def spike_fee_sat(untrimmed_htlcs: int) -> int:
    """The fee it may have to pay soon: double at the lowest rates, a tenth more at the highest, linear between."""
    above = min(max(FEERATE_PER_KW - _FEERATE_FLOOR, 0), _FEERATE_CEILING - _FEERATE_FLOOR)
    percent_e7 = 200 * 10**7 - 90 * 10**7 * above // (_FEERATE_CEILING - _FEERATE_FLOOR)
    rate = FEERATE_PER_KW * percent_e7 // 10**9
    return (_COMMIT_WEIGHT + _HTLC_WEIGHT * untrimmed_htlcs) * rate // 1000 + _ANCHORS_SAT


@dataclass(frozen=True, slots=True)
class Side:
    """A channel as one of its two nodes sees it. Amounts in msat."""

    row: Row
    node: str
    peer: str
    opener: bool
    to_us: int
    spendable: int
    receivable: int
    htlcs: list[Row]

    @property
    def capacity(self) -> int:
        """The whole channel, msat."""
        return int(self.row["capacity_sat"]) * 1000

    @property
    def largest(self) -> int:
        """The largest single payment this side sends, msat. A splice does not change it; `setchannel` does."""
        return int(self.row["opener_largest_msat" if self.opener else "acceptor_largest_msat"])

    @property
    def reserve(self) -> int:
        """Msat that must stay on each side."""
        return reserve_sat(self.row["capacity_sat"]) * 1000


def side(db: Database, row: Row, node: str) -> Side:
    """The channel `row` seen by `node`."""
    opener = row["opener"] == node
    htlcs = db.all(
        "SELECT htlc.*, payment.payment_hash FROM htlc JOIN payment ON payment.id = payment_id "
        "WHERE channel_id = ? ORDER BY htlc.id",
        row["channel_id"],
    )
    capacity = row["capacity_sat"] * 1000
    to_us = row["opener_msat"] if opener else capacity - row["opener_msat"]
    ours = _spendable(row, to_us, htlcs, forth=opener)
    theirs = _spendable(row, capacity - to_us, htlcs, forth=not opener)
    if _drained(db, node):
        ours = 0
    peer = row["acceptor"] if opener else row["opener"]
    if _drained(db, peer):
        theirs = 0
    return Side(row, node, peer, opener, to_us, ours, theirs, htlcs)


def _drained(db: Database, node: str) -> bool:
    return db.one("SELECT 1 FROM fault WHERE kind = 'capacity_exhausted' AND node = ?", node) is not None


def _spendable(row: Row, balance: int, htlcs: list[Row], *, forth: bool) -> int:
    left: int = balance - sum(htlc["amount_msat"] for htlc in htlcs if bool(htlc["forth"]) == forth)
    left -= reserve_sat(row["capacity_sat"]) * 1000
    if left <= 0:
        return 0
    if forth:  # the opener pays the commitment transaction
        untrimmed = sum(htlc["amount_msat"] >= DUST_MSAT for htlc in htlcs) + (left >= DUST_MSAT)
        left -= spike_fee_sat(untrimmed + 1) * 1000
    return max(left, 0)


def of_node(db: Database, node: str) -> list[Side]:
    """All channels of a node, the oldest first."""
    rows = db.all("SELECT * FROM channel WHERE ? IN (opener, acceptor) ORDER BY rowid", node)
    return [side(db, row, node) for row in rows]


def usable(db: Database, a: str, b: str) -> bool:
    """Whether payments can pass between two neighbours now: both run, connected."""
    return nodes.connected(db, a, b)


def open_channel(
    db: Database, opener: Node, peer: Node, *, amount_sat: int | None, push_msat: int, public: bool, zero_conf: bool
) -> Row:
    """Funds a channel; its row. RpcFailure 301, 313 or -1, as lightningd's.

    With `zero_conf` it is usable at once, if the peer allows that; else that changes nothing.
    """
    with db.transaction():
        if amount_sat is not None:
            _check_size(amount_sat, peer)
        txid, _, capacity_sat = chain.fund(
            db, opener.name, amount_sat, crypto.funding_script(opener.node_id, peer.node_id)
        )
        if push_msat > capacity_sat * 1000:
            raise RpcFailure(-32602, f"Requested to push_msat {push_msat}msat exceeds funding amount {capacity_sat}sat")
        channel_id = bytes.fromhex(txid)[::-1].hex()  # the funding txid's bytes, xor the output number, which is 0
        db.insert(
            "channel",
            channel_id=channel_id,
            opener=opener.name,
            acceptor=peer.name,
            funding_txid=txid,
            funding_outnum=0,
            capacity_sat=capacity_sat,
            push_msat=push_msat,
            public=public,
            state="CHANNELD_AWAITING_LOCKIN",
            opener_alias=_random_scid(),
            acceptor_alias=_random_scid(),
            opener_msat=capacity_sat * 1000 - push_msat,
            opener_min_msat=capacity_sat * 1000 - push_msat,
            opener_max_msat=capacity_sat * 1000 - push_msat,
            opener_largest_msat=(capacity_sat - reserve_sat(capacity_sat)) * 1000,
            acceptor_largest_msat=(capacity_sat - reserve_sat(capacity_sat)) * 1000,
            zero_conf=zero_conf and allows_zero_conf(db, peer.name),
        )
        row = by_id(db, channel_id)
        if row["zero_conf"]:
            _change(db, row, "CHANNELD_NORMAL", opener.name, "Lockin complete")
        return by_id(db, channel_id)


def by_id(db: Database, channel_id: str) -> Row:
    """The channel with this id; KeyError when it is forgotten."""
    row = db.one("SELECT * FROM channel WHERE channel_id = ?", channel_id)
    if row is None:
        raise KeyError(channel_id)
    return row


def allows_zero_conf(db: Database, node: str) -> bool:
    """Whether the node takes channels whose funding has no block yet; a real lightningd asks a plugin that."""
    return bool(db.meta(f"zero_conf/{node}"))


def _change(db: Database, row: Row, state: str, node: str, message: str) -> int:
    """Puts the channel into another state, because of `node`."""
    db.insert(
        "channel_change",
        channel_id=row["channel_id"],
        at=db.now(),
        old_state=row["state"],
        new_state=state,
        node=node,
        message=message,
    )
    return db.run("UPDATE channel SET state = ? WHERE channel_id = ?", state, row["channel_id"])


def changes(db: Database, channel_id: str) -> list[Row]:
    """The channel's changes of state, the oldest first."""
    return db.all("SELECT * FROM channel_change WHERE channel_id = ? ORDER BY rowid", channel_id)


def _check_size(amount_sat: int, peer: Node) -> None:
    """RpcFailure -1 for a channel so small that lightningd refuses it."""
    reserve = reserve_sat(amount_sat)
    data = {"id": peer.node_id, "method": "fundchannel_start"}
    ours = "Not opening because if they used the same setting as us"
    usable_sat = amount_sat - 2 * reserve - commitment_fee_sat(0) - _ANCHORS_SAT
    if amount_sat < 2 * reserve + _ANCHORS_SAT:
        raise RpcFailure(
            -1,
            f"{ours} channel_reserve_satoshis {reserve}sat and {reserve}sat too large for funding {amount_sat}sat",
            data,
        )
    if usable_sat < MIN_CAPACITY_SAT:
        raise RpcFailure(
            -1,
            f"{ours} channel capacity with funding {amount_sat}sat, reserves {reserve}sat/{reserve}sat, "
            f"max_htlc_value_in_flight_msat is {UNLIMITED_MSAT}msat, channel capacity is {max(usable_sat, 0)}sat, "
            f"which is below {MIN_CAPACITY_SAT}sat",
            data,
        )


def _random_scid() -> str:
    return f"{secrets.randbelow(1 << 24)}x{secrets.randbelow(1 << 24)}x{secrets.randbelow(1 << 16)}"


def advance(db: Database) -> bool:
    """Moves every channel on as far as the chain and its peers' connections allow; whether any moved."""
    moved = 0
    with db.transaction():
        for row in db.all(
            "SELECT channel.*, tx.height, tx.position FROM channel JOIN tx ON tx.txid = funding_txid "
            "WHERE tx.height IS NOT NULL AND (state = 'CHANNELD_AWAITING_LOCKIN' "
            "OR (state = 'CHANNELD_NORMAL' AND scid IS NULL))"
        ):
            # Both sides must tell each other that the channel is ready.
            if usable(db, row["opener"], row["acceptor"]):
                scid = f"{row['height']}x{row['position']}x{row['funding_outnum']}"
                moved += db.run("UPDATE channel SET scid = ? WHERE channel_id = ?", scid, row["channel_id"])
                if row["state"] != "CHANNELD_NORMAL":
                    _change(db, row, "CHANNELD_NORMAL", row["opener"], "Lockin complete")
        for row in db.all(
            "SELECT channel.*, tx.height, tx.position FROM channel JOIN tx ON tx.txid = splice_txid "
            "WHERE state = 'CHANNELD_AWAITING_SPLICE' AND tx.height IS NOT NULL"
        ):
            if usable(db, row["opener"], row["acceptor"]):
                moved += _lock_splice(db, row)
        for row in db.all(
            "SELECT * FROM channel WHERE state IN ('CLOSINGD_COMPLETE', 'AWAITING_UNILATERAL') "
            "AND (SELECT height FROM tx WHERE txid = close_txid) IS NOT NULL"
        ):
            moved += _change(db, row, "ONCHAIN", row["closer"], "Onchain init reply")
        moved += db.run(
            "DELETE FROM channel WHERE state = 'ONCHAIN' AND (SELECT height FROM tx WHERE txid = close_txid) <= ?",
            db.height - FORGET_AFTER_BLOCKS,
        )
    return moved > 0


def splice(db: Database, row: Row, splicer: Node, peer: Node, amount_sat: int) -> Row:
    """Puts `amount_sat` of the splicer's wallet into the channel, or takes as much out, plus the fee; the row after.

    The channel goes on with its old size until the transaction has a block. RpcFailure as chain.splice, and as
    lightningd's when more is taken out than the splicer has.
    """
    added_sat = amount_sat
    if amount_sat < 0:
        added_sat -= chain.splice_fee_sat(db, 0, 1)
        own_msat = (
            row["opener_msat"] if row["opener"] == splicer.name else row["capacity_sat"] * 1000 - row["opener_msat"]
        )
        if own_msat + added_sat * 1000 < 0:
            why = (
                f"Intiator is attempting to splice out {added_sat}sat funds out of channel while only having "
                f"{own_msat}sat funds attributable to them."
            )
            raise RpcFailure(-32602, f'splice_update: {{"code":362,"message":"{why}"}}')
    with db.transaction():
        txid = chain.splice(
            db,
            splicer.name,
            (row["funding_txid"], row["funding_outnum"]),
            amount_sat=amount_sat,
            total_sat=row["capacity_sat"] + added_sat,
            script=crypto.funding_script(splicer.node_id, peer.node_id),
        )
        db.run(
            "UPDATE channel SET splice_txid = ?, splice_outnum = 0, splicer = ?, splice_sat = ? WHERE channel_id = ?",
            txid,
            splicer.name,
            added_sat,
            row["channel_id"],
        )
        _change(db, row, "CHANNELD_AWAITING_SPLICE", splicer.name, "Splice signatures sent")
        return by_id(db, row["channel_id"])


def _lock_splice(db: Database, row: Row) -> int:
    msat = row["splice_sat"] * 1000 if row["splicer"] == row["opener"] else 0
    _change(db, row, "CHANNELD_NORMAL", row["splicer"], "Lockin complete")
    return db.run(
        "UPDATE channel SET funding_txid = splice_txid, funding_outnum = splice_outnum, scid = ?2, "
        "capacity_sat = capacity_sat + splice_sat, opener_msat = opener_msat + ?3, "
        "opener_min_msat = min(opener_min_msat, opener_msat + ?3), "
        "opener_max_msat = max(opener_max_msat, opener_msat + ?3), "
        "splice_txid = NULL, splice_outnum = NULL, splicer = NULL, splice_sat = NULL WHERE channel_id = ?1",
        row["channel_id"],
        f"{row['height']}x{row['position']}x{row['splice_outnum']}",
        msat,
    )


def drain(db: Database, row: Row, node: str) -> int:
    """Moves all that `node` can spend in the channel to its peer, so that only the reserve is left; how many msat."""
    spent = side(db, row, node).spendable
    with db.transaction():
        db.run(
            "UPDATE channel SET opener_msat = opener_msat + ? WHERE channel_id = ?",
            -spent if row["opener"] == node else spent,
            row["channel_id"],
        )
    return spent


def find(db: Database, node: str, wanted: str) -> Row | None:
    """The node's channel with this channel id, short channel id, alias or peer id."""
    peer = nodes.by_id(db, wanted)
    rows = db.all(
        "SELECT * FROM channel WHERE ?1 IN (opener, acceptor) AND (channel_id = ?2 OR scid = ?2 "
        "OR (opener = ?1 AND (acceptor = ?3 OR opener_alias = ?2)) "
        "OR (acceptor = ?1 AND (opener = ?3 OR acceptor_alias = ?2)))",
        node,
        wanted,
        None if peer is None else peer.name,
    )
    live = [row for row in rows if row["state"] in OPEN]
    if peer is not None and len(live) > 1:
        raise RpcFailure(-1, "Peer has multiple channels: use channel_id or short_channel_id")
    found = live or rows
    return found[0] if found else None


def close(db: Database, row: Row, closer: str, *, mutual: bool, script: str | None = None) -> str:
    """Closes the channel, together or alone; the closing transaction's id.

    `script` is where the closer's share is to go if they close it together; else it goes into its wallet.
    """
    with db.transaction():
        opener_sat = row["opener_msat"] // 1000
        acceptor_sat = (row["capacity_sat"] * 1000 - row["opener_msat"]) // 1000
        fee = CLOSE_FEE_SAT if mutual else commitment_fee_sat(0) + _ANCHORS_SAT
        shares = [(row["opener"], max(opener_sat - fee, 0)), (row["acceptor"], acceptor_sat)]
        delays = {} if mutual else {closer: db.height + 1 + TO_SELF_DELAY}
        scripts = {closer: script} if mutual and script is not None else {}
        funding = (row["funding_txid"], row["funding_outnum"])
        txid = chain.settle(db, funding, shares, delays=delays, scripts=scripts)
        db.run("UPDATE channel SET closer = ?, close_txid = ? WHERE channel_id = ?", closer, txid, row["channel_id"])
        message = "User or plugin invoked close command" if mutual else "Forcibly closed by `close` command timeout"
        _change(db, row, "CLOSINGD_COMPLETE" if mutual else "AWAITING_UNILATERAL", closer, message)
        return txid
