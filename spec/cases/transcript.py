"""01: a whole session, from act 1 to the rent invoice."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from cases.common import (
    ACCOUNT,
    LIGHTNING_ID,
    NODE,
    NODE_ID,
    NOW,
    Case,
    example_terms,
    key,
    material,
)
from lnstore_protocol import codec, merkle, messages, proofs, terms
from lnstore_protocol.connection import Connection, Role
from lnstore_protocol.errors import ErrorCode


def session() -> dict[str, Any]:
    """From act 1 to the rent invoice, each step as plain message and as bytes on the wire."""
    client = Connection(Role.CLIENT, ACCOUNT, remote=NODE_ID, ephemeral_private=key("client ephemeral"))
    node = Connection(Role.NODE, NODE, ephemeral_private=key("node ephemeral"))
    steps: list[Case] = []
    act_1 = client.initiate()
    node.receive_data(act_1)
    node.next_event()
    act_2 = node.data_to_send()
    client.receive_data(act_2)
    client.next_event()
    act_3 = client.data_to_send()
    node.receive_data(act_3)
    node.next_event()
    for name, sender, act in (("act 1", "client", act_1), ("act 2", "node", act_2), ("act 3", "client", act_3)):
        steps.append({"what": name, "from": sender, "wire": act.hex()})

    def exchange(request: Any, reply: Any) -> None:
        request_id, chunks = client.send_request(request)
        wire = b"".join(bytes(chunk) for chunk in chunks)
        node.receive_data(wire)
        node.next_event()
        steps.append(_step("client", request_id, request, wire))
        wire = b"".join(bytes(chunk) for chunk in node.send_reply(request_id, reply))
        client.receive_data(wire)
        client.next_event()
        steps.append(_step("node", request_id, reply, wire))

    signed = example_terms()
    proposed = terms.Agreement.propose(signed, ACCOUNT, NOW + 100)
    agreed = proposed.countersign(NODE)
    secret = blake3(key("account"), derive_key_context="lnstore account secret v1").digest()
    audit, token = proofs.audit_key(secret), proofs.token_key(secret)
    share = material({"seed": "session share", "bytes": 1000})
    share_id = merkle.share_id(share)
    tokens = proofs.make_tokens(share, share_id, audit, token, NODE_ID)
    nonce = proofs.audit_nonce(audit, NODE_ID, 0)
    preimage = proofs.fold(nonce, [(share_id, proofs.answer(nonce, share_id, share))])
    period = signed.terms.period_seconds
    anchor = proposed.anchor_at
    growth = terms.rent_msat(1 << 30, period, 2000)
    exchange(
        messages.Hello(version_major=1, version_minor=0, features=b"", agent="vectors/1"),
        messages.HelloReply(
            version_major=1,
            version_minor=0,
            features=b"",
            network="regtest",
            lightning_id=LIGHTNING_ID,
            lightning_signature="(not a signature: no Lightning node took part)",
            now_at=NOW + 100,
        ),
    )
    exchange(messages.GetTerms(), messages.TermsReply(terms=signed.encoded))
    exchange(messages.OpenAccount(agreement=proposed.encoded), messages.OpenAccountReply(agreement=agreed.encoded))
    exchange(
        messages.AddCapacity(growth_index=0, capacity_bytes=1 << 30),
        messages.AddCapacityReply(
            bolt11="(an invoice)", amount_msat=growth, from_at=anchor, until_at=anchor + period, capacity_bytes=1 << 30
        ),
    )
    exchange(
        messages.PutShare(share_id=share_id, token_start=0, tokens=tokens, payload=share),
        messages.PutShareReply(used_bytes=1000),
    )
    exchange(messages.HaveShares(payload=bytes(share_id) + bytes(32)), messages.HaveSharesReply(held=b"\x80"))
    exchange(
        messages.GetShare(share_id=share_id, offset=0, length=0),
        messages.GetShareReply(offset=0, share_bytes=1000, proof=b"", payload=share),
    )
    exchange(
        messages.GetShare(share_id=share_id, offset=1000, length=1),
        messages.ErrorReply(code=ErrorCode.RANGE_INVALID, message="1 bytes at 1000 do not lie in a share of 1000"),
    )
    exchange(
        messages.RequestInvoice(purpose=messages.InvoicePurpose.RENT, period=1, token_index=0, nonce=nonce),
        messages.InvoiceReply(
            bolt11="(an invoice for the payment hash below)",
            amount_msat=growth,
            from_at=anchor + period,
            until_at=anchor + 2 * period,
            capacity_bytes=1 << 30,
            shares=1,
            sample=bytes(share_id) + tokens[:16],
        ),
    )
    return {
        "keys": {
            "client_seed": key("account").hex(),
            "node_seed": key("node").hex(),
            "client_ephemeral": key("client ephemeral").hex(),
            "node_ephemeral": key("node ephemeral").hex(),
        },
        "rent": {"preimage": preimage.hex(), "payment_hash": proofs.payment_hash(preimage).hex()},
        "steps": steps,
    }


def _step(sender: str, request_id: int, message: Any, wire: bytes) -> Case:
    payload = codec.payload_of(message)
    return {
        "what": type(message).__name__,
        "from": sender,
        "request_id": request_id,
        "head": codec.encode_head(request_id, message).hex(),
        "payload": bytes(payload).hex(),
        "wire": wire.hex(),
    }
