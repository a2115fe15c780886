"""Certificates for tests, and delegates that present them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from blake3 import blake3
from node_world import START_AT, Client, RunningNode, World

from lnstore_protocol.delegation import Certificate, Chain, Rights, Serial, encode_chain
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import (
    MAX_DELEGATIONS,
    ListDelegations,
    ListDelegationsReply,
    PresentDelegation,
    PresentDelegationReply,
)
from lnstore_protocol.usages import VerifiedUsage, check_usages, decode_usages

MIB = 1 << 20
LASTS = 5000


def some_bytes(count: int, number: int) -> bytes:
    """The same for the same number."""
    return blake3(bytes([number])).digest(count)


def certificate(issuer: Identity, subject: Identity, **changes: Any) -> Certificate:
    """Some room, some reading, for a while; not to be handed on."""
    values: dict[str, Any] = {
        "account_id": AccountId(issuer.public_key),
        "issuer": AccountId(issuer.public_key),
        "subject": AccountId(subject.public_key),
        "serial": Serial(bytes(16)),
        "nodes": b"",
        "maximum_bytes": 4 * MIB,
        "maximum_read_bytes": 16 * MIB,
        "expires_at": START_AT + LASTS,
        "rights": Rights.READ_WRITE,
        "levels": 0,
    }
    return Certificate(**values | changes)


def chain_of(holder: Identity, delegate: Identity, **changes: Any) -> Chain:
    """One certificate."""
    return (certificate(holder, delegate, **changes).sign(holder),)


def handed_on(chain: Chain, issuer: Identity, subject: Identity, **changes: Any) -> Chain:
    """The chain with one more certificate, of a part."""
    part = {"account_id": chain[0].certificate.account_id, "maximum_bytes": MIB, "maximum_read_bytes": MIB}
    return (*chain, certificate(issuer, subject, **part | changes).sign(issuer))


@asynccontextmanager
async def delegate_of(world: World, node: RunningNode, who: Identity, chain: Chain) -> AsyncIterator[Client]:
    """A client on a connection on which it has presented the chain."""
    async with world.client(node, who) as client:
        await present(client, chain)
        yield client


async def present(client: Client, chain: Chain) -> PresentDelegationReply:  # D-W2
    return await client.ask(PresentDelegation(chain=encode_chain(chain)), PresentDelegationReply)


async def usages(holder: Client) -> list[VerifiedUsage]:
    """All that the node lists of the holder's delegates, in the order of their first presentation."""
    reply = await holder.ask(ListDelegations(limit=MAX_DELEGATIONS), ListDelegationsReply)
    listed = decode_usages(reply.payload, limit=MAX_DELEGATIONS)
    check_usages(listed, holder.account_id)
    return sorted(listed, key=lambda entry: entry.usage.first_seen_at)
