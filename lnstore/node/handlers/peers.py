"""channel_info and list_peers: how to reach this node's Lightning daemon, and other nodes."""

from __future__ import annotations

from lnstore.node.context import RequestContext
from lnstore_protocol.ids import NodeAddress
from lnstore_protocol.messages import ChannelInfo, ChannelInfoReply, ListPeers, ListPeersReply

MAX_ADDRESSES = 8
MAX_PEERS = 64


async def channel_info(request: RequestContext, _message: ChannelInfo) -> ChannelInfoReply:  # MA-R22
    """Where the node's Lightning daemon answers."""
    node = request.node
    binding = node.binding.require_confirmed()
    info = await node.lightning.info()
    places = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in info.addresses[:MAX_ADDRESSES])
    return ChannelInfoReply(
        lightning_id=binding.lightning_id, addresses=list(places), minimum_sat=node.config.minimum_channel_sat
    )


async def list_peers(request: RequestContext, _message: ListPeers) -> ListPeersReply:  # MB-R31
    """The nodes that the operator recommends."""
    return ListPeersReply(peers=[str(NodeAddress.parse(peer)) for peer in request.node.config.peers[:MAX_PEERS]])
