"""The vectors are what the generator makes, mostly invalid, and the code does with each case what the case says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from spec_documents import SPEC, requirements

from lnstore.client.buying import check_growth
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused
from lnstore.client.payments import check_invoice
from lnstore.client.rent_checks import check_rent
from lnstore.lightning.messages import recover_signer
from lnstore.lightning.simulated import bolt11
from lnstore.ports.lightning import DecodedInvoice
from lnstore_protocol import (
    caps,
    codec,
    content,
    delegation,
    invitations,
    manifest,
    merkle,
    proofs,
    stages,
    terms,
    trees,
)
from lnstore_protocol.bundles import BundleCheck
from lnstore_protocol.connection import NEED_DATA, Connection, PeerClosed, Role
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.events import ReplyReceived, RequestReceived
from lnstore_protocol.frames import FrameReader
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, LightningId, Msat, NodeId, PaymentHash, ShareId
from lnstore_protocol.messages import SAMPLE_SHARES, AccountStage, InvoiceReply
from lnstore_protocol.prices import PriceNotAgreed, Prices, earliest_change
from lnstore_protocol.receipts import Acknowledgement, Receipt, receipt_faults
from lnstore_protocol.usages import check_usages, decode_usages

sys.path.insert(0, str(SPEC))
from cases.common import ACCOUNT, NODE, example_terms, key, material
from cases.rent import prices_of
from cases.trees import described

Case = dict[str, Any]
NEVER_INVALID = {"session.json"}
"""A transcript is one good session."""


@cache
def vectors() -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in sorted((SPEC / "vectors").glob("*.json"))}


def test_vectors_are_what_the_generator_makes() -> None:
    """When this fails: uv run python spec/generate.py, and look at the difference."""
    from generate import generate  # noqa: PLC0415 - spec/ is no package

    made = generate()
    assert set(vectors()) == set(made)
    for name, text in made.items():
        assert (SPEC / "vectors" / name).read_text() == text, name


@pytest.mark.parametrize("name", sorted(set(vectors()) - NEVER_INVALID))
def test_most_cases_are_invalid_and_names_are_unique(name: str) -> None:
    cases = vectors()[name]["cases"]
    assert len({case["name"] for case in cases}) == len(cases)
    invalid = [case for case in cases if "error" in case or "refused" in case]
    assert all(case.get("error", "MALFORMED") in ErrorCode.__members__ for case in invalid)
    assert all(case.get("refused", "R-R13") in requirements() for case in invalid)
    assert len(invalid) > len(cases) - len(invalid)


# --- replaying: each returns what the code makes of a case -----------------------------------------------------------


def _data(spec: Case) -> bytes:
    return material(spec)


def _merkle(case: Case) -> Case:
    payload = _data(case["data"] if case["op"] == "id" else case["payload"])
    if case["op"] == "id":
        return {"id": merkle.share_id(payload).hex()}
    size, offset = case["share_bytes"], case["offset"]
    merkle.verify_range(bytes.fromhex(case["id"]), size, offset, payload, bytes.fromhex(case["proof"]))
    whole = {name: value for name, value in case["payload"].items() if name != "slice"}
    first, last = merkle.leaf_range(size, offset, len(payload))
    return {"proof": merkle.range_proof(merkle.leaf_hashes(_data(whole)), first, last).hex()}


def _codec(case: Case) -> Case:
    """As a connection does: type and request id are looked at first."""
    head = bytes.fromhex(case["head"])
    codec.peek(head[: codec.PEEK_BYTES])
    request_id, message = codec.decode_head(head, memoryview(b""))
    fields = {}
    for field in type(message).__dataclass_fields__:
        value = getattr(message, field)
        fields[field] = value.hex() if isinstance(value, bytes) else int(value) if isinstance(value, int) else value
    return {"request_id": request_id, "type": message.TYPE, "fields": fields}


def _frames(case: Case) -> Case:
    """Fed whole, and byte by byte: the same."""
    stream = bytes.fromhex(case["stream"])
    whole = _read_frames([stream])
    assert whole == _read_frames([stream[at : at + 1] for at in range(len(stream))])
    return {"frames": whole}


def _read_frames(pieces: list[bytes]) -> list[Case]:
    reader = FrameReader()
    for piece in pieces:
        reader.feed(memoryview(piece))
    frames = iter(reader.next_frame, None)
    return [{"type": frame.type, "head": frame.head.hex(), "payload": bytes(frame.payload).hex()} for frame in frames]


_STRUCTURES: dict[str, Callable[[bytes], Any]] = {
    "terms": terms.SignedTerms.decode,
    "agreement": terms.Agreement.decode,
    "record": terms.Record.decode,
    "invitation": invitations.Invitation.decode,
}


def _structures(case: Case) -> Case:
    _STRUCTURES[case["kind"]](bytes.fromhex(case["encoded"]))
    return {}


def _delegation(case: Case) -> Case:  # D-R1, D-R2, D-R3, D-R4, D-R5, D-R18, D-R19
    match case["op"]:
        case "verify":
            authority = delegation.verify_chain(
                bytes.fromhex(case["chain"]),
                presenter=AccountId.from_hex(case["presenter"]),
                node_id=NodeId.from_hex(case["node_id"]),
                now=case["now"],
            )
            last = authority.certificate
            return {
                "account_id": authority.account_id.hex(),
                "certificate_ids": [signed.certificate_id.hex() for signed in authority.chain],
                "maximum_bytes": last.maximum_bytes,
                "maximum_read_bytes": last.maximum_read_bytes,
                "rights": int(last.rights),
            }
        case "text":
            parsed = delegation.parse_delegation(case["text"])
            assert parsed.to_text() == case["text"].lower()
            addresses = [str(address) for address in parsed.addresses]
            return {"chain": delegation.encode_chain(parsed.chain).hex(), "addresses": addresses}
        case _:
            listed = decode_usages(bytes.fromhex(case["payload"]), limit=case["limit"])
            check_usages(listed, AccountId.from_hex(case["account_id"]))
            return {"certificate_ids": [entry.signed.certificate_id.hex() for entry in listed]}


def _receipts(case: Case) -> Case:
    match case["op"]:
        case "structure":
            kinds: dict[str, Any] = {"receipt": Receipt, "acknowledgement": Acknowledgement}
            kinds[case["kind"]].decode(bytes.fromhex(case["encoded"]))
            return {}
        case "judge":
            agreements = [terms.Agreement.decode(bytes.fromhex(one)) for one in case["agreements"]]
            receipt = Receipt.decode(bytes.fromhex(case["receipt"]))
            faults = len(receipt_faults(receipt, agreements))
            return {"faults": faults} | ({"refused": "RC-R8"} if faults else {})
        case _:
            check = BundleCheck()
            check.feed(case["lines"])
            check.finish()
            uncharged = sum(series.uncharged_periods for series in check.series)
            said = {"found": check.found} | ({"uncharged_periods": uncharged} if uncharged else {})
            return said | ({"refused": "RC-R8"} if check.found else {})


def _rent(case: Case) -> Case:
    match case["op"]:
        case "rent":
            return {"msat": str(terms.rent_msat(case["capacity_bytes"], case["seconds"], case["price"]))}
        case "traffic":
            return {"msat": str(terms.traffic_msat(case["bytes"], case["price"]))}
        case "ingress":
            return {"msat": str(terms.ingress_msat(case["before"], case["bytes"], case["price"]))}
        case "refund":
            part = case["capacity_bytes"], case["seconds"], case["price"], case["permille"]
            return {"msat": str(terms.refund_msat(*part))}
        case "stages":
            return _stages(case)
        case "period":
            return {"period": terms.period_at(case["anchor_at"], case["period_seconds"], case["at"])}
        case "rent of a period":
            return {"msat": str(prices_of(case).rent_msat(case["capacity_bytes"], case["period"]))}
        case "growth":
            growth = prices_of(case).growth_msat(case["added_bytes"], case["from_at"], case["until_at"])
            return {"msat": str(growth)}
        case "earliest change":
            sheet = replace(
                example_terms().terms, period_seconds=case["period_seconds"], price_periods=case["price_periods"]
            ).sign(NODE)
            agreement = terms.Agreement.propose(sheet, ACCOUNT, case["anchor_at"], from_period=case["from_period"])
            return {"period": earliest_change(agreement, case["announced_at"])}
        case _:
            return _judge_reply(case)


def _stages(case: Case) -> Case:
    own = {name: case[name] for name in ("paid_until_at", "period_seconds", "grace_seconds")}
    table = []
    for row in case["table"]:
        due = stages.due(owes=row["owes"], now=row["at"], **own)
        table.append(row | {"next": {stage.name: stages.NEXT_STAGE[stage, due].name for stage in AccountStage}})
    coming = [
        {"stage": one.stage.name, "at": one.at, "warning_at": one.warning_at} for one in stages.transitions(**own)
    ]
    return {"coming": coming, "table": table}


_RULES = {
    InvoiceFault.WRONG_PAYEE: "R-R11",
    InvoiceFault.WRONG_NETWORK: "R-R12",
    InvoiceFault.NO_AMOUNT: "R-R13",
    InvoiceFault.AMOUNT_DIFFERS: "R-R13",
    InvoiceFault.EXPIRED: "R-R14",
    InvoiceFault.WRONG_HASH: "P-R13",
}
"""Which requirement stands behind each refusal of lnstore's client."""


def _judge_reply(case: Case) -> Case:
    """What lnstore's client says to an invoice for rent or growth."""
    terms_of, reply, invoice = case["agreement"], InvoiceReply(bolt11="", **case["reply"]), dict(case["invoice"])
    sheet = replace(
        example_terms().terms,
        period_seconds=terms_of["period_seconds"],
        price_msat_per_gib_month=Msat(terms_of["price"]),
    ).sign(NODE)
    agreement = terms.Agreement.propose(sheet, ACCOUNT, terms_of["anchor_at"])
    growth = case["op"] == "growth reply"
    own: Any = {"prices": Prices.of([agreement]), "petname": "n"}
    try:
        if growth:
            current, wanted = case["capacity_bytes"], case["wanted_bytes"]
            limit = check_growth(reply, current_bytes=current, wanted_bytes=wanted, now=case["now"], **own)
        else:
            limit = check_rent(reply, period=case["period"], capacity_bytes=case["capacity_bytes"], **own)
        decoded = DecodedInvoice(
            payee=LightningId.from_hex(invoice.pop("payee")),
            payment_hash=PaymentHash.from_hex(invoice.pop("payment_hash")),
            created_at=0,
            description="",
            **invoice,
        )
        check_invoice(
            decoded,
            payee=sheet.terms.lightning_id,
            network=sheet.terms.network,
            stated_msat=reply.amount_msat,
            limit_msat=limit,
            payment_hash=case["preimage_hash"] and PaymentHash.from_hex(case["preimage_hash"]),
            now=case["now"],
        )
    except InvoiceRefused as exc:
        if exc.fault in (InvoiceFault.WRONG_PERIOD, InvoiceFault.WRONG_CAPACITY):
            return {"refused": "R-R8" if growth else "R-R19"}
        if exc.fault is InvoiceFault.OVERPRICED:
            return {"refused": "R-R9" if growth else "R-R13"}
        return {"refused": _RULES[exc.fault]}
    return {}


def _proof_keys(case: Case) -> Case:
    from blake3 import blake3  # noqa: PLC0415 - only here

    secret = blake3(bytes.fromhex(case["seed"]), derive_key_context="lnstore account secret v1").digest()
    return {"audit_key": proofs.audit_key(secret).hex(), "token_key": proofs.token_key(secret).hex()}


def _proof_answer(case: Case) -> Case:
    """Both sides of a proof: the node's from the share, the client's from the token."""
    share, share_id, nonce = _data(case["data"]), ShareId.from_hex(case["id"]), bytes.fromhex(case["nonce"])
    audit, token, node = (bytes.fromhex(case[name]) for name in ("audit_key", "token_key", "node_id"))
    tokens = proofs.make_tokens(share, share_id, audit, token, NodeId(node), 0, 3)
    t = case["t"]
    answer = proofs.answer_reading(nonce, share_id, len(share), lambda at, count: share[at : at + count])
    assert proofs.unmask(tokens[16 * t : 16 * (t + 1)], token, NodeId(node), share_id, t) == answer
    return {
        "positions": proofs.challenge_positions(nonce, share_id, len(share)),
        "answer": answer.hex(),
        "tokens": tokens.hex(),
    }


def _proof_fold(case: Case) -> Case:
    pairs = [(ShareId.from_hex(share_id), bytes.fromhex(answer)) for share_id, answer in case["answers"]]
    preimage = proofs.fold(bytes.fromhex(case["nonce"]), pairs)
    return {"preimage": preimage.hex(), "payment_hash": proofs.payment_hash(preimage).hex()}


def _proof_sample(case: Case) -> Case:
    nonce = bytes.fromhex(case["nonce"])
    if "crowd" in case:
        ids = [ShareId(key(f"crowd {i}")) for i in range(case["crowd"])]
        crowd = sorted(ids, key=lambda share_id: proofs.sample_key(nonce, share_id))
        first, last = case["take"]
        sample = crowd[first:last] + ([crowd[case["and"]]] if "and" in case else [])
        expected = crowd[:SAMPLE_SHARES]
    else:
        expected, sample = ([ShareId.from_hex(text) for text in case[name]] for name in ("expected", "sample"))
    lost = [ShareId.from_hex(text) for text in case["lost"]]
    return {"missing": [share_id.hex() for share_id in proofs.check_sample(nonce, expected, sample, lost)]}


def _proof_nonce(case: Case) -> Case:
    audit, node = bytes.fromhex(case["audit_key"]), NodeId.from_hex(case["node_id"])
    return {"nonce": proofs.audit_nonce(audit, node, case["t"]).hex()}


def _proof_settle(case: Case) -> Case:
    """What a client makes of a node's answer: the preimage, or the rule by which it does not pay."""
    nonce, key_, t = bytes.fromhex(case["nonce"]), bytes.fromhex(case["token_key"]), case["t"]
    node_id, expected = NodeId.from_hex(case["node_id"]), [ShareId.from_hex(text) for text in case["expected"]]
    try:
        pairs, lost = proofs.read_sample(bytes.fromhex(case["sample"]), bytes.fromhex(case["lost"]))
    except RemoteProtocolError:
        return {"refused": "MA-R20"}
    if set(lost) & set(expected):
        return {"refused": "P-R11"}
    ids = [share_id for share_id, _ in pairs]
    try:
        missing = proofs.check_sample(nonce, expected, ids, lost)
    except RemoteProtocolError:
        return {"refused": "P-R9"}
    if missing:
        return {"refused": "P-R10" if pairs else "P-R14"}
    if proofs.unexpected_ids(expected, ids):
        return {"refused": "P-R12"}
    preimage = proofs.fold(nonce, [(i, proofs.unmask(token, key_, node_id, i, t)) for i, token in pairs])
    if proofs.payment_hash(preimage).hex() != case["payment_hash"]:
        return {"refused": "P-R13"}
    return {"preimage": preimage.hex()}


def _proof_tables(case: Case) -> Case:
    """The payload of a put_tokens: its shares' tables, first and last, and the same payload from them."""
    payload = _data(case["payload"])
    tables = proofs.split_token_tables(payload, case["start"], case["count"])
    assert proofs.join_token_tables(tables) == payload
    first, last = tables[0], tables[-1]
    return {"shares": len(tables), "first": b"".join(first).hex(), "last": b"".join(last).hex()}


_PROOFS = {
    "settle": _proof_settle,
    "tables": _proof_tables,
    "keys": _proof_keys,
    "nonce": _proof_nonce,
    "answer": _proof_answer,
    "fold": _proof_fold,
    "sample": _proof_sample,
}


def _proofs(case: Case) -> Case:
    return _PROOFS[case["op"]](case)


def _caps(case: Case) -> Case:
    cap = caps.parse_cap(case["text"])
    assert cap.to_text() == case["text"].lower()
    if isinstance(cap, caps.ReadCap):
        return {"kind": "read", "key": cap.file_key.hex(), "manifest_id": cap.manifest_id.hex()}
    return {"kind": "verify", "key": cap.verify_key.hex(), "manifest_id": cap.manifest_id.hex()}


def _content(case: Case) -> Case:
    from blake3 import blake3  # noqa: PLC0415 - only here

    plaintext = _data(case["plaintext"])
    right_key = key("file") if "error" in case else bytes.fromhex(case["file_key"])
    sealed = bytearray(content.ciphertext_bytes(len(plaintext)))
    content.RecordSealer(right_key).seal_into(plaintext, memoryview(sealed), first_record=0, last=True)
    digest = blake3(bytes(sealed)).hexdigest()
    unit = content.SEALED_RECORD_BYTES
    if "order" in case:
        sealed = bytearray(b"".join(sealed[unit * i : unit * (i + 1)] for i in case["order"]))
    if "flip" in case:
        sealed[case["flip"]] ^= 1
    first, last = case.get("keep", (0, len(sealed)))
    sealed = sealed[first:last]
    opened = bytearray(len(sealed))
    opener = content.RecordOpener(bytes.fromhex(case["file_key"]))
    size = opener.open_into(bytes(sealed), memoryview(opened), first_record=0, last=True)
    assert bytes(opened[:size]) == plaintext
    return {"blake3": digest}


def _manifest(case: Case) -> Case:
    blob, file_key = bytes.fromhex(case["blob"]), bytes.fromhex(case["file_key"])
    whole = manifest.decode(blob, file_key)
    assert manifest.decode_verify(blob, bytes.fromhex(case["verify_key"])) == whole.verify_part()
    return {
        "needed": whole.needed,
        "total": whole.total,
        "file_bytes": whole.file_bytes,
        "segments": [[s.size_bytes, s.share_bytes, [i.hex() for i in s.share_ids]] for s in whole.segments],
    } | ({"kind": whole.kind} if whole.kind else {})


def _tree(case: Case) -> Case:
    """Read whole, and byte by byte; what was read is written as the same bytes, but for keys that nobody knows."""
    data = bytes.fromhex(case["tree"])
    whole, bytewise = trees.TreeReader(), trees.TreeReader()
    items = list(whole.feed(data))
    whole.end()
    assert [item for at in range(len(data)) for item in bytewise.feed(data[at : at + 1])] == items
    if "odd" not in case["name"]:
        assert b"".join(map(trees.encode, items)) == data
    return {"items": described(items)}


def _transport(case: Case) -> Case:
    """Received whole, and byte by byte: the same events, and the same end."""
    here, piecewise = (_sides()[case["reader"]] for _ in range(2))
    for side in (here, piecewise):
        if case["reader"] == "client":
            side.initiate()
    received = [bytes.fromhex(part) for part in case["received"]]
    said = _heard(here, received, eof="eof" in case)
    single = [part[at : at + 1] for part in received for at in range(len(part))]
    assert _heard(piecewise, single, eof="eof" in case)[0] == said[0]
    events, fault = said
    if fault is not None:
        if "HandshakeDone" not in events:
            assert not here.is_open
        raise fault
    return {"events": events}


def _heard(here: Connection, pieces: list[bytes], *, eof: bool) -> tuple[list[str], RemoteProtocolError | None]:
    events: list[str] = []
    try:
        for piece in [*pieces, None] if eof else pieces:
            here.receive_data(piece) if piece is not None else here.receive_eof()
            while (event := here.next_event()) is not NEED_DATA:
                events.append(type(event).__name__)
                if isinstance(event, PeerClosed):
                    break
    except RemoteProtocolError as exc:
        return events, exc
    return events, None


_REPLAY = {
    "transport.json": _transport,
    "caps.json": _caps,
    "codec.json": _codec,
    "content.json": _content,
    "frames.json": _frames,
    "manifest.json": _manifest,
    "tree.json": _tree,
    "merkle.json": _merkle,
    "proofs.json": _proofs,
    "rent.json": _rent,
    "delegation.json": _delegation,
    "receipts.json": _receipts,
    "structures.json": _structures,
}


def test_every_file_is_replayed() -> None:
    assert set(_REPLAY) | {"session.json"} == set(vectors())


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}: {case.get('name', number)}")
        for name in _REPLAY
        for number, case in enumerate(vectors()[name]["cases"])
    ],
)
def test_case(name: str, case: Case) -> None:
    if "error" not in case:
        found = _REPLAY[name](case)
        assert found == {field: case.get(field) for field in found}
        assert found.get("refused") == case.get("refused")
        return
    try:
        found_error = f"none: {_REPLAY[name](case)}"
    except RemoteProtocolError as exc:
        found_error = exc.code.name
    except PriceNotAgreed:
        found_error = "PRICE_NOT_AGREED"
    except ValueError:  # what never came in a message: a capability, the size of a ciphertext
        found_error = "MALFORMED"
    assert found_error == case["error"]


# --- the transcript --------------------------------------------------------------------------------------------------


def _sides() -> dict[str, Connection]:
    keys = {name: bytes.fromhex(value) for name, value in vectors()["session.json"]["keys"].items()}
    node, account = Identity(keys["node_seed"]), Identity(keys["client_seed"])
    remote = NodeId(node.public_key)
    return {
        "client": Connection(Role.CLIENT, account, remote=remote, ephemeral_private=keys["client_ephemeral"]),
        "node": Connection(Role.NODE, node, ephemeral_private=keys["node_ephemeral"]),
    }


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize("side", ["client", "node"])
def test_session_is_replayed_for_each_side(side: str, piece: int) -> None:
    """What this side writes is the transcript's bytes; what the other wrote is read, whole or in pieces."""
    here = _sides()[side]
    due = here.initiate() if side == "client" else b""
    replies: list[tuple[int, Any]] = []
    for step in vectors()["session.json"]["steps"]:
        if step["what"] == "payment":
            continue
        wire = bytes.fromhex(step["wire"])
        is_act = "head" not in step
        if step["from"] == side:
            if is_act:
                assert (due or here.data_to_send()) == wire
                due = b""
            else:
                _, message = codec.decode_head(bytes.fromhex(step["head"]), memoryview(bytes.fromhex(step["payload"])))
                chunks = (
                    here.send_request(message)[1]  # type: ignore[arg-type]  # the transcript says which it is
                    if side == "client"
                    else here.send_reply(step["request_id"], message)  # type: ignore[arg-type]
                )
                assert b"".join(bytes(chunk) for chunk in chunks) == wire
            continue
        events = []
        for at in range(0, len(wire), piece):
            here.receive_data(wire[at : at + piece])
            event = here.next_event()
            if isinstance(event, RequestReceived | ReplyReceived):
                events.append(event)
        if not is_act:
            (received,) = events
            head = codec.encode_head(received.request_id, received.message)
            assert (received.request_id, head.hex()) == (step["request_id"], step["head"])
            assert bytes(codec.payload_of(received.message)).hex() == step["payload"]
            replies.append((received.request_id, received.message))
    assert len(replies) == 14


def _step(what: str, number: int = 0) -> Any:
    """A message of the transcript, decoded: the one of this name, by its place among them."""
    found = [step for step in vectors()["session.json"]["steps"] if step["what"] == what]
    return codec.decode_head(bytes.fromhex(found[number]["head"]), memoryview(bytes.fromhex(found[number]["payload"])))[
        1
    ]


def test_rent_of_the_transcript_is_locked_to_its_proof() -> None:
    """The client's preimage, from the reply's token, opens the invoice that the node made: P-R13, P-W11."""
    session = vectors()["session.json"]
    (keys,) = (case for case in vectors()["proofs.json"]["cases"] if case["op"] == "keys")
    assert keys["seed"] == session["keys"]["client_seed"]
    due, again = _step("InvoiceReply", -2), _step("InvoiceReply", -1)
    nonce, sample = _step("RequestInvoice", -1).nonce, due.sample
    assert due == again
    node_id = NodeId(Identity(bytes.fromhex(session["keys"]["node_seed"])).public_key)
    answer = proofs.unmask(sample[32:], bytes.fromhex(keys["token_key"]), node_id, ShareId(sample[:32]), 0)
    preimage = proofs.fold(nonce, [(ShareId(sample[:32]), answer)])
    assert session["rent"] == {"preimage": preimage.hex(), "payment_hash": proofs.payment_hash(preimage).hex()}
    assert bolt11.decode(due.bolt11).payment_hash == session["rent"]["payment_hash"]


def test_payments_of_the_transcript_are_those_of_its_invoices_and_are_credited() -> None:
    """Each is of the node's Lightning key, over the reply's amount, with a preimage that fits; the status shows it."""
    hello = _step("HelloReply")
    binding = terms.binding_text(NodeId(NODE.public_key), hello.lightning_id)
    assert recover_signer(binding, hello.lightning_signature) == hello.lightning_id.hex()
    replies = [_step("AddCapacityReply"), *(_step("InvoiceReply", number) for number in (0, -1))]
    payments = [step for step in vectors()["session.json"]["steps"] if step["what"] == "payment"]
    assert [step["purpose"] for step in payments] == ["CAPACITY", "DEPOSIT", "RENT"]
    for reply, step in zip(replies, payments, strict=True):
        invoice = bolt11.decode(step["bolt11"])
        assert (reply.bolt11, reply.amount_msat, step["amount_msat"]) == (
            step["bolt11"],
            invoice.amount_msat,
            invoice.amount_msat,
        )
        assert invoice.payee == hello.lightning_id.hex()
        assert invoice.payment_hash == step["payment_hash"]
        assert proofs.payment_hash(bytes.fromhex(step["preimage"])).hex() == step["payment_hash"]
    new, grown, paid = (_step("AccountStatusReply", number) for number in range(3))
    assert [status.next_period for status in (new, grown, paid)] == [0, 1, 2]
    assert [status.token_index for status in (new, grown, paid)] == [0, 0, 1]
    assert (paid.paid_until_at, paid.deposit_msat) == (replies[2].until_at, 999)
