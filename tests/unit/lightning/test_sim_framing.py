"""The sockets speak JSON-RPC as lightningd does."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from lnstore.lightning.simulated.server import REQUEST_LIMIT, _split
from tests.unit.lightning.conftest import Alice


def request(method: str, params: Any = None, number: int = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}).encode()


async def replies(stream: trio.SocketStream, count: int) -> list[dict[str, Any]]:
    buffer = b""
    with trio.fail_after(5):
        while buffer.count(b"\n\n") < count:
            data = await stream.receive_some()
            assert data, "the daemon hung up"
            buffer += data
    return [json.loads(part) for part in buffer.split(b"\n\n")[:count]]


async def test_several_requests_in_one_write(alice: Alice) -> None:
    """Requests may follow each other without anything between; each answer has its request's id."""
    async with await trio.open_unix_socket(str(alice.network.socket(alice.a_name))) as stream:
        await stream.send_all(
            request("getinfo", number=1) + request("nosuch", number=2) + b"  " + request("help", number=3)
        )
        answers = {answer["id"]: answer for answer in await replies(stream, 3)}
    assert answers[1]["result"]["alias"] == alice.a_name
    assert answers[2]["error"] == {"code": -32601, "message": "Unknown command 'nosuch'"}
    assert "xpay" in str(answers[3]["result"])


async def test_byte_by_byte(alice: Alice) -> None:
    """A request may come in any pieces, inside a UTF-8 character too."""
    async with await trio.open_unix_socket(str(alice.network.socket(alice.a_name))) as stream:
        raw = json.dumps(
            {"jsonrpc": "2.0", "id": "é", "method": "signmessage", "params": ["ünïcode"]}, ensure_ascii=False
        ).encode()
        for position in range(len(raw)):
            await stream.send_all(raw[position : position + 1])
        (answer,) = await replies(stream, 1)
    assert answer["id"] == "é"
    assert len(answer["result"]["zbase"]) == 104


@pytest.mark.parametrize(
    "raw",
    [
        b"hello",
        b"[1,2]",
        b'{"a":1}' * 2,
        b'{"jsonrpc":"2.0","method":"getinfo"}',
        b'{"id":1,"method":"help","filter":{}}',
    ],
)
async def test_what_is_no_request(alice: Alice, raw: bytes) -> None:
    """Anything else is answered with an error, and the daemon goes on."""
    async with await trio.open_unix_socket(str(alice.network.socket(alice.a_name))) as stream:
        await stream.send_all(raw)
        (answer, *_) = await replies(stream, 1)
        assert answer["error"]["code"] in {-32600, -32602}
    async with await trio.open_unix_socket(str(alice.network.socket(alice.a_name))) as stream:
        await stream.send_all(request("getinfo"))
        assert (await replies(stream, 1))[0]["result"]["network"] == "regtest"


async def test_a_caller_that_breaks_off_ends_nobody_else(alice: Alice) -> None:
    """Closed with an answer unread, a connection is reset; the daemon goes on."""
    path = str(alice.network.socket(alice.a_name))
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(request("getinfo"))
        await stream.socket.recv(1, socket.MSG_PEEK)
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(request("getinfo"))
        assert (await replies(stream, 1))[0]["result"]["network"] == "regtest"


async def test_endless_request(alice: Alice) -> None:
    """A request that does not end is refused at the limit instead of being kept."""
    async with await trio.open_unix_socket(str(alice.network.socket(alice.a_name))) as stream:
        try:
            await stream.send_all(b'{"id":"' + b"x" * (REQUEST_LIMIT + 65536))
        except trio.BrokenResourceError:
            return  # it hung up while we were still sending
        (answer,) = await replies(stream, 1)
        assert answer["error"]["code"] == -32600


async def test_a_wait_does_not_block_its_connection(alice: Alice) -> None:
    """While one request waits, others of the same connection are answered; hanging up ends the wait."""
    async with await trio.open_unix_socket(str(alice.network.socket(alice.a_name))) as stream:
        await stream.send_all(request("waitanyinvoice", number=1) + request("getinfo", number=2))
        (answer,) = await replies(stream, 1)
        assert answer["id"] == 2
    async with await trio.open_unix_socket(str(alice.network.socket(alice.a_name))) as stream:
        await stream.send_all(request("getinfo"))
        assert await replies(stream, 1)


OBJECTS = st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(), min_size=1, max_size=3)


@given(st.lists(OBJECTS, max_size=4), st.data())
def test_split_is_independent_of_pieces(objects: list[dict[str, Any]], data: st.DataObject) -> None:
    """Whatever the pieces, the same requests come out."""
    raw = b" ".join(json.dumps(entry, ensure_ascii=False).encode() for entry in objects)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    found, buffer = [], b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        buffer += raw[start:end]
        while (split := _split(buffer)) is not None:
            entry, buffer = split
            found.append(entry)
    assert found == objects
