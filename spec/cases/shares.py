"""03: share ids, range proofs, and the proofs of rent."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from cases.common import (
    LEAF,
    NODE_ID,
    Case,
    hex_of,
    key,
    material,
)
from lnstore_protocol import merkle, messages, proofs
from lnstore_protocol.ids import NodeId, ShareId


def merkle_cases() -> list[Case]:
    """Share ids over the sizes where the tree changes shape; range proofs; and each way a proof can be wrong."""
    cases: list[Case] = []
    for size in (1, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF, 3 * LEAF, 5 * LEAF + 7, 8 * LEAF, messages.MAX_SHARE_BYTES):
        data = {"seed": "share", "bytes": size}
        cases.append(
            {"name": f"id of {size} bytes", "op": "id", "data": data, "id": merkle.share_id(material(data)).hex()}
        )
    whole: Case = {"seed": "share", "bytes": 5 * LEAF + 7}
    size, hashes = whole["bytes"], merkle.leaf_hashes(material(whole))
    share_id = merkle.share_id(material(whole)).hex()

    def cut(first: int, last: int) -> Case:
        start, end = merkle.leaf_span(size, first, last)
        return {
            "op": "range",
            "id": share_id,
            "share_bytes": size,
            "offset": start,
            "payload": {**whole, "slice": [start, end]},
            "proof": merkle.range_proof(hashes, first, last).hex(),
        }

    for first, last in ((0, 0), (0, 5), (1, 3), (4, 4), (5, 5), (2, 5)):
        cases.append({"name": f"leaves {first} to {last} of 6", **cut(first, last)})
    good = cut(1, 3)
    proof = good["proof"]
    wrong: list[tuple[str, Case, str]] = [
        ("another id", {"id": key("other").hex()}, "ROOT_MISMATCH"),
        ("a byte of the first leaf changed", {"payload": {**good["payload"], "flip": 0}}, "ROOT_MISMATCH"),
        ("a byte of the last leaf changed", {"payload": {**good["payload"], "flip": 3 * LEAF - 1}}, "ROOT_MISMATCH"),
        ("proof without its last hash", {"proof": proof[:-64]}, "ROOT_MISMATCH"),
        ("proof with a hash too many", {"proof": proof + "00" * 32}, "ROOT_MISMATCH"),
        ("proof with a byte too many", {"proof": proof + "00"}, "ROOT_MISMATCH"),
        ("proof with its hashes exchanged", {"proof": proof[64:128] + proof[:64] + proof[128:]}, "ROOT_MISMATCH"),
        ("empty proof", {"proof": ""}, "ROOT_MISMATCH"),
        ("one byte less claimed", {"share_bytes": size - 1}, "ROOT_MISMATCH"),
        ("one leaf less claimed", {"share_bytes": 5 * LEAF}, "ROOT_MISMATCH"),
        ("one leaf more claimed", {"share_bytes": 6 * LEAF + 7}, "ROOT_MISMATCH"),
        ("leaves of another offset", {"offset": 0}, "ROOT_MISMATCH"),
        ("offset not a multiple of a leaf", {"offset": LEAF + 1}, "RANGE_INVALID"),
        ("no payload", {"payload": {**whole, "slice": [0, 0]}}, "RANGE_INVALID"),
        ("payload cut within a leaf", {"payload": {**whole, "slice": [LEAF, 4 * LEAF - 1]}}, "RANGE_INVALID"),
        ("range beyond the share", {"offset": 4 * LEAF}, "RANGE_INVALID"),
        ("share above 4 MiB claimed", {"share_bytes": messages.MAX_SHARE_BYTES + 1}, "RANGE_INVALID"),
        ("empty share claimed", {"share_bytes": 0}, "RANGE_INVALID"),
    ]
    return cases + [{"name": name, **good, **change, "error": error} for name, change, error in wrong]


def proof_cases() -> list[Case]:
    """Nonces, positions, answers, tokens; the sample and its checks; the fold."""
    secret = blake3(key("account"), derive_key_context="lnstore account secret v1").digest()
    audit, token = proofs.audit_key(secret), proofs.token_key(secret)
    keys = {"op": "keys", "seed": key("account").hex(), "audit_key": audit.hex(), "token_key": token.hex()}
    cases: list[Case] = [{"name": "keys from the account's seed", **keys}]
    nonces = [proofs.audit_nonce(audit, NODE_ID, t) for t in range(3)]
    cases += [
        {
            "name": f"nonce {t}",
            "op": "nonce",
            "audit_key": audit.hex(),
            "node_id": NODE_ID.hex(),
            "t": t,
            "nonce": nonces[t].hex(),
        }
        for t in range(3)
    ]
    shares = [
        {"seed": f"proof {i}", "bytes": size} for i, size in enumerate((1, 511, 512, 513, 16_384, 100_000, 1 << 20))
    ]
    folded = []
    for data in shares:
        share = material(data)
        share_id = merkle.share_id(share)
        answer = proofs.answer(nonces[1], share_id, share)
        tokens = proofs.make_tokens(share, share_id, audit, token, NODE_ID, start=0, count=3)
        folded.append((share_id, answer))
        cases.append(
            {
                "name": f"a share of {len(share)} bytes",
                "op": "answer",
                "nonce": nonces[1].hex(),
                "t": 1,
                "data": data,
                "id": share_id.hex(),
                "positions": proofs.challenge_positions(nonces[1], share_id, len(share)),
                "answer": answer.hex(),
                "audit_key": audit.hex(),
                "token_key": token.hex(),
                "node_id": NODE_ID.hex(),
                "tokens": tokens.hex(),
            }
        )
    ids = [share_id for share_id, _ in folded]
    sample = proofs.select_sample(nonces[1], ids)
    answers = dict(folded)
    preimage = proofs.fold(nonces[1], [(share_id, answers[share_id]) for share_id in sample])
    good: Case = {
        "op": "sample",
        "nonce": nonces[1].hex(),
        "expected": hex_of(sorted(ids)),
        "sample": hex_of(sample),
        "lost": [],
        "missing": [],
    }
    cases += [
        {
            "name": "the fold of all seven",
            "op": "fold",
            "nonce": nonces[1].hex(),
            "answers": [[share_id.hex(), answers[share_id].hex()] for share_id in sample],
            "preimage": preimage.hex(),
            "payment_hash": proofs.payment_hash(preimage).hex(),
        },
        {
            "name": "the fold of nothing",
            "op": "fold",
            "nonce": nonces[1].hex(),
            "answers": [],
            "preimage": proofs.fold(nonces[1], []).hex(),
            "payment_hash": proofs.payment_hash(proofs.fold(nonces[1], [])).hex(),
        },
        {"name": "the whole sample", **good},
        {"name": "nothing expected, nothing sampled", **good, "expected": [], "sample": []},
        {"name": "the node holds one that the client does not know", **good, "expected": hex_of(sorted(ids)[1:])},
        {"name": "one admitted as lost", **good, "sample": hex_of(sample[1:]), "lost": hex_of(sample[:1])},
        {"name": "one left out", **good, "sample": hex_of(sample[:3] + sample[4:]), "missing": hex_of(sample[3:4])},
        {"name": "all left out", **good, "sample": [], "missing": hex_of(sample)},
        {"name": "in order of ids", **good, "sample": hex_of(sorted(ids)), "error": "MALFORMED"},
        {"name": "two exchanged", **good, "sample": hex_of([sample[1], sample[0], *sample[2:]]), "error": "MALFORMED"},
        {"name": "one twice", **good, "sample": hex_of([sample[0], *sample]), "error": "MALFORMED"},
        {"name": "one both sampled and lost", **good, "lost": hex_of(sample[2:3]), "error": "MALFORMED"},
    ]
    crowd = sorted((ShareId(key(f"crowd {i}")) for i in range(600)), key=lambda x: proofs.sample_key(nonces[2], x))
    many: Case = {"op": "sample", "nonce": nonces[2].hex(), "crowd": 600, "lost": [], "missing": []}
    cases += [
        {"name": "512 of 600", **many, "take": [0, 512]},
        {
            "name": "the 511 smallest of 600 and the 513th",
            **many,
            "take": [0, 511],
            "and": 512,
            "missing": hex_of(crowd[511:512]),
        },
        {"name": "513 of 600", **many, "take": [0, 513], "error": "MALFORMED"},
    ]
    return cases + _tables() + _settling(nonces, token, folded, shares)


def _tables() -> list[Case]:
    """Payloads of put_tokens."""

    def payload(shares: int, count: int) -> dict[str, Any]:
        return {"seed": "token tables", "bytes": shares * (32 + 16 * count)}

    cases: list[Case] = []
    for name, shares, start, count in (
        ("tokens of one share", 1, 0, 24),
        ("one token of each of three shares", 3, 7, 1),
        ("tokens of 1,024 shares", 1024, 24, 2),
        ("the last tokens that there are", 1, messages.TOKEN_INDICES - 24, 24),
    ):
        tables = proofs.split_token_tables(material(payload(shares, count)), start, count)
        first, last = tables[0], tables[-1]
        cases.append(
            {
                "name": name,
                "op": "tables",
                "payload": payload(shares, count),
                "start": start,
                "count": count,
                "shares": shares,
                "first": first[0].hex() + first[1].hex(),
                "last": last[0].hex() + last[1].hex(),
            }
        )
    return cases + [
        {
            "name": name,
            "op": "tables",
            "payload": {"seed": "token tables", "bytes": size},
            "start": start,
            "count": count,
            "error": "MALFORMED",
        }
        for name, size, start, count in (
            ("no tokens for a share", 32, 0, 0),
            ("25 tokens for a share", 32 + 25 * 16, 0, 25),
            ("tokens of no share", 0, 0, 24),
            ("a byte too few for a share and its tokens", 415, 0, 24),
            ("a byte too many for a share and its tokens", 417, 0, 24),
            ("a token too few for the second share", 2 * 416 - 16, 0, 24),
            ("tokens of 1,025 shares", 1025 * 48, 0, 1),
            ("a token past the last index", 416, messages.TOKEN_INDICES - 23, 24),
            ("the first index that there is not", 48, messages.TOKEN_INDICES, 1),
        )
    ]


def _settling(nonces: list[bytes], token: bytes, folded: list[tuple[ShareId, bytes]], shares: list[Case]) -> list[Case]:
    """What a node answers to rent payment 1, and whether the client pays: `refused` names the rule if it does not."""
    secret = blake3(key("account"), derive_key_context="lnstore account secret v1").digest()
    audit, answers, t = proofs.audit_key(secret), dict(folded), 1
    datas = {share_id: material(data) for (share_id, _), data in zip(folded, shares, strict=True)}
    order = proofs.select_sample(nonces[1], answers)

    def token_of(share_id: ShareId, at: int = t, node: NodeId = NODE_ID) -> bytes:
        return proofs.make_tokens(datas[share_id], share_id, audit, token, node, at, 1)

    def sample_of(ids: list[ShareId]) -> bytes:
        return b"".join(share_id + token_of(share_id) for share_id in ids)

    def hash_of(ids: list[ShareId], nonce: bytes = nonces[1]) -> str:
        preimage = proofs.fold(nonce, [(share_id, answers[share_id]) for share_id in ids])
        return proofs.payment_hash(preimage).hex()

    whole, first, last = sample_of(order), order[0], order[-1]
    preimage = proofs.fold(nonces[1], [(share_id, answers[share_id]) for share_id in order])
    good: Case = {
        "op": "settle",
        "nonce": nonces[1].hex(),
        "t": t,
        "token_key": token.hex(),
        "node_id": NODE_ID.hex(),
        "expected": hex_of(order),
        "sample": whole.hex(),
        "lost": "",
        "payment_hash": hash_of(order),
    }

    def with_token(share_id: ShareId, other: bytes) -> str:
        at = whole.index(share_id) + 32
        return (whole[:at] + other + whole[at + 16 :]).hex()

    def flipped(share_id: ShareId) -> str:
        right = token_of(share_id)
        return with_token(share_id, right[:-1] + bytes([right[-1] ^ 1]))

    masked_as_before = bytes(
        a ^ b for a, b in zip(answers[first], blake3(first + t.to_bytes(4, "big"), key=token).digest(16), strict=True)
    )
    damaged = bytearray(datas[last])
    damaged[proofs.challenge_positions(nonces[1], last, len(damaged))[0] * proofs.SECTOR_BYTES] ^= 1
    wrong_answer = dict(answers) | {last: proofs.answer(nonces[1], last, bytes(damaged))}
    stranger = ShareId(key("stranger share"))
    with_stranger = sorted([*order, stranger], key=lambda x: proofs.sample_key(nonces[1], x))
    strange = b"".join(i + (bytes(16) if i == stranger else token_of(i)) for i in with_stranger)
    wrong: list[tuple[str, Case, str]] = [
        *((f"a bit of token {i} changed", {"sample": flipped(order[i])}, "P-R13") for i in range(len(order))),
        ("a token of the next index", {"sample": with_token(first, token_of(first, t + 1))}, "P-R13"),
        ("a token of the index before", {"sample": with_token(first, token_of(first, t - 1))}, "P-R13"),
        (
            "a token made for another node",
            {"sample": with_token(first, token_of(first, t, NodeId(key("other node"))))},
            "P-R13",
        ),
        ("a mask without the node id", {"sample": with_token(first, masked_as_before)}, "P-R13"),
        ("16 zero bytes for a token", {"sample": with_token(first, bytes(16))}, "P-R13"),
        ("the answer itself for a token", {"sample": with_token(first, answers[first])}, "P-R13"),
        (
            "an answer over a damaged sector",
            {"payment_hash": proofs.payment_hash(proofs.fold(nonces[1], [(i, wrong_answer[i]) for i in order])).hex()},
            "P-R13",
        ),
        ("locked to another nonce", {"payment_hash": hash_of(order, nonces[2])}, "P-R13"),
        ("locked to another order", {"payment_hash": hash_of(order[::-1])}, "P-R13"),
        ("locked to all but the last", {"payment_hash": hash_of(order[:-1])}, "P-R13"),
        ("locked to nothing", {"payment_hash": hash_of([])}, "P-R13"),
        ("the preimage for a payment hash", {"payment_hash": preimage.hex()}, "P-R13"),
        ("the first left out", {"sample": sample_of(order[1:]).hex(), "payment_hash": hash_of(order[1:])}, "P-R10"),
        ("the last left out", {"sample": sample_of(order[:-1]).hex(), "payment_hash": hash_of(order[:-1])}, "P-R10"),
        ("an empty sample", {"sample": "", "payment_hash": key("any hash").hex()}, "P-R14"),
        ("one lost and left out", {"sample": sample_of(order[1:]).hex(), "lost": first.hex()}, "P-R11"),
        ("one sampled and lost", {"lost": first.hex()}, "P-R11"),
        (
            "another id lost that is not the client's, and sampled",
            {"sample": strange.hex(), "lost": stranger.hex()},
            "P-R9",
        ),
        ("one in the sample that is not the client's", {"sample": strange.hex()}, "P-R12"),
        ("two exchanged in the sample", {"sample": sample_of([order[1], order[0], *order[2:]]).hex()}, "P-R9"),
        ("one twice in the sample", {"sample": sample_of([first, *order]).hex()}, "MA-R20"),
        ("a byte too few in the sample", {"sample": whole[:-1].hex()}, "MA-R20"),
        ("a byte too many in the sample", {"sample": whole.hex() + "00"}, "MA-R20"),
        ("an id without a token", {"sample": whole.hex() + first.hex()}, "MA-R20"),
        ("half an id lost", {"lost": first.hex()[:32]}, "MA-R20"),
        ("a byte too many lost", {"lost": key("lost").hex() + "00"}, "MA-R20"),
    ]
    return [
        {"name": "rent 1 settles", **good, "preimage": preimage.hex()},
        {
            "name": "rent 1 settles, one admitted as lost that was dropped since",
            **good,
            "expected": hex_of(order[1:]),
            "lost": first.hex(),
            "sample": sample_of(order[1:]).hex(),
            "payment_hash": hash_of(order[1:]),
            "preimage": proofs.fold(nonces[1], [(i, answers[i]) for i in order[1:]]).hex(),
        },
        *({"name": name, **good, **change, "refused": rule} for name, change, rule in wrong),
    ]
