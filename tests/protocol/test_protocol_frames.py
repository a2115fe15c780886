"""Frames: the same stream gives the same frames however it is cut, and nothing too large is ever held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_strategies import messages

from lnstore_protocol import messages as m
from lnstore_protocol.codec import PEEK_BYTES, encode_head, payload_of
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.frames import HEADER, BufferPool, Frame, FrameReader
from lnstore_protocol.ids import ShareId


def frame_bytes(message: m.Message, request_id: int = 1) -> bytes:
    head = encode_head(request_id, message)
    payload = bytes(payload_of(message))
    return HEADER.pack(len(head), len(payload)) + head + payload


def put(size: int) -> m.PutShare:
    return m.PutShare(share_id=ShareId(b"s" * 32), token_start=0, tokens=b"t" * 384, payload=bytes(range(256)) * size)


def read(pieces: list[bytes], reader: FrameReader | None = None) -> list[Frame]:
    reader = reader or FrameReader()
    frames: list[Frame] = []
    for piece in pieces:
        reader.feed(memoryview(piece))
        while (frame := reader.next_frame()) is not None:
            frames.append(frame)
    assert reader.is_between_frames
    return frames


@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(sent: list[m.Message], data: st.DataObject) -> None:
    """Whole, byte by byte, and cut anywhere."""
    stream = b"".join(frame_bytes(message) for message in sent)
    whole = read([stream])
    assert [(f.type, f.head, bytes(f.payload)) for f in whole] == [
        (message.TYPE, encode_head(1, message), bytes(payload_of(message))) for message in sent
    ]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(pieces) == whole
    assert read([stream[i : i + 1] for i in range(len(stream))]) == whole


def test_the_payload_may_be_written_in_place() -> None:
    """Whoever decrypts writes to payload_space instead of feeding; the payload is that very buffer."""
    given_out: list[memoryview] = []

    def allocate(count: int) -> memoryview:
        given_out.append(memoryview(bytearray(count)))
        return given_out[-1]

    reader = FrameReader(allocate)
    message = put(4)
    stream = frame_bytes(message)
    start = len(stream) - 1024
    reader.feed(memoryview(stream[: start + 10]))
    assert reader.payload_left == 1014
    assert reader.announced_payload_bytes == 1024
    reader.payload_space(1014)[:] = stream[start + 10 :]
    reader.advance(1014)
    frame = reader.next_frame()
    assert frame is not None
    assert bytes(frame.payload) == message.payload
    assert frame.payload is given_out[0]
    assert reader.announced_payload_bytes == 0


def refused(data: bytes) -> RemoteProtocolError:
    reader = FrameReader(lambda count: pytest.fail("a refused payload was given a buffer"))
    with pytest.raises(RemoteProtocolError) as info:
        reader.feed(memoryview(data))
    assert reader.next_frame() is None
    return info.value


@pytest.mark.parametrize(
    ("message_type", "head_bytes", "payload_bytes"),
    [
        (m.PutShare.TYPE, 100, m.MAX_SHARE_BYTES + 1),
        (m.PutShare.TYPE, 1025, 100),
        (m.GetTerms.TYPE, 10, 1),
        (m.GetTerms.TYPE, 0xFFFF_FFFF, 0),
        (m.GetTerms.TYPE, 10, 0xFFFF_FFFF),
        (m.HaveShares.TYPE, 10, m.MAX_IDS * 32 + 1),
        (98, 64 * 1024 + 1, 0),
        (99, 10, 1),
    ],
)
def test_what_is_too_large_is_refused_at_its_first_bytes(  # T-R12, T-R14
    message_type: int, head_bytes: int, payload_bytes: int
) -> None:
    """The refusal needs no more than the peeked bytes, allocates nothing, and says which request it was."""
    begin = b"\x93" + bytes([message_type]) + b"\x2a\x80" + bytes(PEEK_BYTES)
    error = refused(HEADER.pack(head_bytes, payload_bytes) + begin[: min(head_bytes, PEEK_BYTES)])
    assert error.code is ErrorCode.TOO_LARGE
    assert error.request_id == 42


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(0, 0),
        HEADER.pack(3, 0),
        HEADER.pack(4, 0) + b"\x92\x04\x01\x80",
        HEADER.pack(4, 0) + b"\x93\xc2\x01\x80",
        HEADER.pack(6, 0) + b"\x93\xce\x00\x01\x00\x00",
        HEADER.pack(4, 0) + b"\x93\xce\x00\x01",
    ],
    ids=["no head", "a short head", "no array of three", "no integer", "a type above 65535", "a type cut short"],
)
def test_a_head_without_a_type_is_malformed(data: bytes) -> None:  # T-R13
    """What does not even begin like a head is refused there."""
    assert refused(data).code is ErrorCode.MALFORMED


def test_type_and_id_may_be_written_long() -> None:
    """An integer has several forms in msgpack; a reader takes each."""
    for head in (
        b"\x93\xcc\x04\xcc\x05\x80",
        b"\x93\xcd\x00\x04\xcd\x00\x05\x80",
        b"\x93\x04\xcf" + b"\0" * 7 + b"\5\x80",
    ):
        (frame,) = read([HEADER.pack(len(head), 0) + head])
        assert frame.type == 4


def test_the_pool_gives_a_buffer_again() -> None:
    """A payload given back is the next one's buffer; its old view is of no use any more."""
    pool = BufferPool(size=1 << 20, keep=1)
    first = pool.take(1 << 20)
    buffer = first.obj
    second = pool.take(1 << 19)
    pool.give(first)
    pool.give(second)
    with pytest.raises(ValueError, match="released"):
        first[0]
    third = pool.take(700_000)
    assert third.obj is buffer
    assert len(third) == 700_000
    assert pool.take(1 << 20).obj is not buffer


def test_the_pool_leaves_other_sizes_alone() -> None:
    """Small payloads do not hold big buffers; foreign ones are passed over."""
    pool = BufferPool(size=1 << 20, keep=1)
    small = pool.take(100)
    assert len(small) == len(small.obj) == 100  # type: ignore[arg-type]
    pool.give(small)
    pool.give(b"foreign")
    pool.give(memoryview(b"foreign"))
    assert not pool._free
