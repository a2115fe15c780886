"""lnstore.cddl accepts what the code writes and, with each structure broken once, what the code refuses is refused.

pycddl wraps the `cddl` crate, the one maintained validator that Python has (zcbor does not import with today's cbor2).
It takes `tstr .size n` and `a..b` for a size of whatever comes, passes over bytes after a value, and does not close a
map that is empty or an element of an array. So types are given to it twice, `tstr .and (tstr .size n)`, wherever it
takes that, bodies are validated by their own rules, and unknown keys are tried only where the body has keys.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from functools import cache
from typing import Any, get_args

import cbor2
import msgpack
import pycddl
import pytest
from spec_documents import SPEC, MessageTable, Row, message_tables

from lnstore_protocol import bech32m, caps, cbor, manifest, trees
from lnstore_protocol.codec import decode_head, encode_head
from lnstore_protocol.delegation import Certificate, Delegation, Rights, Serial, SignedCertificate, encode_chain
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import (
    AccountId,
    InvitationSecret,
    LightningId,
    Msat,
    NodeAddress,
    NodeId,
    PaymentHash,
    ShareId,
)
from lnstore_protocol.invitations import Invitation
from lnstore_protocol.messages import InvoicePurpose, Message, Reply, Request
from lnstore_protocol.receipts import NO_SAMPLE, Acknowledgement, Receipt, agreement_hash
from lnstore_protocol.terms import Agreement, ChannelPolicy, Record, SignedTerms, Terms
from lnstore_protocol.usages import Usage, encode_usages

_AS_PYCDDL_NEEDS_IT = (
    (r"(?<!^share-ids = )\b([bt]str)( \.(?:size (?:\([^)]*\)|\d+)|cbor \w+))", r"(\1 .and (\1\2))"),
    (r"=> (uint63|msat|\d+\.\.\d+)", r"=> (uint .and (\1))"),
)
SOURCE = (SPEC / "lnstore.cddl").read_text()
for _pattern, _replacement in _AS_PYCDDL_NEEDS_IT:
    SOURCE = re.sub(_pattern, _replacement, SOURCE, flags=re.MULTILINE)
CLASSES = {cls.TYPE: cls for cls in (*get_args(Request), *get_args(Reply))}
TABLES = list(message_tables().values())
GREATEST = (1 << 63) - 1


@cache
def schema(rule: str) -> pycddl.Schema:
    """A schema whose root is this rule."""
    return pycddl.Schema(f"root = {rule}\n{SOURCE}")


def is_valid(rule: str, encoded: bytes) -> bool:
    """Whether the CDDL rule takes these bytes."""
    try:
        schema(rule).validate_cbor(encoded)
    except pycddl.ValidationError:
        return False
    return True


# --- messages --------------------------------------------------------------------------------------------------------


def _rule(table: MessageTable) -> str:
    return table.name.replace("_", "-")


def _value(row: Row, *, greatest: bool) -> Any:
    """The smallest or greatest value that a row of a table allows."""
    size = int(row.length[2:]) if row.length.startswith("= ") or (greatest and row.length) else 0
    match row.type:
        case "integer":
            return GREATEST if greatest else 0
        case "bytes":
            return bytes(size)
        case "text":
            return "x" * size
        case "list of text":
            return ["x" * 360] * size if greatest else []
        case "error_code":
            return int(ErrorCode.INTERNAL) if greatest else 1
        case _:
            return 2 if greatest else 0  # the three small enumerations


def _body(table: MessageTable, *, greatest: bool) -> dict[int, Any]:
    return {
        row.key: _value(row, greatest=greatest)
        for row in table.rows
        if row.key is not None and (greatest or row.presence == "required")
    }


def _message(table: MessageTable, body: dict[int, Any]) -> Message:
    """What the codec reads from this body: every class of message goes through its reader and writer."""
    _, message = decode_head(msgpack.packb([table.type, 7, body]), memoryview(b""))
    return message


def _is_read(table: MessageTable, body: dict[Any, Any]) -> bool:
    try:
        decode_head(msgpack.packb([table.type, 7, body]), memoryview(b""))
    except RemoteProtocolError:
        return False
    return True


@pytest.mark.parametrize("table", TABLES, ids=_rule)
@pytest.mark.parametrize("greatest", [False, True], ids=["least", "greatest"])
def test_what_the_codec_writes_is_valid(table: MessageTable, greatest: bool) -> None:
    """With nothing but required fields at their least, and with every field at its greatest."""
    encoded = encode_head(7, _message(table, _body(table, greatest=greatest)))
    kind, request_id, body = msgpack.unpackb(encoded, strict_map_key=False)
    assert is_valid(f"{_rule(table)}-body", cbor2.dumps(body))
    assert is_valid(_rule(table), cbor2.dumps([kind, request_id, body]))
    assert is_valid("message", cbor2.dumps([kind, request_id, body]))


def _broken(table: MessageTable) -> list[tuple[str, dict[Any, Any]]]:
    whole = _body(table, greatest=True)
    cases: list[tuple[str, dict[Any, Any]]] = []
    for row in table.rows:
        if row.key is None:
            continue
        if row.presence == "required":
            cases.append((f"{row.name} missing", {key: value for key, value in whole.items() if key != row.key}))
        wrong: list[Any] = [None, True, {}, -1]
        wrong += ["text", b""] if row.type not in ("text", "bytes") else [0, b"" if row.type == "text" else "text"]
        if row.type == "integer":
            wrong.append(GREATEST + 1)
        if row.type in ("account_state", "account_stage", "invoice_purpose"):
            wrong.append(5 if row.type == "account_stage" else 3)
        if row.length.startswith("≤"):
            most = whole[row.key]
            wrong.append([*most, ""] if isinstance(most, list) else most + most[:1])
        if row.type == "list of text":
            wrong += [[b""], ["x" * 361]]
        if row.length.startswith("="):
            wrong += [whole[row.key] + b"x", whole[row.key][1:]]
        cases += [(f"{row.name} = {str(value)[:20]!r}", whole | {row.key: value}) for value in wrong]
    if whole:
        cases.append(("an unknown even key", whole | {200: 0}))
    return cases


@pytest.mark.parametrize(
    ("table", "body"),
    [pytest.param(table, body, id=f"{_rule(table)}: {why}") for table in TABLES for why, body in _broken(table)],
)
def test_each_broken_body_is_refused_by_codec_and_cddl(table: MessageTable, body: dict[Any, Any]) -> None:
    assert not _is_read(table, body)
    assert not is_valid(f"{_rule(table)}-body", cbor2.dumps(body))


@pytest.mark.parametrize("table", TABLES, ids=_rule)
def test_unknown_odd_keys_are_passed_over(table: MessageTable) -> None:
    """M-R3: whatever is under them."""
    body = _body(table, greatest=False)
    assert _message(table, body | {201: [None, {1: b"new"}]}) == _message(table, body)


def test_an_error_code_that_is_not_known_is_read_as_internal() -> None:
    """M-R8; the CDDL closes the registry for writers."""
    error = message_tables()["error"]
    message = _message(error, {2: 9999, 4: ""})
    assert dataclasses.asdict(message)["code"] is ErrorCode.INTERNAL
    assert not is_valid("error-body", cbor2.dumps({2: 9999, 4: ""}))


# --- signed structures -----------------------------------------------------------------------------------------------

NODE, ACCOUNT = Identity(b"\x01" * 32), Identity(b"\x02" * 32)


def _terms() -> SignedTerms:
    return Terms(
        node_id=NodeId(NODE.public_key),
        lightning_id=LightningId(b"\x02" + b"\x11" * 32),
        network="regtest",
        price_msat_per_gib_month=Msat(2000),
        egress_msat_per_gib=Msat(1000),
        ingress_msat_per_gib=Msat(0),
        period_seconds=2_592_000,
        grace_seconds=604_800,
        minimum_capacity_bytes=1 << 20,
        maximum_capacity_bytes=1 << 43,
        channel_policy=ChannelPolicy.PREFERRED,
        minimum_channel_sat=100_000,
        valid_from_at=1_700_000_000,
        valid_until_at=1_700_604_800,
        price_periods=12,
        fiat_currency="EUR",
        fiat_per_tib_month="1.25",
    ).sign(NODE)


def _structures() -> dict[str, list[bytes]]:
    terms = _terms()
    proposed = Agreement.propose(terms, ACCOUNT, 1_700_000_100)
    record = Record(account_id=proposed.account_id, name=b"catalog", sequence=3, value=b"\x55" * 4096)
    invitation = Invitation(
        node_id=NodeId(NODE.public_key),
        place="[2001:db8::1]:7460",
        secret=InvitationSecret(b"\x0a" * 16),
        expires_at=1_700_604_800,
        maximum_capacity_bytes=1 << 34,
        price_msat_per_gib_month=Msat(0),
        egress_msat_per_gib=Msat(1000),
        price_periods=12,
    )
    return {
        "terms": [terms.encoded, replace(terms.terms, invitation=invitation.invitation_id).sign(NODE).encoded],
        "agreement": [proposed.encoded, proposed.countersign(NODE).encoded],
        "record": [record.sign(ACCOUNT)],
        "certificate": [_certificate().encoded],
        "receipt": [_receipt(proposed)],
        "acknowledgement": [Acknowledgement.of(_receipt(proposed), 1_700_000_300).sign(ACCOUNT)],
        "invitation": [
            replace(invitation, price_msat_per_gib_month=None, price_periods=None).sign(NODE).encoded,
            invitation.sign(NODE).encoded,
        ],
    }


def _receipt(agreement: Agreement) -> bytes:
    return Receipt(
        account_id=agreement.account_id,
        node_id=NodeId(NODE.public_key),
        number=7,
        agreement_hash=agreement_hash(agreement.encoded),
        purpose=InvoicePurpose.DEPOSIT,
        index=1,
        from_at=1_700_000_200,
        until_at=1_700_000_200,
        capacity_bytes=0,
        amount_msat=Msat(5000),
        received_msat=Msat(5000),
        deposited_msat=Msat(5000),
        payment_hash=PaymentHash(b"\x66" * 32),
        credited_at=1_700_000_210,
        token_index=0,
        shares=0,
        sampled=0,
        sample_hash=NO_SAMPLE,
    ).sign(NODE)


def _certificate() -> SignedCertificate:
    return Certificate(
        account_id=AccountId(ACCOUNT.public_key),
        issuer=AccountId(ACCOUNT.public_key),
        subject=AccountId(b"\x55" * 32),
        serial=Serial(bytes(16)),
        nodes=bytes(NODE.public_key),
        maximum_bytes=1 << 30,
        maximum_read_bytes=1 << 30,
        expires_at=1_700_000_000,
        rights=Rights.READ_WRITE,
        levels=1,
    ).sign(ACCOUNT)


_DECODERS: dict[str, Any] = {
    "terms": SignedTerms.decode,
    "agreement": Agreement.decode,
    "record": Record.decode,
    "receipt": Receipt.decode,
    "acknowledgement": Acknowledgement.decode,
    "certificate": SignedCertificate.decode,
    "invitation": Invitation.decode,
}


@pytest.mark.parametrize("rule", _DECODERS)
def test_signed_structures_are_valid(rule: str) -> None:
    for encoded in _structures()[rule]:
        _DECODERS[rule](encoded)
        assert is_valid(rule, encoded)


def _broken_structures() -> list[Any]:
    cases = []
    for rule, (*_, encoded) in _structures().items():
        whole = cbor.decode(encoded, what=rule)
        for key, value in whole.items():
            optional = (rule, key) == ("agreement", 66) or key % 2
            if not optional:
                cases.append((rule, f"key {key} missing", {k: v for k, v in whole.items() if k != key}))
            wrong: list[Any] = [None, False, []]
            wrong += [b"", "text"] if isinstance(value, int) else [1]
            wrong += ["text"] if isinstance(value, bytes) else [b""]
            if isinstance(value, int):
                wrong += [-1, 1 << 63]
            if isinstance(value, bytes) and (key != 2 or rule != "record"):
                may_be_shorter, holds_cbor = (rule, key) == ("record", 6), (rule, key) == ("agreement", 0)
                if (rule, key) == ("certificate", 8):
                    value, may_be_shorter = value * 16, True  # noqa: PLW2901 - as long as it may be
                wrong += [value[:-1]] * (not may_be_shorter) + [value + b"\0"] * (not holds_cbor)
            cases += [(rule, f"key {key} = {str(bad)[:20]!r}", whole | {key: bad}) for bad in wrong]
        cases.append((rule, "an unknown even key", whole | {98: 0}))
    return [pytest.param(rule, value, id=f"{rule}: {why}") for rule, why, value in cases]


@pytest.mark.parametrize(("rule", "value"), _broken_structures())
def test_each_broken_structure_is_refused_by_code_and_cddl(rule: str, value: dict[int, Any]) -> None:
    encoded = cbor2.dumps(value, canonical=True)
    with pytest.raises(RemoteProtocolError):
        _DECODERS[rule](encoded)
    assert not is_valid(rule, encoded)


def test_a_chain_a_delegation_and_a_list_of_usages_are_valid() -> None:
    signed = _certificate()
    usage = Usage(
        certificate=signed.encoded,
        used_bytes=1,
        shares=1,
        written_bytes=1,
        read_bytes=1,
        first_seen_at=1,
        last_seen_at=1,
        parent=signed.certificate_id,
        revoked_at=1,
    )
    chain = encode_chain((signed,))
    assert is_valid("chain", chain)
    assert is_valid("usages", encode_usages([usage]))
    address = NodeAddress.parse(f"lnstore://{NODE.public_key.hex()}@host:1")
    _, text = bech32m.decode(Delegation((signed,), (address,)).to_text(), ("lnsd",), what="text", version=0)
    assert is_valid("delegation", text)
    assert not is_valid("chain", cbor2.dumps([]))
    assert not is_valid("usages", cbor2.dumps([{0: signed.encoded}]))
    assert not is_valid("delegation", cbor2.dumps({0: chain}))


# --- the manifest ----------------------------------------------------------------------------------------------------

FILE_KEY = b"\x07" * 32


def _manifest() -> manifest.Manifest:
    ids = tuple(ShareId(bytes([i]) * 32) for i in range(5))
    return manifest.Manifest(3, 5, 100, (manifest.SegmentShares(116, 39, ids),))


def test_manifest_and_its_parts_are_valid() -> None:
    """The blob, and both parts as they are inside their boxes."""
    blob = manifest.encode(_manifest(), FILE_KEY)
    assert is_valid("manifest", blob)
    boxes = cbor.decode(blob, what="manifest")
    verify = manifest._open(caps.verify_key(FILE_KEY), boxes[2])
    read = manifest._open(manifest._read_key(FILE_KEY), boxes[4])
    assert is_valid("manifest-verify-part", cbor.encode(verify))
    assert is_valid("manifest-read-part", cbor.encode(read))


def test_items_of_a_tree_are_valid() -> None:
    cap = caps.ReadCap(FILE_KEY, ShareId(bytes(32)))
    items: dict[str, trees.Head | trees.Object | trees.Entry] = {
        "tree-head": trees.Head(5),
        "tree-object": trees.Object(cap, 10),
        "tree-entry": trees.Entry(trees.Kind.FILE, b"a", 0o644, 7, 10, 0, 0),
    }
    for rule, item in items.items():
        assert is_valid(rule, trees.encode(item)[4:])
    link = trees.encode(trees.Entry(trees.Kind.SYMLINK, b"b", 0o777, 7, target=b"a"))[4:]
    assert is_valid("tree-entry", link)
    assert not is_valid("tree-entry", trees.encode(trees.Head(5))[4:])


_VERIFY = {0: 3, 2: 5, 4: [[116, 39, bytes(160)]]}


@pytest.mark.parametrize(
    "part",
    [
        _VERIFY | {0: 0},
        _VERIFY | {2: 257},
        _VERIFY | {4: []},
        _VERIFY | {4: [[0, 39, bytes(160)]]},
        _VERIFY | {4: [[(16 << 20) + 1, 5592406, bytes(160)]]},
        _VERIFY | {4: [[116, 0, bytes(160)]]},
        _VERIFY | {4: [[116, (4 << 20) + 1, bytes(160)]]},
        _VERIFY | {4: [[116, 39, b""]]},
        _VERIFY | {4: [["116", 39, bytes(160)]]},
        _VERIFY | {4: [[116, 39]]},
        _VERIFY | {6: 0},
        {0: 3, 2: 5},
    ],
)
def test_each_broken_verify_part_is_refused_by_code_and_cddl(part: dict[int, Any]) -> None:
    verify_key = caps.verify_key(FILE_KEY)
    blob = cbor.encode({0: 1, 2: manifest._seal(verify_key, part), 4: b""})
    with pytest.raises(RemoteProtocolError):
        manifest.decode_verify(blob, verify_key)
    assert not is_valid("manifest-verify-part", cbor2.dumps(part, canonical=True))


@pytest.mark.parametrize(
    "blob",
    [
        {0: 2, 2: bytes(32), 4: bytes(32)},
        {0: 1, 2: bytes(31), 4: bytes(32)},
        {0: 1, 2: bytes(32)},
        {0: 1, 2: 5, 4: bytes(32)},
    ],
)
def test_each_broken_blob_is_refused_by_code_and_cddl(blob: dict[int, Any]) -> None:
    encoded = cbor2.dumps(blob, canonical=True)
    with pytest.raises(RemoteProtocolError):
        manifest.decode(encoded, FILE_KEY)
    assert not is_valid("manifest", encoded)
