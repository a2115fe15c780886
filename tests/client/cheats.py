"""Ways for a real node to cheat its client: each sets one node up, and says what the client must find.

`fault` is what keeps the rent from being paid; `found` what the audit makes of the node afterwards (None: the audit
finds nothing, for there is nothing lost); `lost` whether shares have to be repaired.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from node_street import House, Street

from lnstore.client.faults import Fault
from lnstore.client.purse import Purse
from lnstore_protocol import merkle, proofs
from lnstore_protocol.ids import AccountId, LightningId, Msat, ShareId
from lnstore_protocol.messages import (
    AuditShare,
    AuditShareReply,
    InvoicePurpose,
    InvoiceReply,
    RequestInvoice,
)
from lnstore_protocol.proofs import SECTOR_BYTES


@dataclass
class Scene:
    """Where a cheat happens. `ids` are the client's shares at the node, `sizes` theirs, `nonce` the next challenge."""

    street: Street
    house: House
    patch: pytest.MonkeyPatch
    purse: Purse

    @property
    def ids(self) -> list[ShareId]:
        return sorted({share.share_id for share in self.purse.catalog.shares_at(self.house.node_id)})

    @property
    def largest(self) -> ShareId:
        return max(self.purse.catalog.shares_at(self.house.node_id), key=lambda share: share.size_bytes).share_id

    def nonce(self, t: int) -> bytes:
        return proofs.audit_nonce(proofs.audit_key(self.purse.account_secret), self.house.node_id, t)

    def data(self, share_id: ShareId) -> bytes:
        """A share's bytes on the node's disk; the hashes of its leaves lie behind them."""
        size = next(s.size_bytes for s in self.purse.catalog.shares_at(self.house.node_id) if s.share_id == share_id)
        return self.house.share_path(share_id).read_bytes()[:size]

    def change(self, share_id: ShareId, change: Callable[[bytearray], None]) -> None:
        """Change a share's bytes on the node's disk."""
        path, data = self.house.share_path(share_id), bytearray(self.data(share_id))
        change(data)
        path.write_bytes(data + path.read_bytes()[len(data) :])

    def rent(self, change: Callable[[Any, InvoiceReply], Awaitable[InvoiceReply]]) -> None:
        """Change the node's answers to requests for rent; `change(request context, true reply)`."""

        async def wrap(true: Any, request: Any, message: RequestInvoice) -> Any:
            reply = await true(request, message)
            return reply if message.purpose is not InvoicePurpose.RENT else await change(request, reply)

        self.street.cheat(self.patch, self.house, RequestInvoice, wrap)

    async def invoice(self, amount_msat: int, preimage: bytes, *, by: LightningId | None = None) -> str:
        """Another invoice, of the node's own daemon or of another one."""
        daemon = self.street.network.daemons[by or self.house.lightning.lightning_id]
        made = await daemon.create_invoice(
            label=preimage.hex(),
            amount_msat=Msat(amount_msat),
            description="",
            expires_in_seconds=9000,
            preimage=preimage,
        )
        return made.bolt11

    async def preimage(self) -> bytes:
        """That of the last invoice the node made."""
        planned = None
        account = AccountId(self.purse.identity.public_key)
        for period in range(9):
            found = await self.house.node.books.planned_invoice(account, InvoicePurpose.RENT, period)
            planned = found or planned
        assert planned is not None
        return planned.preimage


Setup = Callable[[Scene], Awaitable[None]]
CHEATS: list[Any] = []


@dataclass(frozen=True)
class Cheat:
    """One way to cheat, and what is to be found."""

    setup: Setup
    fault: Fault
    found: Fault | None
    lost: bool


def cheat(fault: Fault, found: Fault | None = None, *, lost: bool = False) -> Callable[[Setup], Setup]:
    """Puts the decorated function into the table."""

    def add(setup: Setup) -> Setup:
        CHEATS.append(pytest.param(Cheat(setup, fault, found, lost), id=setup.__name__))
        return setup

    return add


# --- data that is not there -------------------------------------------------------------------------------------------


@cheat(Fault.ADMITS_LOSS, Fault.SHARE_GONE, lost=True)
async def lost_one_share_of_ten(scene: Scene) -> None:
    scene.house.share_path(scene.largest).unlink()


@cheat(Fault.WRONG_ANSWERS, Fault.SHARE_DAMAGED, lost=True)
async def lost_one_sector_in_a_hundred(scene: Scene) -> None:
    """The next challenge looks at one of them: how likely that is, bench/detection.py measures."""
    victim = scene.largest

    def zero(data: bytearray) -> None:
        met = proofs.challenge_positions(scene.nonce(1), victim, len(data))[0]
        for sector in {met, *range(met % 100, len(data) // SECTOR_BYTES, 100)}:
            at = sector * SECTOR_BYTES
            data[at : at + SECTOR_BYTES] = bytes(len(data[at : at + SECTOR_BYTES]))

    scene.change(victim, zero)


@cheat(Fault.WRONG_ANSWERS, Fault.HASHES_ONLY, lost=True)
async def keeps_only_hashes(scene: Scene) -> None:
    """It makes up the answers, and shows Merkle paths without a leaf."""
    victim = scene.largest
    kept, size = merkle.leaf_hashes(scene.data(victim)), len(scene.data(victim))
    scene.change(victim, lambda data: data.__setitem__(slice(None), bytes(len(data))))

    async def paths(true: Any, request: Any, message: AuditShare) -> Any:
        if message.share_id != victim:
            return await true(request, message)
        path = merkle.range_proof(kept, message.leaf, message.leaf)
        return AuditShareReply(share_bytes=size, proof=path, payload=b"")

    scene.street.cheat(scene.patch, scene.house, AuditShare, paths)


@cheat(Fault.WRONG_ANSWERS, Fault.SHARE_DAMAGED, lost=True)
async def answers_with_another_share(scene: Scene) -> None:
    """It keeps one share under two names."""
    victim = scene.largest
    other = next(i for i in scene.ids if i != victim)
    there = scene.data(other)
    scene.change(
        victim, lambda data: data.__setitem__(slice(None), (there * (len(data) // len(there) + 1))[: len(data)])
    )


@cheat(Fault.NOT_LISTED, Fault.SHARE_GONE, lost=True)
async def lists_fewer_shares(scene: Scene) -> None:
    """It forgot a share, and its lease."""
    victim = scene.largest
    await scene.house.node.books.drop_leases(AccountId(scene.purse.identity.public_key), [victim])


@cheat(Fault.LEFT_OUT, Fault.SHARE_GONE, lost=True)
async def leaves_a_lost_share_out(scene: Scene) -> None:
    """It lists the share, and proves all but that one, correctly."""
    victim = scene.largest
    scene.house.share_path(victim).unlink()

    async def silent(_request: Any, reply: InvoiceReply) -> InvoiceReply:
        return replace(reply, lost=b"")

    scene.rent(silent)


# --- data that is there -----------------------------------------------------------------------------------------------


@cheat(Fault.REPLAYED)
async def replays_an_older_proof(scene: Scene) -> None:
    older = await scene.preimage()

    async def replay(_request: Any, reply: InvoiceReply) -> InvoiceReply:
        daemon = scene.house.lightning
        daemon.invoices = {k: i for k, i in daemon.invoices.items() if i.bolt11 != reply.bolt11}
        return replace(reply, bolt11=await scene.invoice(reply.amount_msat, older))

    scene.rent(replay)


@cheat(Fault.WRONG_ANSWERS, Fault.TOKENS_ALTERED)
async def serves_its_token_table_altered(scene: Scene) -> None:
    """It holds every byte, and a client that checked nothing but the sum would call it a liar for the wrong reason."""

    async def altered(_request: Any, reply: InvoiceReply) -> InvoiceReply:
        at = reply.sample.index(scene.largest) + ShareId.SIZE
        token = bytes([reply.sample[at] ^ 1])
        return replace(reply, sample=reply.sample[:at] + token + reply.sample[at + 1 :])

    scene.rent(altered)


@cheat(Fault.OVERCHARGED)
async def overcharges_by_one_msat(scene: Scene) -> None:
    async def dearer(_request: Any, reply: InvoiceReply) -> InvoiceReply:
        daemon = scene.house.lightning
        preimage = await scene.preimage()
        daemon.invoices = {k: i for k, i in daemon.invoices.items() if i.bolt11 != reply.bolt11}
        amount = reply.amount_msat + 1
        return replace(reply, amount_msat=Msat(amount), bolt11=await scene.invoice(amount, preimage))

    scene.rent(dearer)


@cheat(Fault.WRONG_PAYEE)
async def names_another_payee(scene: Scene) -> None:
    async def elsewhere(_request: Any, reply: InvoiceReply) -> InvoiceReply:
        other = next(h.lightning.lightning_id for h in scene.street.houses if h is not scene.house)
        return replace(reply, bolt11=await scene.invoice(reply.amount_msat, await scene.preimage(), by=other))

    scene.rent(elsewhere)
