"""`check`: every node that should hold something is looked at, and how the files stand by that."""

from __future__ import annotations

from collections.abc import Callable, Collection

from lnstore.client.caring import cap_in_care, cared_for, survey
from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, NodeEntry
from lnstore.client.diagnosis import Diagnosis
from lnstore.client.download import FileUnreadable
from lnstore.client.health import Checked, health_of, healths
from lnstore.client.looking import Depth, look
from lnstore.client.purse import Purse
from lnstore.client.tasks import each
from lnstore.errors import LnstoreError
from lnstore_protocol.caps import VerifyCap
from lnstore_protocol.ids import NodeId, ShareId

NODES_AT_ONCE = 8


async def check(
    purse: Purse,
    *,
    files: Collection[FileEntry] | None = None,
    depth: Depth = Depth.AUDITED,
    progress: Callable[[str], None] | None = None,
) -> Checked:
    """Look at every node that should hold a share of these files (None: of any), at all nodes at once.

    All known nodes are asked for the shares of a file that is looked after; without its manifest nothing is there.
    """
    asked = purse.catalog.files() if files is None else files
    wanted: dict[NodeId, list[ShareId]] = {}
    for file in asked:
        for share in purse.catalog.shares_of(file.file_id):
            wanted.setdefault(share.node_id, []).append(share.share_id)
    found: dict[NodeId, Diagnosis] = {}
    silent: dict[NodeId, LnstoreError] = {}

    async def ask(node: NodeEntry) -> None:
        if progress is not None:
            progress(_DOING[depth].format(node=node.petname))
        try:
            ids = None if files is None else wanted[node.node_id]
            found[node.node_id] = await look(purse, node, ids, depth)
        except LnstoreError as exc:
            silent[node.node_id] = exc

    nodes = [node for node in purse.catalog.nodes() if node.node_id in wanted]
    await each(ask, nodes, at_once=NODES_AT_ONCE)
    stand = []
    for health in healths(purse, asked, silent):
        if not health.file.verify_only:
            stand.append(health)
            continue
        try:
            seen = await survey(purse, cap_in_care(health.file), depth, progress)
        except FileUnreadable:
            stand.append(health_of(health.file, {MANIFEST_SEGMENT: {}, 0: {}}, shares=health.shares, found=0))
            continue
        silent |= seen.silent
        stand.append(seen.health(health.file))
    nodes = purse.catalog.nodes()
    return Checked(
        depth,
        tuple(stand),
        tuple(found[node.node_id] for node in nodes if node.node_id in found),
        tuple((node, silent[node.node_id]) for node in nodes if node.node_id in silent),
    )


async def check_cap(
    purse: Purse, cap: VerifyCap, depth: Depth, progress: Callable[[str], None] | None = None
) -> Checked:
    """The file of a capability, whosever it is, by what all known nodes show. FileUnreadable."""
    known = cared_for(purse, cap)
    if known is not None and not known.verify_only:
        return await check(purse, files=[known], depth=depth, progress=progress)
    seen = await survey(purse, cap, depth, progress)
    file = cared_for(purse, cap, seen.part)
    assert file is not None  # noqa: S101 - there is a verify part
    nodes = [node for node in purse.catalog.nodes() if node.node_id in seen.silent]
    return Checked(depth, (seen.health(file),), (), tuple((node, seen.silent[node.node_id]) for node in nodes))


_DOING = {
    Depth.ASKED: "asking {node} what it holds",
    Depth.AUDITED: "asking {node} for a piece of every share",
    Depth.READ: "reading every share at {node}",
}
