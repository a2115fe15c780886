"""TCP's congestion control is chosen by how long the path is."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from lnstore import long_paths
from lnstore.long_paths import suit_path


def control_of(stream: trio.SocketStream) -> bytes:
    return bytes(stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)).rstrip(b"\0")


async def test_only_long_paths_get_another_congestion_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Linux has reno; a name that no kernel knows changes nothing."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.testing.open_stream_to_socket_listener(listener) as stream:
        assert isinstance(stream, trio.SocketStream)
        usual = control_of(stream)
        assert not suit_path(stream)
        assert control_of(stream) == usual
        monkeypatch.setattr(long_paths, "LONG_SECONDS", 0.0)
        monkeypatch.setattr(long_paths, "_CONGESTION", b"nobody's")
        assert not suit_path(stream)
        monkeypatch.setattr(long_paths, "_CONGESTION", b"reno")
        assert suit_path(stream)
        assert control_of(stream) == b"reno"


async def test_what_is_no_socket_is_left_alone() -> None:
    assert not suit_path(trio.testing.memory_stream_pair()[0])
