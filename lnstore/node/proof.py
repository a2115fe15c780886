"""The node's half of proof-locked rent: sample, sectors, tokens, preimage (see lnstore_protocol.proofs)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from lnstore.node.context import NodeContext
from lnstore.ports import Lease, Shares
from lnstore_protocol.ids import AccountId, ShareId
from lnstore_protocol.messages import TOKEN_BYTES
from lnstore_protocol.proofs import answer_from_sectors, challenge_positions, fold, select_sample

NO_TOKEN = bytes(TOKEN_BYTES)
"""Stands for a token that the client did not leave here (its tokens are used up): it is its own to judge."""


@dataclass(frozen=True, slots=True)
class RentProof:
    """What a rent invoice is made of; `sample` and `lost` as in messages.InvoiceReply."""

    shares: int
    sample: bytes = field(repr=False)
    lost: bytes = field(repr=False)
    preimage: bytes = field(repr=False)


# P-W8, P-W9
async def prove(node: NodeContext, account_id: AccountId, ids: bytes, nonce: bytes, token_index: int) -> RentProof:
    """The proof for the account's leased shares `ids` (32 bytes each) under `nonce`.

    Shares whose file is missing or of another size are lost: named as such and left out of the sample.
    """
    sample = await trio.to_thread.run_sync(_sample, nonce, ids, limiter=node.workers.proofs)
    leases = await node.books.lease_tokens(account_id, sample)
    held = [leases[share_id] for share_id in sample if share_id in leases]
    answers = await trio.to_thread.run_sync(_answers, node.shares, nonce, held, limiter=node.workers.proofs)
    return RentProof(
        shares=len(ids) // ShareId.SIZE,
        sample=b"".join(
            lease.share_id + _token(lease, token_index) for lease, answer in zip(held, answers, strict=True) if answer
        ),
        lost=b"".join(lease.share_id for lease, answer in zip(held, answers, strict=True) if not answer),
        preimage=fold(nonce, [(lease.share_id, answer) for lease, answer in zip(held, answers, strict=True) if answer]),
    )


def _sample(nonce: bytes, ids: bytes) -> list[ShareId]:  # MA-W6, P-W7
    return select_sample(nonce, (ids[at : at + ShareId.SIZE] for at in range(0, len(ids), ShareId.SIZE)))


def _answers(shares: Shares, nonce: bytes, leases: Sequence[Lease]) -> list[bytes]:
    """The answer of each share; empty for a lost one."""
    answers = []
    for lease in leases:
        positions = challenge_positions(nonce, lease.share_id, lease.size_bytes)
        try:
            whole = shares.size(lease.share_id) == lease.size_bytes
            sectors = shares.sectors(lease.share_id, positions) if whole else b""
        except (KeyError, OSError, ValueError):  # gone, unreadable, or cut short between the two looks
            sectors = b""
        answers.append(answer_from_sectors(nonce, lease.share_id, sectors) if sectors else b"")
    return answers


def _token(lease: Lease, token_index: int) -> bytes:  # P-W10
    at = (token_index - lease.token_start) * TOKEN_BYTES
    token = lease.tokens[at : at + TOKEN_BYTES] if at >= 0 else b""
    return token if len(token) == TOKEN_BYTES else NO_TOKEN
