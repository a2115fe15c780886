"""One rent proof of an account of 100,000 shares of 4 MiB: seconds and memory at the node, and at its client.

    uv run python -m bench.big_account [--shares 100000] [--json]

The shares are sparse files of the right size in a temporary directory (their bytes do not matter to the time), in the
operating system's cache as far as they are read; leases with 24 tokens each and the client's catalog are real.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import trio
from blake3 import blake3

from lnstore.books import SqlBooks
from lnstore.client.catalog import Catalog, ShareEntry
from lnstore.client.proof import compute_proof
from lnstore.clock import SystemClock
from lnstore.config import NodeConfig
from lnstore.node.context import NodeContext
from lnstore.node.directory import init_node, load_identity
from lnstore.node.limits import Deadlines
from lnstore.node.proof import prove
from lnstore.ports import Lightning
from lnstore.storage.files import FileShares
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, LightningId, Msat, NodeId, ShareId
from lnstore_protocol.messages import MAX_SHARE_BYTES, TOKENS_PER_SHARE
from lnstore_protocol.proofs import audit_key, audit_nonce, select_sample, token_key
from lnstore_protocol.terms import Agreement, ChannelPolicy, Terms

TOKENS = bytes(16 * TOKENS_PER_SHARE)
SECRET = b"s" * 32
REPEATS = 5
"""Of the proof: the best is told, as the least disturbed, and the first, which begins with cold caches of its own."""


def peak_mib() -> float:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds how long the block took, if it was less than before."""
    began = time.perf_counter()
    yield
    took = time.perf_counter() - began
    seconds.setdefault(f"{name}, first", took)
    seconds[f"{name}, best"] = min(took, seconds.get(f"{name}, best", took))


def _sparse(directory: Path, ids: list[ShareId]) -> None:
    """Files of the size that a share and its leaf hashes have."""
    size = MAX_SHARE_BYTES + MAX_SHARE_BYTES // (16 * 1024) * 32
    for share_id in ids:
        name = share_id.hex()
        folder = directory / name[:2] / name[2]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(size)


async def measure(directory: Path, count: int) -> dict[str, Any]:
    """Make the account, prove it, and check the proof as its client does."""
    ids = sorted(ShareId(blake3(b"big %d" % number).digest()) for number in range(count))
    init_node(directory / "node")
    shares = FileShares(directory / "node" / "shares")
    _sparse(directory / "node" / "shares", ids)
    client = Identity(b"c" * 32)
    account_id = AccountId(client.public_key)
    seconds: dict[str, float] = {}
    async with SqlBooks.open(directory / "node" / "books.db") as books:
        node = NodeContext(
            NodeConfig.load(directory / "node"),
            identity=load_identity(directory / "node"),
            lightning=cast("Lightning", None),  # nothing here asks it
            shares=shares,
            books=books,
            clock=SystemClock(),
            deadlines=Deadlines(),
        )
        await books.open_account(_agreement(client, node), node.clock.now())
        await trio.to_thread.run_sync(_lease, directory / "node" / "books.db", account_id, ids)
        node_id = node.node_id
        before = peak_mib()
        samples = []
        for t in range(REPEATS):
            nonce = audit_nonce(audit_key(SECRET), node_id, t)
            with timed(seconds, "node: the whole proof"):
                with timed(seconds, "node: the ids of all leases"):
                    leased = await books.leased_ids(account_id)
                samples.append((nonce, await prove(node, account_id, leased, nonce, t)))
        after_node = peak_mib()
    with Catalog.open(directory / "catalog.db") as catalog:
        _catalog(catalog, node_id, ids)
        middle = peak_mib()
        for t, (nonce, proof) in enumerate(samples):
            with timed(seconds, "client: what the sample must hold"):
                used_up = catalog.used_up_at(node_id, t)
                joined = catalog.share_ids_at(node_id)
                ours = {joined[at : at + 32] for at in range(0, len(joined), 32)}
                expected = tuple(select_sample(nonce, ours))
            with timed(seconds, "client: the check of the proof"):
                result = compute_proof(
                    nonce=nonce,
                    node_id=node_id,
                    token_index=t,
                    token_key=token_key(SECRET),
                    expected=expected,
                    ours=ours,
                    given_up=frozenset(),
                    sample=proof.sample,
                    lost=proof.lost,
                    petname="node",
                )
            if used_up or result is None or result.sampled != min(512, count):
                raise SystemExit("the sample is not the one that was to be")
        after_client = peak_mib()
    return {
        "shares": count,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "node_mib_more": round(after_node - before, 1),
        "client_mib_more": round(after_client - middle, 1),
    }


def _lease(database: Path, account_id: AccountId, ids: list[ShareId]) -> None:
    """Capacity, and a lease on every share, straight into the books: putting them is not what is measured."""
    total = len(ids) * MAX_SHARE_BYTES
    with closing(sqlite3.connect(database)) as db, db:
        ((account,),) = db.execute("SELECT account FROM accounts WHERE account_id = ?", (bytes(account_id),)).fetchall()
        db.execute(
            "UPDATE accounts SET capacity_bytes = ?, used_bytes = ?, shares = ? WHERE account = ?",
            (total, total, len(ids), account),
        )
        db.executemany(
            "INSERT INTO leases (account, share_id, size_bytes, token_start, tokens) VALUES (?, ?, ?, 0, ?)",
            ((account, bytes(share_id), MAX_SHARE_BYTES, TOKENS) for share_id in ids),
        )


def _agreement(client: Identity, node: NodeContext) -> Agreement:
    """What the account is opened with."""
    terms = Terms(
        node_id=node.node_id,
        lightning_id=LightningId(b"\x02" * 33),
        network="regtest",
        price_msat_per_gib_month=Msat(2000),
        egress_msat_per_gib=Msat(1000),
        ingress_msat_per_gib=Msat(0),
        period_seconds=30 * 86_400,
        grace_seconds=7 * 86_400,
        minimum_capacity_bytes=0,
        maximum_capacity_bytes=1 << 50,
        channel_policy=ChannelPolicy.ANY,
        minimum_channel_sat=0,
        valid_from_at=0,
        valid_until_at=1 << 40,
        price_periods=12,
    )
    return Agreement.propose(terms.sign(node.identity), client, node.clock.now()).countersign(node.identity)


def _catalog(catalog: Catalog, node_id: NodeId, ids: list[ShareId]) -> None:
    file = catalog.begin_file(name="big", file_key=bytes(32), needed=1, total=1, happy=1, source=None, now=0)
    catalog.add_shares(
        ShareEntry(
            node_id=node_id,
            share_id=share_id,
            file_id=file.file_id,
            segment=number,
            number=0,
            size_bytes=MAX_SHARE_BYTES,
            token_end=TOKENS_PER_SHARE,
        )
        for number, share_id in enumerate(ids)
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="One rent proof of a large account.")
    parser.add_argument("--shares", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lnstore-big-") as directory:
        result = trio.run(measure, Path(directory), given.shares)
    if given.json:
        print(json.dumps(result))
        return
    print(f"{result['shares']:,} shares of 4 MiB")
    for name, value in result["seconds"].items():
        print(f"  {name}: {value:.3f} s")
    print(f"  memory: the node {result['node_mib_more']} MiB more, the client {result['client_mib_more']} MiB more")


if __name__ == "__main__":
    main()
