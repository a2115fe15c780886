"""01: a whole session, from act 1 to rent that is paid and credited."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blake3 import blake3

from cases.common import (
    ACCOUNT,
    LIGHTNING_ID,
    LIGHTNING_SECRET,
    NODE,
    NODE_ID,
    NOW,
    Case,
    example_terms,
    key,
    material,
)
from lnstore.lightning.simulated import bolt11 as bolt11_of
from lnstore.lightning.simulated import crypto
from lnstore_protocol import codec, merkle, messages, proofs, terms
from lnstore_protocol.connection import Connection, Role
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat


def session() -> dict[str, Any]:
    """From act 1 to paid rent, each step as plain message and as bytes on the wire, with a note for the reader."""
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
    notes = (
        "ephemeral key, tag of the empty payload",
        "ephemeral key, tag of the empty payload",
        "sealed static key, sealed Ed25519 public key of the account",
    )
    acts = (("act 1", "client", act_1), ("act 2", "node", act_2), ("act 3", "client", act_3))
    for (name, sender, act), note in zip(acts, notes, strict=True):
        steps.append({"what": name, "from": sender, "note": note, "wire": act.hex()})

    def settle(name: str, bolt11: str, preimage: bytes, note: str) -> None:
        paid = bolt11_of.decode(bolt11)
        steps.append(
            {
                "what": "payment",
                "from": "lightning",
                "note": note,
                "purpose": name,
                "bolt11": bolt11,
                "amount_msat": paid.amount_msat,
                "payment_hash": paid.payment_hash,
                "preimage": preimage.hex(),
            }
        )

    def exchange(request: Any, reply: Any, note: str) -> None:
        request_id, chunks = client.send_request(request)
        wire = b"".join(bytes(chunk) for chunk in chunks)
        node.receive_data(wire)
        node.next_event()
        steps.append(_step("client", request_id, request, wire, note))
        wire = b"".join(bytes(chunk) for chunk in node.send_reply(request_id, reply))
        client.receive_data(wire)
        client.next_event()
        steps.append(_step("node", request_id, reply, wire, ""))

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
    growth_preimage, deposit_preimage = key("growth preimage"), key("deposit preimage")
    growth_bolt11 = _invoice(growth_preimage, growth, anchor, 3600, "lnstore capacity 0")
    deposit_bolt11 = _invoice(deposit_preimage, 1000, anchor, 3600, "lnstore deposit 0")
    grace_ends = anchor + period + signed.terms.grace_seconds
    rent_bolt11 = _invoice(preimage, growth, anchor, grace_ends - anchor, "lnstore rent 1")
    new = messages.AccountStatusReply(
        state=messages.AccountState.ACTIVE,
        capacity_bytes=0,
        used_bytes=0,
        shares=0,
        deposit_msat=Msat(0),
        anchor_at=anchor,
        paid_until_at=anchor,
        next_period=0,
        token_index=0,
        growth_index=0,
        deposit_index=0,
        ingress_bytes=0,
        egress_bytes=0,
        now_at=anchor,
        agreement=agreed.encoded,
    )
    grown = replace(new, capacity_bytes=1 << 30, paid_until_at=anchor + period, next_period=1, growth_index=1)
    read = replace(
        grown,
        used_bytes=1000,
        shares=1,
        deposit_msat=Msat(1000 - terms.traffic_msat(1000, 1000)),
        deposit_index=1,
        ingress_bytes=1000,
        egress_bytes=1000,
    )
    exchange(
        messages.Hello(version_major=1, version_minor=0, features=b"", agent="vectors/1"),
        messages.HelloReply(
            version_major=1,
            version_minor=0,
            features=b"",
            network="regtest",
            lightning_id=LIGHTNING_ID,
            lightning_signature=crypto.sign_message(LIGHTNING_SECRET, terms.binding_text(NODE_ID, LIGHTNING_ID)).zbase,
            now_at=anchor,
        ),
        "the client checks the signature of the binding text and the network",
    )
    exchange(messages.GetTerms(), messages.TermsReply(terms=signed.encoded), "the client judges validity and prices")
    exchange(
        messages.OpenAccount(agreement=proposed.encoded),
        messages.OpenAccountReply(agreement=agreed.encoded),
        "signed by the client, then by both",
    )
    exchange(messages.AccountStatus(), new, "a new account: nothing rented, paid until its anchor")
    exchange(
        messages.AddCapacity(growth_index=0, capacity_bytes=1 << 30),
        messages.AddCapacityReply(
            bolt11=growth_bolt11, amount_msat=growth, from_at=anchor, until_at=anchor + period, capacity_bytes=1 << 30
        ),
        "1 GiB until the end of period 0",
    )
    settle("CAPACITY", growth_bolt11, growth_preimage, "an ordinary invoice: the preimage is the node's secret")
    exchange(messages.AccountStatus(), grown, "credited: period 1 is the first unpaid one")
    exchange(
        messages.PutShare(share_id=share_id, token_start=0, tokens=tokens, payload=share),
        messages.PutShareReply(used_bytes=1000),
        "24 tokens, for rent payments 0 to 23",
    )
    exchange(
        messages.HaveShares(payload=bytes(share_id) + bytes(32)),
        messages.HaveSharesReply(held=b"\x80"),
        "the first of two is held",
    )
    exchange(
        messages.RequestInvoice(purpose=messages.InvoicePurpose.DEPOSIT, deposit_index=0, amount_msat=Msat(1000)),
        messages.InvoiceReply(
            bolt11=deposit_bolt11, amount_msat=Msat(1000), from_at=anchor, until_at=anchor, capacity_bytes=0
        ),
        "1000 msat to read for",
    )
    settle("DEPOSIT", deposit_bolt11, deposit_preimage, "an ordinary invoice")
    exchange(
        messages.GetShare(share_id=share_id, offset=0, length=0),
        messages.GetShareReply(offset=0, share_bytes=1000, proof=b"", payload=share),
        "the only leaf needs no proof; 1000 bytes cost 1 msat",
    )
    exchange(
        messages.GetShare(share_id=share_id, offset=1000, length=1),
        messages.ErrorReply(code=ErrorCode.RANGE_INVALID, message="1 bytes at 1000 do not lie in a share of 1000"),
        "beyond the share's end",
    )
    rent = messages.RequestInvoice(purpose=messages.InvoicePurpose.RENT, period=1, token_index=0, nonce=nonce)
    due = messages.InvoiceReply(
        bolt11=rent_bolt11,
        amount_msat=growth,
        from_at=anchor + period,
        until_at=anchor + 2 * period,
        capacity_bytes=1 << 30,
        shares=1,
        sample=bytes(share_id) + tokens[:16],
    )
    exchange(rent, due, "reveals r_0; the invoice is locked to the fold of the answers")
    exchange(rent, due, "asked again: the same reply")
    settle("RENT", rent_bolt11, preimage, "the preimage is the proof; the client knew it before it paid")
    paid = replace(read, paid_until_at=anchor + 2 * period, next_period=2, token_index=1)
    exchange(messages.AccountStatus(), paid, "credited: paid until the end of period 1, the next proof is number 1")
    return {
        "keys": {
            "client_seed": key("account").hex(),
            "node_seed": key("node").hex(),
            "client_ephemeral": key("client ephemeral").hex(),
            "node_ephemeral": key("node ephemeral").hex(),
            "lightning_secret": LIGHTNING_SECRET.hex(),
        },
        "rent": {"preimage": preimage.hex(), "payment_hash": proofs.payment_hash(preimage).hex()},
        "steps": steps,
    }


def _invoice(preimage: bytes, amount_msat: int, created_at: int, expiry: int, description: str) -> str:
    return bolt11_of.encode(
        secret=LIGHTNING_SECRET,
        payment_hash=proofs.payment_hash(preimage),
        payment_secret=key(f"payment secret of {description}"),
        amount_msat=amount_msat,
        description=description,
        created_at=created_at,
        expiry=expiry,
        final_cltv=bolt11_of.FINAL_CLTV,
    )


def _step(sender: str, request_id: int, message: Any, wire: bytes, note: str) -> Case:
    payload = codec.payload_of(message)
    return {
        "what": type(message).__name__,
        "from": sender,
        **({"note": note} if note else {}),
        "request_id": request_id,
        "head": codec.encode_head(request_id, message).hex(),
        "payload": bytes(payload).hex(),
        "wire": wire.hex(),
    }
