"""`nodes retire`: everything off a node. A share is stored elsewhere first, then given up there; then the account ends.

The node is marked in the catalog before anything moves, so that nothing new goes there, whatever is killed when. A
share counts at its old node until a new one has acknowledged it (mending.py), so no file ever has fewer healthy shares
than before; what finds no other node stays, and then the account stays too. Of a manifest, which lies at every node, as
many copies are kept as a segment has shares, or more. The same command goes on after an interruption.

A share is read from the node itself; one that it does not give is put together from the others. So a node that is gone
for good can be retired as well: it cannot be told, and its rent, for nothing stored, is paid no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from lnstore.client.accounts import account_status
from lnstore.client.catalog import MANIFEST_SEGMENT, Catalog, FileEntry, NodeEntry, ShareEntry
from lnstore.client.ending import Left, leave
from lnstore.client.holdings import drop_given_up
from lnstore.client.losses import Losses
from lnstore.client.mending import Mender, Repaired, Unreadable, Wanted
from lnstore.client.purse import Purse
from lnstore.client.targets import Targets
from lnstore.client.tasks import each
from lnstore.errors import LnstoreError
from lnstore.sizes import human_bytes
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import AccountState, Buffer

MOVES_AT_ONCE = 4
NO_ACCOUNT = "there is no account"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Retired:
    """What became of a node's shares. `superfluous` copies of manifests are not stored elsewhere, and go with the rest.

    `left` is how the account ended; None: it did not, for the reason given.
    """

    node: NodeEntry
    moves: tuple[Repaired, ...]
    superfluous: int
    left: Left | None
    why_not_left: str

    @property
    def is_over(self) -> bool:
        """Whether there is neither a share nor an account there any more."""
        return not self.stuck and (self.left is not None or self.why_not_left == NO_ACCOUNT)

    @property
    def stuck(self) -> tuple[Repaired, ...]:
        """What found no other node."""
        return tuple(move for move in self.moves if move.to is None)


@dataclass(frozen=True, slots=True)
class Held:
    """A share at the node that retires, with what else there is of its segment: `others` are healthy by the catalog.

    `is_lost`: the node does not hold it any more, as far as is known.
    """

    file: FileEntry
    row: ShareEntry
    others: tuple[ShareEntry, ...]
    holding: frozenset[NodeId]
    is_lost: bool

    @property
    def is_superfluous(self) -> bool:
        """Whether it may simply go where there is no other node for it: a copy of a manifest, with enough others."""
        return self.row.segment == MANIFEST_SEGMENT and len({row.node_id for row in self.others}) >= self.file.total


def mark(catalog: Catalog, node_id: NodeId, *, retiring: bool) -> None:
    """Have nothing new stored at the node, or take that back. Waits for the disk."""
    with catalog.transaction() as db:
        db.execute("UPDATE nodes SET retiring = ? WHERE node_id = ?", (retiring, bytes(node_id)))


def held_at(catalog: Catalog, node_id: NodeId) -> Iterator[Held]:
    """Every share that the catalog has at the node, once each, by file and segment."""
    seen: set[ShareId] = set()
    lost = {(loss.share.node_id, loss.share.share_id) for loss in Losses(catalog).all()}
    for file in catalog.files():
        for _, group in groupby(catalog.shares_of(file.file_id), key=lambda row: row.segment):
            segment = list(group)
            holding = frozenset(row.node_id for row in segment)
            others = tuple(row for row in segment if row.node_id != node_id and (row.node_id, row.share_id) not in lost)
            for row in segment:
                if row.node_id == node_id and row.share_id not in seen:
                    seen.add(row.share_id)
                    yield Held(file, row, others, holding, (node_id, row.share_id) in lost)


async def retire(purse: Purse, node: NodeEntry, targets: Targets, *, progress: Progress | None = None) -> Retired:
    """Move everything off the node and end the account there. The node is marked (`mark`) and no target.

    What cannot be moved is in the result with its reason. LnstoreError only of the catalog and of our own side.
    """
    held = list(held_at(purse.catalog, node.node_id))
    mender = Mender(purse, targets.fit, targets.doubtful)
    await mender.find([one.row.share_id for one in held])
    moves: list[Repaired] = []
    superfluous: list[ShareId] = []

    async def move(segment: list[Held]) -> None:
        holding = set(segment[0].holding)
        for one in segment:
            done = await _move(mender, one, holding)
            if done.to is None and one.is_superfluous:
                superfluous.append(one.row.share_id)
                continue
            moves.append(done)
            if progress is not None:
                progress(f"{sum(move.to is not None for move in moves)} of {len(held)} shares are moved")

    segments = [list(group) for _, group in groupby(held, key=lambda one: (one.file.file_id, one.row.segment))]
    await each(move, segments, at_once=MOVES_AT_ONCE)
    if all(one.to is not None for one in moves):  # a node that has to stay keeps its copies, too
        for share_id in superfluous:
            await purse.write(Losses(purse.catalog).dispensed, share_id, node.node_id)
    left, why = await _leave(purse, node)
    return Retired(node, tuple(moves), len(superfluous), left, why)


async def _move(mender: Mender, one: Held, holding: set[NodeId]) -> Repaired:
    """Store a share elsewhere, from the node itself or put together from the others."""
    file, row, want = one.file, one.row, Wanted.of(one.row)
    data: Buffer | None = None
    if not one.is_lost and not mender.is_avoided(row.node_id):
        data, _ = await mender.read(row)
    if data is None:
        needed = 1 if row.segment == MANIFEST_SEGMENT else file.needed
        try:
            data = (await mender.rebuild(needed, file.total, one.others, [want]))[want.number]
        except Unreadable as exc:
            return Repaired(file, want, None, str(exc), sent=False)
    return await mender.store(file, want, data, holding)


async def _leave(purse: Purse, node: NodeEntry) -> tuple[Left | None, str]:
    """End the account once nothing of ours is there; None and why where that is not so."""
    name = node.petname
    if stay := len({share.share_id for share in purse.catalog.shares_at(node.node_id)}):
        return None, f"{stay} shares are still there; the account stays, and its rent is due"
    try:
        if purse.catalog.node(node.node_id).agreement is None:
            await drop_given_up(purse, node)  # what was stored there on another's account
            await purse.write(lambda: mark(purse.catalog, node.node_id, retiring=False))
            return None, NO_ACCOUNT
        status = await account_status(purse, node)
        if status is not None and status.state is not AccountState.LAPSED:
            await drop_given_up(purse, node)
            status = await account_status(purse, node)
        if status is not None and status.used_bytes:
            return None, (
                f"{human_bytes(status.used_bytes)} are stored there that your catalog does not know, by delegates or "
                "before it was restored; look with lnstore delegate ls, and end the account with: lnstore rent leave "
                f"{name}"
            )
        return await leave(purse, node), ""
    except LnstoreError as exc:
        return None, f"{exc}; nothing is expected there and no rent is paid any more; retire it again once it answers"
