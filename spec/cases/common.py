"""What all vectors are made of: fixed bytes, fixed identities, one set of terms."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from lnstore.lightning.simulated import crypto
from lnstore_protocol import terms
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, LightningId, Msat, NodeId, ShareId
from lnstore_protocol.messages import LEAF_BYTES

LEAF = LEAF_BYTES

Case = dict[str, Any]


def material(spec: Case) -> bytes:
    """The bytes that a {"seed", "bytes", …} value stands for."""
    data = blake3(f"lnstore vector {spec['seed']}".encode()).digest(spec["bytes"])
    first, last = spec.get("slice", (0, len(data)))
    cut = bytearray(data[first:last])
    if "flip" in spec:
        cut[spec["flip"]] ^= 1
    return bytes(cut)


def key(seed: str) -> bytes:
    """32 fixed bytes."""
    return material({"seed": seed, "bytes": 32})


NODE, ACCOUNT, STRANGER = Identity(key("node")), Identity(key("account")), Identity(key("stranger"))
NODE_ID, ACCOUNT_ID = NodeId(NODE.public_key), AccountId(ACCOUNT.public_key)
LIGHTNING_SECRET = key("lightning")
LIGHTNING_ID = LightningId(bytes.fromhex(crypto.public_key(LIGHTNING_SECRET)))
NOW = 1_800_000_000


def example_terms() -> terms.SignedTerms:
    """The terms that all vectors use."""
    return terms.Terms(
        node_id=NODE_ID,
        lightning_id=LIGHTNING_ID,
        network="regtest",
        price_msat_per_gib_month=Msat(2000),
        egress_msat_per_gib=Msat(1000),
        ingress_msat_per_gib=Msat(0),
        period_seconds=terms.MONTH_SECONDS,
        grace_seconds=604_800,
        minimum_capacity_bytes=1 << 20,
        maximum_capacity_bytes=1 << 43,
        channel_policy=terms.ChannelPolicy.PREFERRED,
        minimum_channel_sat=100_000,
        valid_from_at=NOW,
        valid_until_at=NOW + 604_800,
        price_periods=12,
    ).sign(NODE)


def hex_of(ids: list[ShareId]) -> list[str]:
    """Share ids as they stand in the files."""
    return [share_id.hex() for share_id in ids]
