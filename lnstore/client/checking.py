"""`check`: are the shares of a file (of all files) still there? Asked of every node that should hold some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, NodeEntry
from lnstore.client.diagnosis import Diagnosis, diagnose
from lnstore.client.losses import Loss, Losses
from lnstore.client.purse import Purse
from lnstore.errors import LnstoreError
from lnstore_protocol.ids import NodeId


@dataclass(frozen=True, slots=True)
class FileHealth:
    """A file as the last look at its nodes left it. `spare` is how many more shares of its worst segment may go."""

    file: FileEntry
    shares: int
    lost: tuple[Loss, ...]
    unanswered: int
    """Shares at nodes that did not answer: neither there nor lost."""
    spare: int

    @property
    def sound(self) -> bool:
        """Whether nothing is known to be lost."""
        return not self.lost


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, by file and by node; `silent` are nodes that could not be asked, and why."""

    files: tuple[FileHealth, ...]
    nodes: tuple[Diagnosis, ...]
    silent: tuple[tuple[NodeEntry, LnstoreError], ...]


async def check(purse: Purse, *, file_id: int | None = None, progress: Callable[[str], None] | None = None) -> Checked:
    """Audit every node that should hold a share of the file (None: of any file), all that it holds of ours."""
    files = [file for file in purse.catalog.files() if file_id in (None, file.file_id)]
    shares = {file.file_id: purse.catalog.shares_of(file.file_id) for file in files}
    asked = {share.node_id for rows in shares.values() for share in rows}
    found: list[Diagnosis] = []
    silent: list[tuple[NodeEntry, LnstoreError]] = []
    for node in (node for node in purse.catalog.nodes() if node.node_id in asked):
        if progress is not None:
            progress(f"asking {node.petname} for a piece of every share")
        try:
            found.append(await diagnose(purse, node))
        except LnstoreError as exc:
            silent.append((node, exc))
    losses = Losses(purse.catalog)
    away = {node.node_id for node, _ in silent}
    return Checked(
        tuple(_health(purse, file, tuple(losses.all(file.file_id)), away) for file in files),
        tuple(found),
        tuple(silent),
    )


def _health(purse: Purse, file: FileEntry, lost: tuple[Loss, ...], away: set[NodeId]) -> FileHealth:
    rows = purse.catalog.shares_of(file.file_id)
    gone = {(loss.share.node_id, loss.share.share_id) for loss in lost}
    there: dict[int, set[tuple[bytes, int]]] = {row.segment: set() for row in rows}
    for row in rows:
        if (row.node_id, row.share_id) not in gone and row.node_id not in away:
            # The manifest's copies are one share at many nodes, a segment's shares are told apart by their numbers.
            there[row.segment].add((row.node_id if row.segment == MANIFEST_SEGMENT else b"", row.number))
    spare = min(
        (len(left) - (1 if segment == MANIFEST_SEGMENT else file.needed) for segment, left in there.items()),
        default=0,
    )
    return FileHealth(file, len(rows), lost, sum(row.node_id in away for row in rows), spare)
