"""05a: certificates, chains, delegations as text, and what a node lists of them."""

from __future__ import annotations

from typing import Any

from cases.common import ACCOUNT, ACCOUNT_ID, NODE_ID, NOW, STRANGER, Case, key
from lnstore_protocol import bech32m, cbor, delegation
from lnstore_protocol.delegation import Certificate, Chain, Delegation, Rights, Serial, SignedCertificate
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, NodeAddress, NodeId
from lnstore_protocol.usages import Usage, encode_usages

GIB = 1 << 30
DELEGATE, BELOW = Identity(key("delegate")), Identity(key("below"))
OTHER_NODE = NodeId(key("other node"))
NODES = delegation.join_nodes([NODE_ID, OTHER_NODE])
ADDRESS = f"lnstore://{NODE_ID.hex()}@node.example:7460"


def _certificate(issuer: Identity, subject: Identity, **changes: Any) -> Certificate:
    values: dict[str, Any] = {
        "account_id": ACCOUNT_ID,
        "issuer": AccountId(issuer.public_key),
        "subject": AccountId(subject.public_key),
        "serial": Serial(key(f"serial {issuer!r}")[:16]),
        "nodes": b"",
        "maximum_bytes": 5 * GIB,
        "maximum_read_bytes": 10 * GIB,
        "expires_at": NOW + 1000,
        "rights": Rights.READ_WRITE,
        "levels": 0,
    }
    return Certificate(**values | changes)


def _map(certificate: Certificate, **changes: Any) -> dict[int, Any]:
    """The map of a certificate, with fields changed to what the library would not sign."""
    plain = {bytes: bytes, int: int}
    body = {}
    for number, (name, _) in delegation._CERTIFICATE.items():  # noqa: SLF001 - to write what the library would not
        value = changes.get(name, getattr(certificate, name))
        body[number] = next(base(value) for base in plain if isinstance(value, base))
    return body


def _signed(body: dict[int, Any], signer: Identity, purpose: str = "delegation") -> bytes:
    return cbor.encode(body | {64: signer.sign(purpose, cbor.encode(body))})


FIRST = _certificate(ACCOUNT, DELEGATE, levels=1)
SECOND = _certificate(DELEGATE, BELOW, maximum_bytes=GIB, maximum_read_bytes=0, rights=Rights.WRITE)
ONE: Chain = (FIRST.sign(ACCOUNT),)
TWO: Chain = (*ONE, SECOND.sign(DELEGATE))


def _verify(name: str, chain: bytes, presenter: Identity, **more: Any) -> Case:
    return {
        "name": name,
        "op": "verify",
        "chain": chain.hex(),
        "presenter": presenter.public_key.hex(),
        "node_id": NODE_ID.hex(),
        "now": NOW,
        **more,
    }


def delegation_cases() -> list[Case]:
    """Everything that 05a has readers judge."""
    return [*_chains(), *_senseless(), *_widened(), *_texts(), *_lists()]


def _accepted(name: str, chain: Chain, presenter: Identity, **more: Any) -> Case:
    last = chain[-1].certificate
    return _verify(name, delegation.encode_chain(chain), presenter, **more) | {
        "account_id": ACCOUNT_ID.hex(),
        "certificate_ids": [signed.certificate_id.hex() for signed in chain],
        "maximum_bytes": last.maximum_bytes,
        "maximum_read_bytes": last.maximum_read_bytes,
        "rights": int(last.rights),
    }


def _chains() -> list[Case]:
    one, two = delegation.encode_chain(ONE), delegation.encode_chain(TWO)
    first, second = TWO
    bound = _certificate(ACCOUNT, DELEGATE, levels=1, nodes=NODES)
    elsewhere = _certificate(ACCOUNT, DELEGATE, nodes=bytes(OTHER_NODE)).sign(ACCOUNT)
    odd = _map(FIRST) | {31: [[[0]]]}
    body = cbor.decode(first.encoded, what="certificate")
    chains: list[tuple[str, bytes, Identity, str]] = [
        ("empty", b"", DELEGATE, "MALFORMED"),
        ("no certificate", cbor.encode([]), DELEGATE, "MALFORMED"),
        ("a certificate without an array", first.encoded, DELEGATE, "MALFORMED"),
        ("an array of maps", cbor.encode([body]), DELEGATE, "MALFORMED"),
        ("cut short", two[:-1], BELOW, "MALFORMED"),
        ("a byte after its end", two + b"\0", BELOW, "MALFORMED"),
        ("three certificates", cbor.encode([first.encoded, second.encoded, second.encoded]), BELOW, "MALFORMED"),
        ("longer than 2048 bytes", cbor.encode([first.encoded, bytes(2048)]), BELOW, "TOO_LARGE"),
        (
            "a certificate of more than 1024 bytes",
            cbor.encode([_signed(odd | {31: bytes(1000)}, ACCOUNT)]),
            DELEGATE,
            "TOO_LARGE",
        ),
        ("the same certificate twice", cbor.encode([first.encoded, first.encoded]), DELEGATE, "DELEGATION_REFUSED"),
        ("the second certificate alone", cbor.encode([second.encoded]), BELOW, "DELEGATION_REFUSED"),
        ("in the wrong order", cbor.encode([second.encoded, first.encoded]), DELEGATE, "DELEGATION_REFUSED"),
        ("no signature", cbor.encode([cbor.encode(_map(FIRST))]), DELEGATE, "BAD_SIGNATURE"),
        ("a signature of 63 bytes", cbor.encode([cbor.encode(body | {64: body[64][:-1]})]), DELEGATE, "BAD_SIGNATURE"),
        ("signed by its subject", cbor.encode([_signed(_map(FIRST), DELEGATE)]), DELEGATE, "BAD_SIGNATURE"),
        ("signed by a stranger", cbor.encode([_signed(_map(FIRST), STRANGER)]), DELEGATE, "BAD_SIGNATURE"),
        (
            "signed for another purpose",
            cbor.encode([_signed(_map(FIRST), ACCOUNT, "record")]),
            DELEGATE,
            "BAD_SIGNATURE",
        ),
        (
            "more bytes under the signature",
            cbor.encode([cbor.encode(body | {10: 6 * GIB})]),
            DELEGATE,
            "BAD_SIGNATURE",
        ),
        (
            "another subject under the signature",
            one.replace(DELEGATE.public_key, STRANGER.public_key),
            STRANGER,
            "BAD_SIGNATURE",
        ),
        ("presented by the account's holder", one, ACCOUNT, "DELEGATION_REFUSED"),
        ("presented by a stranger", one, STRANGER, "DELEGATION_REFUSED"),
        ("of two, presented by the one between", two, DELEGATE, "DELEGATION_REFUSED"),
        ("for another node", delegation.encode_chain((elsewhere,)), DELEGATE, "DELEGATION_REFUSED"),
        ("an unknown even key", cbor.encode([_signed(_map(FIRST) | {20: 0}, ACCOUNT)]), DELEGATE, "UNKNOWN_FEATURE"),
    ]
    return [
        _accepted("one certificate", ONE, DELEGATE),
        _accepted("two certificates", TWO, BELOW),
        _accepted("in the last second", TWO, BELOW, now=NOW + 999),
        _accepted("for this node and another", (bound.sign(ACCOUNT),), DELEGATE),
        _accepted(
            "an unknown odd key, under the signature",
            (SignedCertificate.decode(_signed(odd, ACCOUNT)),),
            DELEGATE,
        ),
        *(_verify(f"chain: {name}", chain, who) | {"error": error} for name, chain, who, error in chains),
        _verify("expired", one, DELEGATE, now=NOW + 1000) | {"error": "DELEGATION_ENDED"},
        _verify(
            "the second expired before the first",
            delegation.encode_chain((*ONE, _certificate(DELEGATE, BELOW, expires_at=NOW).sign(DELEGATE))),
            BELOW,
        )
        | {"error": "DELEGATION_ENDED"},
    ]


def _senseless() -> list[Case]:
    ids = sorted(key(f"node {number}") for number in range(17))
    faults: list[tuple[str, dict[str, Any]]] = [
        ("nodes of 31 bytes", {"nodes": bytes(31)}),
        ("17 nodes", {"nodes": b"".join(ids)}),
        ("nodes out of order", {"nodes": ids[1] + ids[0]}),
        ("a node twice", {"nodes": ids[0] + ids[0]}),
        ("rights 0", {"rights": 0}),
        ("rights 4", {"rights": 4}),
        ("levels 2", {"levels": 2}),
        ("a serial of 15 bytes", {"serial": bytes(15)}),
        ("a subject of 31 bytes", {"subject": bytes(31)}),
        ("a subject that is the issuer", {"subject": bytes(ACCOUNT_ID)}),
        ("bytes without WRITE", {"rights": 1}),
        ("reading without READ", {"rights": 2}),
    ]
    cases = [
        _verify(f"certificate: {name}", cbor.encode([_signed(_map(FIRST, **changes), ACCOUNT)]), DELEGATE)
        for name, changes in faults
    ]
    bare = _map(FIRST)
    cases += [
        _verify(
            f"certificate: without key {gone}",
            cbor.encode([_signed({k: v for k, v in bare.items() if k != gone}, ACCOUNT)]),
            DELEGATE,
        )
        for gone in bare
    ]
    back = _map(SECOND, subject=bytes(ACCOUNT_ID))
    cases.append(
        _verify("certificate: back to the account", cbor.encode([ONE[0].encoded, _signed(back, DELEGATE)]), ACCOUNT)
    )
    return [case | {"error": "MALFORMED"} for case in cases]


def _widened() -> list[Case]:
    """Links that do not follow from the one above."""
    narrow = {"maximum_bytes": GIB, "maximum_read_bytes": GIB, "nodes": bytes(NODE_ID)}
    links: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("another account", {}, {"account_id": AccountId(STRANGER.public_key)}),
        ("a byte more", narrow, {"nodes": bytes(NODE_ID), "maximum_bytes": GIB + 1, "maximum_read_bytes": 0}),
        (
            "a byte more of reading",
            narrow,
            {"nodes": bytes(NODE_ID), "maximum_bytes": 0, "maximum_read_bytes": GIB + 1},
        ),
        ("a second longer", {}, {"expires_at": NOW + 1001}),
        ("for ever", {}, {"expires_at": delegation.UNLIMITED}),
        ("every node", narrow, {"maximum_bytes": 0, "maximum_read_bytes": 0}),
        ("another node too", narrow, {"nodes": NODES, "maximum_bytes": 0, "maximum_read_bytes": 0}),
        (
            "writing where only reading was given",
            {"rights": 1, "maximum_bytes": 0},
            {"rights": 2, "maximum_bytes": 0, "maximum_read_bytes": 0},
        ),
        (
            "reading where only writing was given",
            {"rights": 2, "maximum_read_bytes": 0},
            {"rights": 3, "maximum_read_bytes": 0},
        ),
        ("a level again", {}, {"levels": 1}),
        ("what may not be handed on", {"levels": 0}, {}),
    ]
    cases = []
    for name, above, below in links:
        first = _certificate(ACCOUNT, DELEGATE, **{"levels": 1, **above}).sign(ACCOUNT)
        second = _certificate(DELEGATE, BELOW, **below).sign(DELEGATE)
        cases.append(_verify(f"widened: {name}", delegation.encode_chain((first, second)), BELOW))
    strange = _certificate(STRANGER, BELOW).sign(STRANGER)
    cases.append(_verify("widened: issued by a stranger", delegation.encode_chain((*ONE, strange)), BELOW))
    usurped = _certificate(STRANGER, DELEGATE).sign(STRANGER)
    cases.append(_verify("widened: an account of others", delegation.encode_chain((usurped,)), DELEGATE))
    return [case | {"error": "DELEGATION_REFUSED"} for case in cases]


def _texts() -> list[Case]:
    text = Delegation(TWO, (NodeAddress.parse(ADDRESS),)).to_text()
    chain = delegation.encode_chain(TWO)

    def as_text(body: Any, prefix: str = delegation.TEXT_PREFIX, version: int = 0) -> str:
        return bech32m.encode(prefix, version, cbor.encode(body))

    at = text.index("q", 10)
    wrong = {
        "empty": "",
        "only the prefix": "lnsd1",
        "another prefix": as_text({0: chain, 2: [ADDRESS]}, "lnsr"),
        "version 1": as_text({0: chain, 2: [ADDRESS]}, version=1),
        "a wrong letter": text[:at] + "p" + text[at + 1 :],
        "a letter too few": text[:-1],
        "in small and capital letters": text[:-1].upper() + text[-1],
        "not a map": as_text([chain, [ADDRESS]]),
        "no chain": as_text({2: [ADDRESS]}),
        "no addresses": as_text({0: chain}),
        "a chain that is none": as_text({0: b"", 2: []}),
        "an address that is none": as_text({0: chain, 2: ["node.example"]}),
        "an address that is bytes": as_text({0: chain, 2: [ADDRESS.encode()]}),
        "65 addresses": as_text({0: chain, 2: [ADDRESS] * 65}),
        "an unknown even key": as_text({0: chain, 2: [], 4: 0}),
        "a byte after the map": bech32m.encode("lnsd", 0, cbor.encode({0: chain, 2: []}) + b"\0"),
        "a widened chain": as_text({0: bytes.fromhex(_widened()[0]["chain"]), 2: []}),
    }
    whole: Case = {"op": "text", "text": text, "chain": chain.hex(), "addresses": [ADDRESS]}
    return [
        {"name": "text", **whole},
        {"name": "text: in capital letters", **whole, "text": text.upper()},
        *({"name": f"text: {name}", "op": "text", "text": bad, "error": "MALFORMED"} for name, bad in wrong.items()),
    ]


def _lists() -> list[Case]:
    first, second = TWO

    def usage(signed: SignedCertificate, **changes: Any) -> Usage:
        values: dict[str, Any] = {
            "certificate": signed.encoded,
            "used_bytes": 3,
            "shares": 2,
            "written_bytes": 4,
            "read_bytes": 5,
            "first_seen_at": NOW,
            "last_seen_at": NOW + 7,
        }
        return Usage(**values | changes)

    below = usage(second, parent=first.certificate_id)
    entries = sorted(
        [(first.certificate_id, usage(first, revoked_at=NOW)), (second.certificate_id, below)], key=lambda pair: pair[0]
    )
    listed = [entry for _, entry in entries]
    strangers = _certificate(STRANGER, DELEGATE, account_id=AccountId(STRANGER.public_key)).sign(STRANGER)
    good = {
        "name": "list",
        "op": "list",
        "account_id": ACCOUNT_ID.hex(),
        "limit": 2,
        "payload": encode_usages(listed).hex(),
    }
    faults: list[tuple[str, bytes, str]] = [
        ("not an array", cbor.encode({}), "MALFORMED"),
        ("more than asked for", encode_usages([*listed, below]), "MALFORMED"),
        ("out of order", encode_usages(listed[::-1]), "MALFORMED"),
        ("the same twice", encode_usages([listed[0], listed[0]]), "MALFORMED"),
        ("not a map", cbor.encode([first.encoded]), "MALFORMED"),
        ("another's certificate", encode_usages([usage(strangers)]), "BAD_SIGNATURE"),
        ("one that a delegate issued, as the account's own", encode_usages([usage(second)]), "BAD_SIGNATURE"),
        ("one whose parent is not there", encode_usages([below]), "BAD_SIGNATURE"),
        (
            "a forged certificate",
            encode_usages([usage(first, certificate=first.encoded[:-1] + b"\0")]),
            "BAD_SIGNATURE",
        ),
        ("a byte after its end", encode_usages(listed) + b"\0", "MALFORMED"),
    ]
    return [
        good | {"certificate_ids": [certificate_id.hex() for certificate_id, _ in entries]},
        good | {"name": "list: empty", "payload": "80", "certificate_ids": []},
        *(
            good | {"name": f"list: {name}", "payload": payload.hex(), "error": error}
            for name, payload, error in faults
        ),
    ]
