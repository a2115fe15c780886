"""04: capabilities, records, manifests."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from cases.common import (
    Case,
    hex_of,
    key,
    material,
)
from lnstore_protocol import bech32m, caps, cbor, content, manifest
from lnstore_protocol.ids import ShareId


def _bech32(prefix: str, symbols: list[int], constant: int) -> str:
    check = bech32m._polymod(bech32m._expand(prefix) + symbols + [0] * 6) ^ constant  # noqa: SLF001 - wrong texts on purpose
    symbols = symbols + [check >> shift & 31 for shift in range(25, -1, -5)]
    return f"{prefix}1" + "".join(bech32m._ALPHABET[symbol] for symbol in symbols)  # noqa: SLF001


def cap_cases() -> list[Case]:
    """Capabilities: texts and what they hold."""
    file_key, manifest_id = key("file"), ShareId(key("manifest"))
    read = caps.ReadCap(file_key, manifest_id)
    verify = read.verify_cap()
    text = read.to_text()
    symbols = [bech32m._SYMBOL[letter] for letter in text[5:-6]]  # noqa: SLF001
    read_case = {"kind": "read", "key": file_key.hex(), "manifest_id": manifest_id.hex()}
    wrong = {
        "empty": "",
        "only the prefix": "lnsr1",
        "another prefix": _bech32("lnsx", symbols, 0x2BC830A3),
        "no separator": text.replace("1", "", 1),
        "mixed case": text[:-1] + text[-1].upper() if text[-1].isalpha() else text[:-2] + text[-2:].upper(),
        "a wrong letter": text[:40] + ("q" if text[40] != "q" else "p") + text[41:],
        "two letters exchanged": text[:50] + text[51] + text[50] + text[52:],
        "a letter too few": text[:-1],
        "a letter too many": text + "q",
        "a letter outside the alphabet": text[:20] + "b" + text[21:],
        "a space within": text[:20] + " " + text[21:],
        "checksum of bech32 instead of bech32m": _bech32("lnsr", symbols, 1),
        "the other prefix over the same data": "lnsv" + text[4:],
        "version 1": _bech32("lnsr", [1, *symbols[1:]], 0x2BC830A3),
        "left-over bits not zero": _bech32("lnsr", [*symbols[:-1], symbols[-1] | 1], 0x2BC830A3),
        "a byte too few": _bech32("lnsr", symbols[:-2], 0x2BC830A3),
    }
    return [
        {"name": "read", "text": text, **read_case},
        {
            "name": "verify, of the same file",
            "text": verify.to_text(),
            "kind": "verify",
            "key": verify.verify_key.hex(),
            "manifest_id": manifest_id.hex(),
        },
        {"name": "in capital letters", "text": text.upper(), **read_case},
        *({"name": name, "text": value, "error": "MALFORMED"} for name, value in wrong.items()),
    ]


def content_cases() -> list[Case]:
    """Records. Ciphertexts are named by their BLAKE3; changes are told as edits of the right one."""
    file_key = key("file")
    cases: list[Case] = []
    for size in (0, 1, 65_535, 65_536, 65_537, 131_072):
        data = {"seed": "content", "bytes": size}
        cases.append(
            {
                "name": f"{size} bytes",
                "file_key": file_key.hex(),
                "plaintext": data,
                "blake3": blake3(_sealed(file_key, material(data))).hexdigest(),
            }
        )
    base: Case = {"file_key": file_key.hex(), "plaintext": {"seed": "content", "bytes": 131_100}}
    edits: list[tuple[str, Case]] = [
        ("the last record is missing", {"keep": [0, 131_104]}),
        ("the last record is cut", {"keep": [0, 131_147]}),
        ("the last record is cut within its tag", {"keep": [0, 131_110]}),
        ("the first record is missing", {"keep": [65_552, 131_148]}),
        ("a byte changed", {"flip": 70_000}),
        ("a byte of a tag changed", {"flip": 65_551}),
        ("another file key", {"file_key": key("other").hex()}),
        ("the first two records exchanged", {"order": [1, 0, 2]}),
        ("the last record twice", {"order": [0, 1, 2, 2]}),
        ("nothing", {"keep": [0, 0]}),
    ]
    return cases + [{"name": name, **base, **edit, "error": "MALFORMED"} for name, edit in edits]


def _sealed(file_key: bytes, plaintext: bytes) -> bytes:
    out = bytearray(content.ciphertext_bytes(len(plaintext)))
    content.RecordSealer(file_key).seal_into(plaintext, memoryview(out), first_record=0, last=True)
    return bytes(out)


def manifest_cases() -> list[Case]:
    """Manifests: whole, and each part wrong in one way under the right keys."""
    file_key = key("file")
    verify_key, read_key = caps.verify_key(file_key), manifest._read_key(file_key)  # noqa: SLF001
    ids = [ShareId(key(f"id {i}")) for i in range(10)]
    segments = (manifest.SegmentShares(300, 100, tuple(ids[:5])), manifest.SegmentShares(116, 39, tuple(ids[5:])))
    right = manifest.Manifest(3, 5, 400, segments)
    blob = manifest.encode(right, file_key)
    verify: dict[int, Any] = {0: 3, 2: 5, 4: [[300, 100, b"".join(ids[:5])], [116, 39, b"".join(ids[5:])]]}
    read = {0: 400}

    def made(verify_part: Any = verify, read_part: Any = read, **boxes: Any) -> str:
        seal = manifest._seal  # noqa: SLF001
        body = {0: 1, 2: seal(verify_key, verify_part), 4: seal(read_key, read_part)}
        return cbor.encode(body | {int(k[1:]): v for k, v in boxes.items()}).hex()

    def huge(k: int, size_bytes: int, share_bytes: int) -> str:
        records = -(-size_bytes // content.SEALED_RECORD_BYTES)
        plain = {0: size_bytes - records * content.TAG_BYTES}
        return made({0: k, 2: 5, 4: [[size_bytes, share_bytes, b"".join(ids[:5])]]}, plain)

    body: dict[int, Any] = cbor.decode(blob, what="manifest")
    lone_box = manifest._seal(verify_key, verify)  # noqa: SLF001
    wrong_siv = bytes(16) + manifest._cipher(verify_key, bytes(16)).encrypt(bytes(12), cbor.encode(verify), None)  # noqa: SLF001
    empty = manifest.encode(manifest.Manifest(1, 1, 0, (manifest.SegmentShares(16, 16, (ids[0],)),)), file_key)
    invalid: list[tuple[str, str, str]] = [
        ("empty", "", "MALFORMED"),
        ("a byte after its end", blob.hex() + "00", "MALFORMED"),
        ("version 2", made(_0=2), "UNSUPPORTED_VERSION"),
        ("an unknown even key", made(_6=0), "UNKNOWN_FEATURE"),
        ("no read box", cbor.encode({0: 1, 2: lone_box}).hex(), "MALFORMED"),
        ("a box that is text", made(_4="box"), "MALFORMED"),
        ("a box of 31 bytes", made(_2=bytes(31)), "MALFORMED"),
        ("a byte of the siv changed", made(_2=bytes([body[2][0] ^ 1]) + body[2][1:]), "MALFORMED"),
        ("a byte of the verify box changed", made(_2=body[2][:-1] + bytes([body[2][-1] ^ 1])), "MALFORMED"),
        ("a siv that is not the content's", made(_2=wrong_siv), "MALFORMED"),
        ("boxes exchanged", made(_2=body[4], _4=body[2]), "MALFORMED"),
        ("k is 0", made(verify | {0: 0}), "MALFORMED"),
        ("k above n", made(verify | {0: 6}), "MALFORMED"),
        ("n is 257", made(verify | {2: 257}), "MALFORMED"),
        ("no segment", made(verify | {4: []}), "MALFORMED"),
        ("a share id too few", made(verify | {4: [[300, 100, b"".join(ids[:4])], verify[4][1]]}), "MALFORMED"),
        ("half a share id", made(verify | {4: [[300, 100, b"".join(ids[:5])[:-16]], verify[4][1]]}), "MALFORMED"),
        ("a segment of 0 bytes", made(verify | {4: [[0, 100, b"".join(ids[:5])], verify[4][1]]}), "MALFORMED"),
        (
            "shares too small for their segment",
            made(verify | {4: [[300, 99, b"".join(ids[:5])], verify[4][1]]}),
            "MALFORMED",
        ),
        (
            "shares larger than their segment needs",
            made(verify | {4: [[300, 101, b"".join(ids[:5])], verify[4][1]]}),
            "MALFORMED",
        ),
        ("shares above 4 MiB", huge(1, (4 << 20) + 1, (4 << 20) + 1), "MALFORMED"),
        ("a segment above 16 MiB", huge(5, (16 << 20) + 1, 3_355_444), "MALFORMED"),
        ("a segment that is a map", made(verify | {4: [{0: 300}]}), "MALFORMED"),
        (
            "a segment whose size is true",
            made(verify | {4: [[True, 100, b"".join(ids[:5])], verify[4][1]]}),
            "MALFORMED",
        ),
        ("an unknown even key in the verify part", made(verify | {6: 0}), "UNKNOWN_FEATURE"),
        ("plaintext bytes that do not fit the segments", made(read_part={0: 399}), "MALFORMED"),
        ("no plaintext bytes", made(read_part={}), "MALFORMED"),
        ("a kind that is bytes", made(read_part=read | {1: b"x"}), "MALFORMED"),
    ]
    common = {"file_key": file_key.hex()}
    return [
        {
            "name": "two segments, 3 of 5",
            **common,
            "blob": blob.hex(),
            "verify_key": verify_key.hex(),
            "needed": 3,
            "total": 5,
            "file_bytes": 400,
            "segments": [[s.size_bytes, s.share_bytes, hex_of(list(s.share_ids))] for s in segments],
        },
        {
            "name": "an empty file, 1 of 1",
            **common,
            "blob": empty.hex(),
            "verify_key": verify_key.hex(),
            "needed": 1,
            "total": 1,
            "file_bytes": 0,
            "segments": [[16, 16, hex_of(ids[:1])]],
        },
        {
            "name": "a tree",
            **common,
            "blob": made(read_part=read | {1: 1}),
            "verify_key": verify_key.hex(),
            "needed": 3,
            "total": 5,
            "file_bytes": 400,
            "kind": 1,
            "segments": [[s.size_bytes, s.share_bytes, hex_of(list(s.share_ids))] for s in segments],
        },
        {
            "name": "unknown odd keys",
            **common,
            "blob": made(verify | {7: "later"}, read | {3: b"x"}, _9=1),
            "verify_key": verify_key.hex(),
            "needed": 3,
            "total": 5,
            "file_bytes": 400,
            "segments": [[s.size_bytes, s.share_bytes, hex_of(list(s.share_ids))] for s in segments],
        },
        *({"name": name, **common, "blob": value, "error": error} for name, value, error in invalid),
    ]
