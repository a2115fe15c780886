"""The simulated block chain: wallets, a mempool, blocks."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from lnstore.lightning.simulated import crypto
from lnstore.lightning.simulated.database import Database, Row
from lnstore.lightning.simulated.failure import RpcFailure

START_HEIGHT = 101
FEERATE_PER_KW = 253
"""What regtest's wallet transactions pay, the minimum that bitcoind relays; the control socket can raise it."""
DUST_SAT = 546
EMERGENCY_SAT = 25_000
"""What lightningd keeps in the wallet, so that it can bump a commitment transaction (min-emergency-msat)."""
_BASE_WEIGHT, INPUT_WEIGHT, OUTPUT_WEIGHT = 42, 272, 172
_SPLICED_WEIGHT, _TAPROOT_INPUT_WEIGHT = 386, 230
"""The input that spends the funding of a channel, which two sign for, and one that spends change."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output of some wallet."""

    txid: str
    outnum: int
    amount_sat: int
    script: str
    address: str


def feerate_per_kw(db: Database) -> int:
    """What transactions pay now, in sat for 1,000 of weight."""
    return db.meta("feerate_per_kw", FEERATE_PER_KW)


def splice_feerate_per_kw(db: Database) -> int:
    """What splices pay: 2 % more."""
    return feerate_per_kw(db) * 102 // 100


def fee_sat(db: Database, inputs: int, outputs: int) -> int:
    """The fee of a wallet transaction."""
    return (_BASE_WEIGHT + INPUT_WEIGHT * inputs + OUTPUT_WEIGHT * outputs) * feerate_per_kw(db) // 1000


def splice_fee_sat(db: Database, inputs: int, outputs: int) -> int:
    """The fee of a splice with so many inputs from a wallet and outputs, the channel's own not counted."""
    weight = _BASE_WEIGHT + _SPLICED_WEIGHT + _TAPROOT_INPUT_WEIGHT * inputs + OUTPUT_WEIGHT * (1 + outputs)
    return weight * splice_feerate_per_kw(db) // 1000


def new_address(db: Database, node: str, version: int) -> str:
    """A fresh address of the node's wallet: segwit version 0 (bech32) or 1 (p2tr)."""
    return _new_script(db, node, version).address


def _new_script(db: Database, node: str, version: int) -> crypto.Script:
    script = crypto.new_script(version)
    with db.transaction():
        db.insert("address", script=script.script, text=script.address, node=node)
    return script


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
    return _broadcast(db, [outside], [(amount_sat, crypto.script_of_address(address))])


@dataclass(frozen=True, slots=True)
class Choice:
    """Coins to spend: which, what they are worth, and the fee with one output and one for the change."""

    coins: list[tuple[str, int]]
    total_sat: int
    fee_sat: int

    def change_sat(self, amount_sat: int) -> int:
        """What comes back when `amount_sat` is spent."""
        return self.total_sat - amount_sat - self.fee_sat


def choose(db: Database, node: str, amount_sat: int | None, *, keep_sat: int) -> tuple[Choice, int]:
    """The coins for `amount_sat` (None: all but `keep_sat` and the fee), and that amount.

    RpcFailure 301 when the wallet cannot afford it, 313 when less than `keep_sat` would be left.
    """
    available = spendable_outputs(db, node)
    total = sum(row["amount_sat"] for row in available)
    if amount_sat is None:
        amount_sat = max(total - fee_sat(db, len(available), 2) - keep_sat, DUST_SAT)
    chosen: list[tuple[str, int]] = []
    gathered = 0
    for row in available:
        chosen.append((row["txid"], row["outnum"]))
        gathered += row["amount_sat"]
        if gathered >= amount_sat + fee_sat(db, len(chosen), 2) + keep_sat:
            break
    if gathered < amount_sat + fee_sat(db, len(chosen), 1):
        raise _cannot_afford(amount_sat, len(available), amount_sat + fee_sat(db, len(available), 1) - gathered)
    choice = Choice(chosen, gathered, fee_sat(db, len(chosen), 2))
    if choice.change_sat(amount_sat) < keep_sat:
        raise RpcFailure(313, f"We would not have enough left for min-emergency-msat {keep_sat}sat")
    return choice, amount_sat


def fund(db: Database, node: str, amount_sat: int | None, script: str) -> tuple[str, str, int]:
    """Spends from the node's wallet to `script` (all it may for None): txid, raw transaction and the amount.

    RpcFailure as `choose`. The payment is output 0.
    """
    choice, amount_sat = choose(db, node, amount_sat, keep_sat=EMERGENCY_SAT)
    outputs = [(amount_sat, script), (choice.change_sat(amount_sat), _new_script(db, node, 1).script)]
    txid = _spend(db, choice.coins, outputs)
    return txid, raw(db, txid), amount_sat


def withdraw(
    db: Database, node: str, amount_sat: int | None, script: str, *, coins: list[tuple[str, int]] | None, keep_sat: int
) -> str:
    """Spends from the node's wallet (from `coins` alone, if given) to `script`; the transaction's id.

    With None for the amount all of it, but that the wallet keeps `keep_sat`. RpcFailure 301, 313.
    """
    available = {(row["txid"], row["outnum"]): row["amount_sat"] for row in spendable_outputs(db, node)}
    if coins is None and amount_sat is not None:
        choice, _ = choose(db, node, amount_sat, keep_sat=keep_sat)
        change = choice.change_sat(amount_sat)
        outputs = [(amount_sat, script), *([(change, _new_script(db, node, 1).script)] if change >= DUST_SAT else [])]
        return _spend(db, choice.coins, outputs)
    chosen = list(available) if coins is None else [coin for coin in coins if coin in available]
    gathered, elsewhere = sum(available[coin] for coin in chosen), sum(available.values())
    left = max(keep_sat - (elsewhere - gathered), 0)
    fee = fee_sat(db, len(chosen), 2 if left or amount_sat is not None else 1)
    sent = gathered - left - fee if amount_sat is None else amount_sat
    if not chosen or sent + fee > gathered:
        if left and chosen:
            raise RpcFailure(313, f"We would not have enough left for min-emergency-msat {keep_sat}sat")
        wanted = "all" if amount_sat is None else f"{amount_sat}sat"
        short = "all" if amount_sat is None else f"{sent + fee - gathered}sat"
        raise RpcFailure(301, f"Could not afford {wanted} using all {len(chosen)} available UTXOs: {short} short")
    change = gathered - sent - fee
    if sent < DUST_SAT or change < left:
        raise RpcFailure(313, f"We would not have enough left for min-emergency-msat {keep_sat}sat")
    outputs = [(sent, script), *([(change, _new_script(db, node, 1).script)] if change >= DUST_SAT else [])]
    return _spend(db, chosen, outputs)


def splice(db: Database, node: str, funding: tuple[str, int], *, amount_sat: int, total_sat: int, script: str) -> str:
    """A new funding output of `total_sat` for a channel, to which `node` adds `amount_sat`, or from which it takes.

    Its id; the new funding is output 0. RpcFailure 301 when the wallet cannot afford what is added: unlike `fund`, this
    leaves nothing in the wallet for emergencies.
    """
    if amount_sat < 0:
        return _spend(db, [funding], [(total_sat, script), (-amount_sat, _new_script(db, node, 1).script)])
    available = spendable_outputs(db, node)
    chosen: list[tuple[str, int]] = []
    gathered = 0
    for row in available:
        chosen.append((row["txid"], row["outnum"]))
        gathered += row["amount_sat"]
        if gathered >= amount_sat + splice_fee_sat(db, len(chosen), 1):
            break
    change = gathered - amount_sat - splice_fee_sat(db, len(chosen), 1)
    if change < 0:
        fee = splice_fee_sat(db, 1, 1)
        raise _cannot_afford(amount_sat + fee, len(available), amount_sat + fee - gathered)
    return _spend(db, [funding, *chosen], [(total_sat, script), (change, _new_script(db, node, 1).script)])


def _spend(db: Database, coins: list[tuple[str, int]], outputs: list[tuple[int, str]]) -> str:
    txid = _broadcast(db, coins, outputs)
    for spent_txid, outnum in coins:
        db.run("UPDATE output SET spent_by = ? WHERE txid = ? AND outnum = ?", txid, spent_txid, outnum)
    return txid


def _cannot_afford(amount_sat: int, utxos: int, short_sat: int) -> RpcFailure:
    return RpcFailure(301, f"Could not afford {amount_sat}sat using all {utxos} available UTXOs: {short_sat}sat short")


def settle(
    db: Database,
    spent: tuple[str, int],
    shares: list[tuple[str, int]],
    *,
    delays: dict[str, int] | None = None,
    scripts: dict[str, str] | None = None,
) -> str:
    """The transaction that closes a channel: its funding output to (node, sat) pairs; dust goes to the miner.

    `scripts` is where a node's share is to go, if not into its wallet.
    """
    elsewhere = scripts or {}
    outputs = [(sat, elsewhere.get(node) or _new_script(db, node, 1).script) for node, sat in shares if sat >= DUST_SAT]
    return _broadcast(db, [spent], outputs, mature=delays)


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
