"""channel_info and list_peers: how to reach this node's Lightning daemon, and other nodes."""

from __future__ import annotations

from lnstore.node.context import RequestContext
from lnstore_protocol.ids import LightningId, NodeAddress
from lnstore_protocol.messages import ChannelInfo, ChannelInfoReply, ListPeers, ListPeersReply

MAX_ADDRESSES = 8
MAX_PEERS = 64


async def channel_info(request: RequestContext, message: ChannelInfo) -> ChannelInfoReply:  # MA-R22
    """Where the node's Lightning daemon answers."""
    node = request.node
    await note_lightning_id(request, message.lightning_id)
    binding = node.binding.require_confirmed()
    info = await node.lightning.info()
    places = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in info.addresses[:MAX_ADDRESSES])
    return ChannelInfoReply(
        lightning_id=binding.lightning_id, addresses=list(places), minimum_sat=node.config.minimum_channel_sat
    )


async def list_peers(request: RequestContext, _message: ListPeers) -> ListPeersReply:  # MB-R31
    """The nodes that the operator recommends."""
    return ListPeersReply(peers=[str(NodeAddress.parse(peer)) for peer in request.node.config.peers[:MAX_PEERS]])


async def note_lightning_id(request: RequestContext, said: LightningId | None) -> None:  # MA-R30
    """Keep for the operator's list what an account's holder, not a delegate, says of its Lightning daemon."""
    if said is not None and request.authority is None:
        await request.node.books.note_lightning_id(request.account_id, said)
