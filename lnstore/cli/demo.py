"""The demo's steps: it orchestrates what the other commands do, on a development network, and notes what happened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import trio

from lnstore.cli.output import human_time
from lnstore.cli.progress import transfer_bar
from lnstore.cli.session import open_session
from lnstore.client.accounts import fetch_terms
from lnstore.client.buying import buy
from lnstore.client.node_channels import open_channel
from lnstore.client.nodes import add_node
from lnstore.client.profile import init_profile
from lnstore.client.quote import capacity_for
from lnstore.client.rent import RentPaid, pay_rent
from lnstore.devnet import Devnet, LightningKind, devnet
from lnstore.errors import ExitCode, LnstoreError
from lnstore.node import node_balances
from lnstore.ports import Outcome
from lnstore.sizes import human_bytes
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.messages import InvoicePurpose
from lnstore_protocol.terms import GIB, MONTH_SECONDS, traffic_msat

if TYPE_CHECKING:
    from lnstore.client.catalog import NodeEntry
    from lnstore.client.purse import Purse
    from lnstore.client.wallet_entries import PaymentEntry

LIGHTNING, FEES = "lightning", "fees"
"""The ledger accounts for what a Lightning daemon holds, and for routing fees."""

NODE_SETTINGS = {"capacity": "1000TiB", "log_level": "warning"}

STREAM_CAPACITY_BYTES = 256 * GIB
"""What is rented at each node for standard input, whose length nobody knows."""

BEFORE_DUE_SECONDS = 3600
"""Rent is paid this long before its period begins."""

DEPOSIT_MARGIN_MSAT = 1_000
"""On top of what reading the file once costs: each step of traffic is rounded up to a whole msat."""


class DemoFailedError(LnstoreError):
    """The file that came back differs, or the books do not add up."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What was asked for. `source` None: standard input."""

    source: Path | None
    stdin: BinaryIO
    nodes: int
    needed: int
    happy: int
    periods: int
    kind: LightningKind

    @property
    def label(self) -> str:
        """What the file is called."""
        return "standard input" if self.source is None else self.source.name

    @property
    def capacity_bytes(self) -> int:
        """What is rented at each node."""
        if self.source is None:
            return STREAM_CAPACITY_BYTES
        return capacity_for(self.source.stat().st_size, self.needed, self.nodes)


@dataclass(frozen=True, slots=True)
class NodeTale:
    """What happened at one node. Channel balances are the client's side; `books` are the node's own ledger."""

    name: str
    shares: int
    share_bytes: int
    capacity_msat: int
    deposit_msat: int
    rents: tuple[RentPaid, ...]
    channel_before_msat: int
    channel_after_msat: int
    books: Mapping[str, Msat]
    killed: bool


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What happened in all. Ledgers are balances by ledger account: debits less credits."""

    bytes: int
    sha256_in: str
    sha256_out: str
    nodes: tuple[NodeTale, ...]
    client_books: Mapping[str, Msat]
    upload_mb_per_s: float
    download_mb_per_s: float

    @property
    def equal(self) -> bool:
        """Whether what was read back is what was stored."""
        return self.sha256_in == self.sha256_out

    @property
    def ledger_sum_msat(self) -> int:
        """What left the client's daemon, less fees, and what by the nodes' books reached theirs, together: 0."""
        client = self.client_books.get(LIGHTNING, 0) + self.client_books.get(FEES, 0)
        return client + sum(node.books.get(LIGHTNING, 0) for node in self.nodes)

    @property
    def books_add_up(self) -> bool:
        """Whether each ledger sums to 0, all of them agree, and the channels moved by exactly what was paid."""
        moved = sum(node.channel_after_msat - node.channel_before_msat for node in self.nodes)
        return (
            self.ledger_sum_msat == 0
            and not any(sum(books.values()) for books in (self.client_books, *(node.books for node in self.nodes)))
            and moved == self.client_books.get(LIGHTNING, 0)
        )

    @property
    def ok(self) -> bool:
        """Whether the demo's exit code is 0."""
        return self.equal and self.books_add_up

    @property
    def rents(self) -> list[RentPaid]:
        """Every rent payment."""
        return [paid for node in self.nodes for paid in node.rents]

    def fault(self) -> str:
        """What is wrong, for when it is."""
        if not self.equal:
            return f"the file that came back differs: SHA-256 {self.sha256_in} went in, {self.sha256_out} came out"
        return f"the ledgers do not add up: {self.ledger_sum_msat} msat are missing or too many"

    def summary(self) -> dict[str, Any]:
        """The object that --json prints."""
        return {
            "ok": self.ok,
            "bytes": self.bytes,
            "sha256_in": self.sha256_in,
            "sha256_out": self.sha256_out,
            "nodes": len(self.nodes),
            "killed": sum(node.killed for node in self.nodes),
            "periods_paid": min((len(node.rents) for node in self.nodes), default=0),
            "rent_paid_msat": sum(paid.amount_msat for paid in self.rents),
            "proofs_verified": sum(paid.verified for paid in self.rents),
            "ledger_sum_msat": self.ledger_sum_msat,
            "upload_mb_per_s": self.upload_mb_per_s,
            "download_mb_per_s": self.download_mb_per_s,
        }


async def run_demo(plan: DemoPlan, place: Path, *, quiet: bool) -> DemoResult:
    """Do the whole job in the directory `place`; LnstoreError when a step fails."""

    def say(text: str) -> None:
        if not quiet:
            click.echo(text)

    say(f"Starting a {plan.kind.value} Lightning network and {plan.nodes} storage nodes; the money is play money.")
    async with devnet(place, nodes=plan.nodes, kind=plan.kind, settings=NODE_SETTINGS) as net:
        profile = init_profile(
            place / "profile",
            lightning_rpc=str(net.client_rpc),
            clock_file=str(net.clock_file),
            needed=plan.needed,
            total=plan.nodes,
            happy=plan.happy,
        )
        async with open_session(profile) as (purse, client):
            nodes = [await add_node(purse, node.running_address, node.name) for node in net.nodes]
            say(f"Opening a channel and an account at each node, renting {human_bytes(plan.capacity_bytes)} there.")
            before = await _open_and_rent(purse, nodes, plan)
            say(f"Storing {plan.label}: encrypted, any {plan.needed} of {plan.nodes} shares give it back.")
            counted = _Hashing(plan.stdin)
            with transfer_bar("storing", quiet=quiet) as progress:
                stored = await client.put(
                    plan.source if plan.source is not None else counted, name=plan.label, progress=progress
                )
            sha256_in = counted.hexdigest() if plan.source is None else await sha256_of(plan.source)
            rents = await _let_periods_pass(purse, net, plan.periods, say)
            killed = net.nodes[: plan.nodes - plan.needed]
            for node in killed:
                node.kill()
            say(
                f"Killed {', '.join(node.name for node in killed) or 'no node: all are needed'}; reading the file back."
            )
            copy = place / "copy"
            with transfer_bar("reading", quiet=quiet) as progress:
                read = await client.get(stored.cap, copy, progress=progress)
            sha256_out = await sha256_of(copy)
            after = {node.node_id: await _to_us_msat(purse, node) for node in nodes}
            payments, balances = purse.wallet.payments(), purse.wallet.balances()
        await net.stop_nodes()
        tales = tuple(
            [
                NodeTale(
                    name=node.name,
                    shares=stored.nodes[entry.node_id].shares,
                    share_bytes=stored.nodes[entry.node_id].share_bytes,
                    capacity_msat=_paid(payments, entry, InvoicePurpose.CAPACITY),
                    deposit_msat=_paid(payments, entry, InvoicePurpose.DEPOSIT),
                    rents=tuple(paid for paid in rents if paid.node_id == entry.node_id),
                    channel_before_msat=before[entry.node_id],
                    channel_after_msat=after[entry.node_id],
                    books=await node_balances(node.directory),
                    killed=node in killed,
                )
                for node, entry in zip(net.nodes, nodes, strict=True)
            ]
        )
    return DemoResult(
        bytes=stored.bytes,
        sha256_in=sha256_in,
        sha256_out=sha256_out,
        nodes=tales,
        client_books=balances,
        upload_mb_per_s=_rate(stored.bytes, stored.seconds),
        download_mb_per_s=_rate(read.bytes, read.seconds),
    )


async def _open_and_rent(purse: Purse, nodes: Sequence[NodeEntry], plan: DemoPlan) -> dict[NodeId, int]:
    """A channel, an account, capacity and a deposit at each node; what was ours in each channel before any of it."""
    before: dict[NodeId, int] = {}
    for node in nodes:
        await open_channel(purse, node, capacity_bytes=plan.capacity_bytes)
        before[node.node_id] = await _to_us_msat(purse, node)
        terms = (await fetch_terms(purse, node)).terms
        deposit = traffic_msat(plan.capacity_bytes, terms.egress_msat_per_gib) + DEPOSIT_MARGIN_MSAT
        await buy(purse, node, plan.capacity_bytes, deposit_msat=deposit)
    return before


async def _let_periods_pass(purse: Purse, net: Devnet, periods: int, say: Callable[[str], None]) -> list[RentPaid]:
    """Move the clock from period to period, paying each one's rent shortly before it begins."""
    rents: list[RentPaid] = []
    net.clock.advance(MONTH_SECONDS - BEFORE_DUE_SECONDS)
    for number in range(periods):
        outcomes = await pay_rent(purse, ahead=1)
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
            rents.extend(outcome.paid)
        say(f"{human_time(net.clock.now())}: paid every node month {number + 2}, each against a proof.")
        net.clock.advance(MONTH_SECONDS)
    return rents


async def _to_us_msat(purse: Purse, node: NodeEntry) -> int:
    return sum(channel.to_us_msat for channel in await purse.lightning.channels(node.lightning_id))


def _paid(payments: Sequence[PaymentEntry], node: NodeEntry, purpose: InvoicePurpose) -> int:
    return sum(
        entry.amount_msat
        for entry in payments
        if (entry.node_id, entry.purpose, entry.state) == (node.node_id, purpose, Outcome.SETTLED)
    )


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds / 1e6, 1) if seconds > 0 else 0.0


async def sha256_of(path: Path) -> str:
    """A file's SHA-256 as hex, read in a worker thread; DemoFailedError when the file has gone."""

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    try:
        return await trio.to_thread.run_sync(digest)
    except OSError as exc:
        raise DemoFailedError(f"{path} cannot be read again to compare: {exc.strerror}") from exc


class _Hashing:
    """A stream that hashes what is read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def readinto(self, buffer: memoryview) -> int:
        count: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]  # every buffered binary stream has it
        self._digest.update(buffer[:count])
        return count

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
