"""Writes spec/vectors/*.json: valid and invalid cases for every format of the specification.

The invoices and the signature of the transcript are made with the simulated Lightning of lnstore; all else needs only
lnstore_protocol. Run it after a change of the protocol; a test fails while the files differ from what it would write.
Everything is a function of fixed seeds. Expected results come from the code, expected errors are written by hand in
cases/, and the tests replay both.

In the files bytes are hex. An object {"seed": s, "bytes": n} stands for the first n bytes of the extended BLAKE3 of the
ASCII text "lnstore vector s"; with "slice": [a, b] for those from a to b of them, and with "flip": i its byte i is
xored with 1. A case with an "error" must fail with the error of that name (06), one with "refused" must be refused by
the client for the requirement of that number, all others must give what they say.
"""

from __future__ import annotations

import json
from pathlib import Path

from cases import delegation, files, receipts, rent, shares, transcript, transport, trees, wire

VECTORS = Path(__file__).parent / "vectors"
SPEC_VERSION = "1.0 draft 2"

FILES = {
    "transport": ("01", transport.transport_cases),
    "merkle": ("03", shares.merkle_cases),
    "codec": ("02", wire.codec_cases),
    "frames": ("01", wire.frame_cases),
    "structures": ("05", rent.structure_cases),
    "rent": ("05", rent.rent_cases),
    "delegation": ("05a", delegation.delegation_cases),
    "receipts": ("05b", receipts.receipt_cases),
    "proofs": ("03", shares.proof_cases),
    "caps": ("04", files.cap_cases),
    "content": ("04", files.content_cases),
    "manifest": ("04", files.manifest_cases),
    "tree": ("04", trees.tree_cases),
}


def generate() -> dict[str, str]:
    """Every file's text by its name."""
    texts = {
        f"{name}.json": {"spec": SPEC_VERSION, "document": document, "cases": make()}
        for name, (document, make) in FILES.items()
    }
    texts["session.json"] = {"spec": SPEC_VERSION, "document": "01", **transcript.session()}
    return {name: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for name, value in texts.items()}


def main() -> None:
    """Write the files, and remove those that are not generated any more."""
    VECTORS.mkdir(exist_ok=True)
    texts = generate()
    for old in VECTORS.glob("*.json"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (VECTORS / name).write_text(text)
        print(f"{name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
