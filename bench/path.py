"""A long path between two network namespaces: delay, loss and a bottleneck, of a thread between two tun devices.

Linux's own netem would do the same where its kernel has it; tun devices and namespaces are there more often. The
calling process must have a user and a network namespace of its own (`unshare --map-root-user --net`).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

NEAR, FAR = "10.9.0.1", "10.9.0.2"
"""The addresses of this process's namespace and of the other one."""

PACKET_BYTES = 2048
QUEUE_PACKETS = 1000
"""What the bottleneck holds back; the rest it drops. About a round trip's worth, as routers do."""

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_CLONE_NEWNET = 0x40000000


@dataclass(slots=True)
class Direction:
    """One way through the path, and what came through it."""

    source: int
    target: int
    free_at: float = 0.0
    carried_bytes: int = 0
    lost_packets: int = 0
    dropped_packets: int = 0
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)


class LongPath:
    """The path, working from its making on. `far_namespace` is what nsenter takes to run a program at its other end."""

    def __init__(self, *, round_trip_seconds: float, loss: float, bits_per_second: float) -> None:
        self._delay = round_trip_seconds / 2
        self._loss = loss
        self._seconds_per_byte = 8 / bits_per_second
        self._random = random.Random(1)
        self._made = threading.Event()
        self._far = -1
        self.far_namespace = ""
        near = _tun("near", NEAR)
        threading.Thread(target=self._hold_far_end, daemon=True).start()
        self._made.wait()
        self.to_far = Direction(near, self._far)
        self.to_near = Direction(self._far, near)
        threading.Thread(target=self._carry, daemon=True).start()

    def _hold_far_end(self) -> None:
        """A namespace lives as long as a thread is in it."""
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no second network namespace")
        self.far_namespace = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
        self._far = _tun("far", FAR)
        self._made.set()
        threading.Event().wait()

    def _carry(self) -> None:
        with suppress(PermissionError):  # what it does late looks like a worse path
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)
        ways = {self.to_far.source: self.to_far, self.to_near.source: self.to_near}
        while True:
            now = time.monotonic()
            due = [way.under_way[0][0] for way in ways.values() if way.under_way]
            patience = max(0.0, min(due) - now) if due else None
            ready, _, _ = select.select(list(ways), [], [], patience)
            now = time.monotonic()
            for fd in ready:
                self._take(ways[fd], now)
            for way in ways.values():
                while way.under_way and way.under_way[0][0] <= now:
                    packet = way.under_way.popleft()[1]
                    os.write(way.target, packet)
                    way.carried_bytes += len(packet)

    def _take(self, way: Direction, now: float) -> None:
        """All packets that are waiting."""
        while True:
            try:
                packet = os.read(way.source, PACKET_BYTES)
            except BlockingIOError:
                return
            if self._random.random() < self._loss:
                way.lost_packets += 1
                continue
            way.free_at = max(way.free_at, now)
            if way.free_at - now > QUEUE_PACKETS * 1500 * self._seconds_per_byte:
                way.dropped_packets += 1
                continue
            way.free_at += len(packet) * self._seconds_per_byte
            way.under_way.append((way.free_at + self._delay, packet))


def _tun(name: str, address: str) -> int:
    """A tun device of the calling thread's namespace, up, with the address."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _IFF_TUN_NO_PI))
    for command in (f"link set {name} up", f"addr add {address}/24 dev {name}", "link set lo up"):
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)
    return fd
