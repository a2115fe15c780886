"""Where an account's storage tokens begin: at the next proof that its client will ask for."""

from __future__ import annotations

from lnstore.client.agreements import agreement_at
from lnstore.client.catalog import Catalog, NodeEntry
from lnstore.client.wallet import Wallet


def next_index(catalog: Catalog, node: NodeEntry, *, said: int) -> int:  # P-W3, MB-W5
    """The index of the next proof by our own books; what the node `said` where they know of no account.

    Nonces that were revealed in vain, or may have been before a recovery, are passed over without the node's knowledge:
    it counts from a lower index on, and tokens from there would be of no use, or all be used up.
    """
    agreement = agreement_at(node)
    if agreement is None:
        return said
    return Wallet(catalog).standing(node.node_id, anchor_at=agreement.anchor_at).latest_proof
