"""The simulated block chain: wallets, a mempool, blocks."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from lnstore.lightning.simulated import crypto
from lnstore.lightning.simulated.database import Database, Row
from lnstore.lightning.simulated.failure import RpcFailure

START_HEIGHT = 101
FEERATE_PER_KW = 253
"""What regtest's wallet transactions pay, the minimum that bitcoind relays."""
DUST_SAT = 546
EMERGENCY_SAT = 25_000
"""What lightningd keeps in the wallet, so that it can bump a commitment transaction (min-emergency-msat)."""
_BASE_WEIGHT, _INPUT_WEIGHT, _OUTPUT_WEIGHT = 42, 272, 172


@dataclass(frozen=True, slots=True)
class Output:
    """An output of some wallet."""

    txid: str
    outnum: int
    amount_sat: int
    script: str
    address: str


def fee_sat(inputs: int, outputs: int) -> int:
    """The fee of a wallet transaction."""
    return (_BASE_WEIGHT + _INPUT_WEIGHT * inputs + _OUTPUT_WEIGHT * outputs) * FEERATE_PER_KW // 1000


def new_address(db: Database, node: str, version: int) -> str:
    """A fresh address of the node's wallet: segwit version 0 (bech32) or 1 (p2tr)."""
    return _new_script(db, node, version).address


def _new_script(db: Database, node: str, version: int) -> crypto.Script:
    script = crypto.new_script(version)
    with db.transaction():
        db.insert("address", script=script.script, text=script.address, node=node)
    return script


def script_of(db: Database, address: str) -> str:
    """The script behind an address some wallet gave out; KeyError for any other."""
    row = db.one("SELECT script FROM address WHERE text = ?", address)
    if row is None:
        raise KeyError(f"{address} is no address of a simulated wallet")
    return str(row["script"])


def spendable_outputs(db: Database, node: str) -> list[Row]:
    """The wallet's confirmed, mature, unspent outputs, the largest first."""
    return db.all(
        "SELECT output.* FROM output JOIN tx USING (txid) WHERE node = ? AND spent_by IS NULL "
        "AND tx.height IS NOT NULL AND mature_after <= ? ORDER BY amount_sat DESC, output.rowid",
        node,
        db.height,
    )


def wallet_outputs(db: Database, node: str) -> list[Row]:
    """All outputs the wallet ever had, each with the heights of its transaction and of the one that spent it."""
    return db.all(
        "SELECT output.*, tx.height, spender.height AS spent_height FROM output JOIN tx USING (txid) "
        "LEFT JOIN tx AS spender ON spender.txid = spent_by WHERE node = ? ORDER BY output.rowid",
        node,
    )


def deposit(db: Database, address: str, amount_sat: int) -> str:
    """Puts a transaction from outside that pays `address` into the mempool; its id."""
    outside = (secrets.token_hex(32), 0)
    return _broadcast(db, [outside], [(amount_sat, script_of(db, address))])


def fund(db: Database, node: str, amount_sat: int | None, script: str) -> tuple[str, str, int]:
    """Spends from the node's wallet to `script` (all it may for None): txid, raw transaction and the amount.

    RpcFailure 301 when the wallet cannot afford it, 313 when too little would be left. The payment is output 0.
    """
    available = spendable_outputs(db, node)
    total = sum(row["amount_sat"] for row in available)
    if amount_sat is None:
        amount_sat = max(total - fee_sat(len(available), 2) - EMERGENCY_SAT, DUST_SAT)
    chosen: list[tuple[str, int]] = []
    gathered = 0
    for row in available:
        chosen.append((row["txid"], row["outnum"]))
        gathered += row["amount_sat"]
        if gathered >= amount_sat + fee_sat(len(chosen), 2) + EMERGENCY_SAT:
            break
    if gathered < amount_sat + fee_sat(len(chosen), 1):
        raise _cannot_afford(amount_sat, len(available), amount_sat + fee_sat(len(available), 1) - gathered)
    change = gathered - amount_sat - fee_sat(len(chosen), 2)
    if change < EMERGENCY_SAT:
        raise RpcFailure(313, f"We would not have enough left for min-emergency-msat {EMERGENCY_SAT}sat")
    outputs = [(amount_sat, script), (change, _new_script(db, node, 1).script)]
    txid = _broadcast(db, chosen, outputs)
    for spent_txid, outnum in chosen:
        db.run("UPDATE output SET spent_by = ? WHERE txid = ? AND outnum = ?", txid, spent_txid, outnum)
    return txid, raw(db, txid), amount_sat


def _cannot_afford(amount_sat: int, utxos: int, short_sat: int) -> RpcFailure:
    return RpcFailure(301, f"Could not afford {amount_sat}sat using all {utxos} available UTXOs: {short_sat}sat short")


def settle(
    db: Database, spent: tuple[str, int], shares: list[tuple[str, int]], *, delays: dict[str, int] | None = None
) -> str:
    """The transaction that closes a channel: its funding output to (node, sat) pairs; dust goes to the miner."""
    outputs = [(sat, _new_script(db, node, 1).script, node) for node, sat in shares if sat >= DUST_SAT]
    return _broadcast(
        db,
        [spent],
        [(sat, script) for sat, script, _ in outputs],
        mature=delays,
    )


def _broadcast(
    db: Database,
    inputs: list[tuple[str, int]],
    outputs: list[tuple[int, str]],
    mature: dict[str, int] | None = None,
) -> str:
    tx = crypto.transaction(inputs, outputs, db.height)
    db.insert("tx", txid=tx.txid, raw=tx.raw)
    for outnum, (amount_sat, script) in enumerate(outputs):
        owner = db.one("SELECT node, text FROM address WHERE script = ?", script)
        if owner is not None:
            db.insert(
                "output",
                txid=tx.txid,
                outnum=outnum,
                node=owner["node"],
                amount_sat=amount_sat,
                script=script,
                address=owner["text"],
                mature_after=(mature or {}).get(owner["node"], 0),
            )
    return tx.txid


def raw(db: Database, txid: str) -> str:
    """The serialised transaction, hex."""
    row = db.one("SELECT raw FROM tx WHERE txid = ?", txid)
    return "" if row is None else str(row["raw"])


def mempool_size(db: Database) -> int:
    """How many transactions wait for a block."""
    return int(db.all("SELECT count(*) AS n FROM tx WHERE height IS NULL")[0]["n"])


def mine(db: Database, blocks: int) -> int:
    """Mines blocks, the first with all that waits; the new height."""
    with db.transaction():
        height = db.height + 1
        waiting = db.all("SELECT txid FROM tx WHERE height IS NULL ORDER BY rowid")
        for position, row in enumerate(waiting, start=1):  # position 0 is the coinbase
            db.run("UPDATE tx SET height = ?, position = ? WHERE txid = ?", height, position, row["txid"])
        db.set_meta("height", height + blocks - 1)
        return height + blocks - 1
