"""What is fuzzed: for each format one function of bytes that only a fault lets fail, and the bytes to begin with.

A target feeds the bytes to every reader of its format, takes RemoteProtocolError (ValueError, where the text comes from
a person) as the answer it is, and fails on any other exception or when an answer contradicts itself. Signatures, seals
and checksums are walls that random bytes never pass; so each target has a mode (the first byte) in which it puts them
right, and what lies behind is reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import cbor2
import msgpack
import pytest
from delegation_target import delegation_corpus, delegations

from lnstore_protocol import bech32m, caps, cbor, codec, content, manifest, merkle, proofs, receipts, terms
from lnstore_protocol.codec import decode_head, encode_head
from lnstore_protocol.connection import (
    NEED_DATA,
    PROLOGUE,
    Connection,
    HandshakeDone,
    PeerClosed,
    Role,
)
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.frames import FrameReader
from lnstore_protocol.identity import Identity, x25519_public
from lnstore_protocol.ids import NodeAddress, NodeId, ShareId
from lnstore_protocol.messages import LEAF_BYTES, MAX_SHARE_BYTES
from lnstore_protocol.noise import CipherState, Handshake
from lnstore_protocol.records import ChunkSealer

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
NODE, ACCOUNT = Identity(b"\x01" * 32), Identity(b"\x02" * 32)
NODE_ID = NodeId(NODE.public_key)
FILE_KEY = b"\x07" * 32
VERIFY_KEY = caps.verify_key(FILE_KEY)
_KEY = b"\x09" * 32
_PAYLOADS = memoryview(bytearray(MAX_SHARE_BYTES))
_MOST_RECORDS = 64

Target = Callable[[bytes], None]


# --- frames and connections ------------------------------------------------------------------------------------------


def _frames_of(pieces: list[bytes]) -> tuple[list[tuple[int, bytes, bytes]], str]:
    reader = FrameReader(lambda count: _PAYLOADS[:count])
    error = ""
    try:
        for piece in pieces:
            reader.feed(memoryview(piece))
    except RemoteProtocolError as exc:
        error = f"{exc.code.name} {exc.request_id}"
    frames = iter(reader.next_frame, None)
    return [(frame.type, frame.head, bytes(frame.payload)) for frame in frames], error


def frames(data: bytes) -> None:
    """A stream of frames, whole and in pieces: the same frames, and the same end."""
    step, stream = (data[0] % 16 + 1 if data else 1), data[1:]
    whole = _frames_of([stream])
    assert whole == _frames_of([stream[at : at + step] for at in range(0, len(stream), step)])
    for number, head, _ in whole[0]:
        assert codec.peek(head)[0] == number


def _open(role: Role) -> Connection:
    """A connection past its handshake, under a key that the target knows."""
    remote = NODE_ID if role is Role.CLIENT else None
    here = Connection(
        role, ACCOUNT if role is Role.CLIENT else NODE, remote=remote, allocate=lambda count: _PAYLOADS[:count]
    )
    here._sender, here._receiver, here._handshake = ChunkSealer(CipherState(_KEY)), CipherState(_KEY), None
    here._phase = type(here._phase).OPEN
    return here


def _events(here: Connection, pieces: Iterator[bytes]) -> list[str]:
    """What a connection says to these pieces, and how it ends."""
    said = []
    try:
        for piece in pieces:
            here.receive_data(piece)
            while (event := here.next_event()) is not NEED_DATA:
                said.append(_shown(event))
        here.receive_eof()
        end = here.next_event()
        assert isinstance(end, PeerClosed)
    except RemoteProtocolError as exc:
        said.append(f"{exc.code.name} {exc.request_id}")
        with pytest.raises(RemoteProtocolError):  # it does not go on after a fault
            here.next_event()
    return said


def _shown(event: Any) -> str:
    payload = bytes(getattr(event.message, "payload", b"")) if hasattr(event, "message") else b""
    return f"{event!r} {payload!r}"


def connection(data: bytes) -> None:
    """The plaintext of records, sealed for a node or for a client that has requests open; whole and in pieces."""
    mode, cut, plaintext = (data + b"\0\0")[0], (data + b"\0\0")[1] + 1, data[2:]
    role = Role.CLIENT if mode & 1 else Role.NODE
    seal = CipherState(_KEY)
    pieces = [plaintext[at : at + cut] for at in range(0, min(len(plaintext), cut * _MOST_RECORDS), cut)]
    wire = b"".join((len(piece) + 16).to_bytes(2, "big") + seal.seal(piece) for piece in pieces)
    if mode & 2 and wire:  # a byte of the wire is damaged
        at = mode * 7 % len(wire)
        wire = wire[:at] + bytes([wire[at] ^ (mode | 1)]) + wire[at + 1 :]
    step = (mode >> 2) + 1
    whole, split = _open(role), _open(role)
    if role is Role.CLIENT:
        for here in (whole, split):
            here._pending = dict(enumerate(sorted(codec.REQUEST_TYPES)))
    said = _events(whole, iter([wire] if wire else []))
    assert said == _events(split, (wire[at : at + step] for at in range(0, len(wire), step)))


def handshake(data: bytes) -> None:
    """Acts of a peer: raw ones for either side, and an act 3 whose payload is the input, sealed as it should be."""
    mode, rest = (data or b"\0")[0] % 3, data[1:]
    node = Connection(Role.NODE, NODE, ephemeral_private=_KEY)
    if mode == 0:
        _events(node, iter([rest]))
        assert rest[:48] == _ACT_1[:48] or node.data_to_send() == b""
        return
    if mode == 1:
        client = Connection(Role.CLIENT, ACCOUNT, remote=NODE_ID, ephemeral_private=_KEY)
        client.initiate()
        _events(client, iter([rest]))
        return
    attacker = Handshake(
        initiator=True,
        prologue=PROLOGUE,
        static_private=ACCOUNT.x25519_private(),
        static_public=ACCOUNT.x25519_public(),
        remote_static=_NODE_X25519,
        ephemeral_private=_KEY,
    )
    node.receive_data(attacker.write_message())
    node.next_event()
    attacker.read_message(node.data_to_send())
    node.receive_data(attacker.write_message(rest))
    with suppress(RemoteProtocolError):
        event = node.next_event()
        if isinstance(event, HandshakeDone):
            assert event.peer in (ACCOUNT.public_key, _NEGATIVE)  # both are the attacker's own (01, Identities)


_NEGATIVE = ACCOUNT.public_key[:31] + bytes([ACCOUNT.public_key[31] ^ 0x80])
"""The other Ed25519 key of that X25519 form."""
_NODE_X25519 = x25519_public(NODE.public_key)
_ACT_1 = Connection(Role.CLIENT, ACCOUNT, remote=NODE_ID, ephemeral_private=_KEY).initiate()


# --- heads -----------------------------------------------------------------------------------------------------------


def heads(data: bytes) -> None:
    """Heads of messages, or bodies within the head of a type: what is read is written again, and read as the same."""
    if data[:1] != b"\x93":
        number = _TYPES[data[0] % len(_TYPES)] if data else 0
        data = b"\x93\xcd" + number.to_bytes(2, "big") + b"\x01" + data[1:]
    with suppress(RemoteProtocolError):
        codec.peek(data[: codec.PEEK_BYTES])
    try:
        request_id, message = decode_head(data, memoryview(b""))
    except RemoteProtocolError:
        return
    again = encode_head(request_id, message)
    assert decode_head(again, memoryview(b"")) == (request_id, message)
    assert codec.peek(again[: codec.PEEK_BYTES]) == (message.TYPE, request_id)


_TYPES = sorted(codec.MESSAGES)


# --- CBOR ------------------------------------------------------------------------------------------------------------

_DECODERS: Final[tuple[tuple[Callable[[bytes], Any], Identity, str], ...]] = (
    (terms.SignedTerms.decode, NODE, "terms"),
    (terms.Agreement.decode, ACCOUNT, "agreement"),
    (terms.Record.decode, ACCOUNT, "record"),
    (receipts.Receipt.decode, NODE, "receipt"),
    (receipts.Acknowledgement.decode, ACCOUNT, "acknowledgement"),
)


def structures(data: bytes) -> None:
    """CBOR, terms, agreements and records: as they come, and signed rightly whatever they hold."""
    mode, rest = (data or b"\0")[0], data[1:]
    decode, signer, purpose = _DECODERS[mode % 3]
    try:
        value = cbor.decode(rest, what="value")
    except RemoteProtocolError:
        value = None
    else:
        assert cbor.encode(value) == rest
        assert cbor2.loads(rest) == value
    if mode & 128 and isinstance(value, dict):
        body = {key: item for key, item in value.items() if key not in (64, 66)}
        body[64] = signer.sign(purpose, cbor.encode(body))
        if mode & 64:
            body[66] = NODE.sign(purpose, cbor.encode(body))
        rest = cbor.encode(body)
    with suppress(RemoteProtocolError):
        found = decode(rest)
        assert getattr(found, "encoded", rest) == rest


def manifests(data: bytes) -> None:
    """Manifests: as they come, and with either part sealed rightly whatever it holds."""
    mode, rest = (data or b"\0")[0], data[1:]
    if mode & 3:
        cut = rest[0] * len(rest) // 256 + 1 if rest else 0
        parts = {2: (VERIFY_KEY, rest[1:cut]), 4: (manifest._read_key(FILE_KEY), rest[cut:])}
        if mode & 2:
            parts[4 if mode & 1 else 2] = _RIGHT_PARTS[4 if mode & 1 else 2]
        boxes = {at: _box(key, part) for at, (key, part) in parts.items()}
        rest = cbor.encode({0: 1} | boxes)
    with suppress(RemoteProtocolError):
        part = manifest.decode_verify(rest, VERIFY_KEY)
        assert all(s.share_bytes * part.needed < manifest.MAX_SEGMENT_BYTES + part.needed for s in part.segments)
    with suppress(RemoteProtocolError):
        whole = manifest.decode(rest, FILE_KEY)
        assert manifest.decode(manifest.encode(whole, FILE_KEY), FILE_KEY) == whole


def _box(key: bytes, part: bytes) -> bytes:
    siv = manifest._siv(key, part)
    return siv + manifest._cipher(key, siv).encrypt(bytes(12), part, None)


_VERIFY_PART = cbor.encode({0: 3, 2: 5, 4: [[300, 100, bytes(range(160))], [116, 39, bytes(160)]]})
_READ_PART = cbor.encode({0: 400})
_RIGHT_PARTS = {2: (VERIFY_KEY, _VERIFY_PART), 4: (manifest._read_key(FILE_KEY), _READ_PART)}


# --- texts -----------------------------------------------------------------------------------------------------------


def texts(data: bytes) -> None:
    """Capabilities, also with a checksum that is put right, and addresses: a value, or ValueError."""
    mode, text = (data or b"\0")[0] % 3, data[1:].decode("utf-8", "surrogateescape")
    with suppress(ValueError):
        if mode == 2:
            address = NodeAddress.parse(text)
            assert NodeAddress.parse(str(address)) == address
            return
        if mode == 1:
            prefix, _, letters = text.partition("1")
            symbols = [ord(letter) & 31 for letter in letters]
            check = bech32m._polymod(bech32m._expand(prefix) + symbols + [0] * 6) ^ bech32m._BECH32M
            symbols += [check >> shift & 31 for shift in range(25, -1, -5)]
            text = f"{prefix}1" + "".join(bech32m._ALPHABET[symbol] for symbol in symbols)
        cap = caps.parse_cap(text)
        assert cap.to_text() == text.strip().lower()


# --- what nodes answer with ------------------------------------------------------------------------------------------


def answers(data: bytes) -> None:
    """Range proofs, samples and sealed content: a verdict, or RemoteProtocolError."""
    mode, rest = (data or b"\0")[0] % 3, data[1:]
    if mode == 0:
        size, offset = int.from_bytes(rest[:4], "big"), int.from_bytes(rest[4:8], "big")
        proof, payload = rest[9 : 9 + 32 * (rest[8] % 16) if len(rest) > 8 else 9], rest[64:]
        if rest[:1] == b"\xff":
            payload = bytes(LEAF_BYTES * (offset % 5))
            offset = offset % 8 * LEAF_BYTES
            size = size % (1 << 18)
        with suppress(RemoteProtocolError):
            merkle.verify_range(bytes(32), size, offset, payload, proof)
            raise AssertionError("a proof of an id of zeros holds")
    elif mode == 1:
        ids = [ShareId(rest[at : at + 32]) for at in range(0, len(rest) - 31, 32)]
        half = len(ids) // 2
        with suppress(RemoteProtocolError):
            missing = proofs.check_sample(_KEY, ids[half:], ids[:half], ids[-1:])
            assert set(missing) <= set(ids[half:])
    else:
        out = memoryview(bytearray(len(rest)))
        with suppress(RemoteProtocolError, ValueError):
            content.RecordOpener(FILE_KEY).open_into(rest, out, first_record=0, last=True)


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (frames, connection, handshake, heads, structures, manifests, texts, answers, delegations)
}


# --- what to begin with ----------------------------------------------------------------------------------------------


def _hex(name: str, *fields: str) -> Iterator[bytes]:
    """These fields of the cases of a file of vectors, as bytes."""
    cases = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    for case in cases:
        for field in fields:
            if isinstance(case.get(field), str):
                yield bytes.fromhex(case[field])


def _bodies() -> Iterator[tuple[int, Any]]:
    """A body for each type of message, out of the transcript where it has one."""
    steps = json.loads((VECTORS / "session.json").read_text())["steps"]
    heads = [msgpack.unpackb(bytes.fromhex(step["head"]), strict_map_key=False) for step in steps if "head" in step]
    known = {number: body for number, _, body in heads}
    for number in _TYPES:
        yield number, known.get(number, {2: bytes(32), 4: 0})


def corpus(name: str) -> list[bytes]:
    """The inputs that fuzzing of this target begins with: the vectors, in each of the target's modes."""
    match name:
        case "frames":
            return [b"\0" + stream for stream in _hex("frames", "stream")]
        case "connection":
            streams = [*_hex("frames", "stream")]
            streams += [
                len(head).to_bytes(4, "big") + bytes(4) + head for head in _hex("codec", "head") if len(head) > 3
            ]
            session = json.loads((VECTORS / "session.json").read_text())["steps"]
            for step in session:
                if "head" in step:
                    head, payload = bytes.fromhex(step["head"]), bytes.fromhex(step["payload"])
                    streams.append(len(head).to_bytes(4, "big") + len(payload).to_bytes(4, "big") + head + payload)
            return [mode + b"\xff" + stream for stream in streams for mode in (b"\x40", b"\x41")]
        case "handshake":
            claims = (ACCOUNT.public_key, _NEGATIVE, b"", NODE.public_key)  # the second one is what fuzzing found
            return [b"\0" + _ACT_1, b"\1" + bytes(48), *(b"\2" + claim for claim in claims)]
        case "heads":
            found = list(_hex("codec", "head"))
            return [*found, *(bytes([_TYPES.index(number)]) + msgpack.packb(body) for number, body in _bodies())]
        case "structures":
            encoded = list(_hex("structures", "encoded"))
            return [bytes([mode]) + value for value in encoded for mode in (0, 1, 2, 192, 193, 194)]
        case "manifests":
            parts = bytes([len(_VERIFY_PART) * 256 // len(_VERIFY_PART + _READ_PART)]) + _VERIFY_PART + _READ_PART
            blobs = [b"\0" + blob for blob in _hex("manifest", "blob")]
            return [*blobs, *(mode + parts for mode in (b"\1", b"\2", b"\3"))]
        case "texts":
            cases = json.loads((VECTORS / "caps.json").read_text())["cases"]
            found = [mode + case["text"].encode() for case in cases for mode in (b"\0", b"\1")]
            return [*found, b"\2lnstore://" + b"ab" * 32 + b"@[::1]:7460", b"\2lnstore://" + b"CD" * 32 + b"@host:1"]
        case "delegations":
            return delegation_corpus()
        case _:
            return [
                *(b"\0" + b"\0\0\x80\0" + bytes(4) + b"\2" + proof for proof in _hex("merkle", "proof")),
                b"\0\xff\1\0\0\0\0\0\4" + bytes(128),
                b"\1" + bytes(range(128)),
                b"\2" + bytes(100),
            ]
