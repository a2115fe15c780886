"""The limit: what no implementation of this design can do without, per byte, measured alone in the same run.

Each step is timed by itself in one thread, as CPU time, with reused buffers of the size that suits it, and with the
functions an implementation in Python has: so it is what two always busy cores would allow if nothing were copied
twice, nobody waited for anybody, and no interpreter stood between the steps. What the disk takes to make bytes
durable is no CPU time: it is a limit of its own, and the lower of the two is the limit.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bench.system import Coding
from lnstore.client.erasure import ErasureCode
from lnstore_protocol.content import RECORD_BYTES, SEALED_RECORD_BYTES
from lnstore_protocol.ids import NodeId
from lnstore_protocol.merkle import share_id
from lnstore_protocol.messages import MAX_SHARE_BYTES
from lnstore_protocol.proofs import make_tokens
from lnstore_protocol.records import RECORD_OVERHEAD_BYTES, RECORD_PLAINTEXT_BYTES

STEP_SECONDS = 0.12
"""Each step is repeated at least this long."""

PIECE_BYTES = 1 << 20
STRIPE_BYTES = 256 * 1024
SEND_BYTES = 256 * 1024
RECEIVE_BYTES = 64 * 1024
LOOPBACK_BYTES = 128 << 20
SYNCED_FILES = 24
SYNC_THREADS = 4

READ, CIPHER, DECIPHER = "read", "content cipher", "content decipher"
ENCODE, DECODE, HASH, TOKENS = "erasure code", "erasure decode", "hash", "tokens"
SEAL, OPEN, LOOPBACK, WRITE = "seal", "open", "loopback copy", "write"
SYNCED = "write + fsync (not CPU)"


@dataclass(frozen=True, slots=True)
class Limit:
    """What one work allows: MB/s of plaintext by the CPU and by the disk, and the CPU's part by step, in s per GB."""

    cpu_mb_per_s: float
    disk_mb_per_s: float
    steps: dict[str, float]

    @property
    def mb_per_s(self) -> float:
        """The lower one."""
        return min(self.cpu_mb_per_s, self.disk_mb_per_s)


def unit_costs(folder: Path, coding: Coding) -> dict[str, float]:
    """Seconds of one step per GB (1e9 bytes) that goes through it: of plaintext for the code, of shares for tokens."""
    content = os.urandom(PIECE_BYTES)
    file = folder / "limit"
    file.write_bytes(content * 16)
    costs = {
        READ: _cost(PIECE_BYTES, _reader(file)),
        **_cipher_costs(CIPHER, DECIPHER, RECORD_BYTES, SEALED_RECORD_BYTES),
        **_cipher_costs(SEAL, OPEN, RECORD_PLAINTEXT_BYTES, RECORD_PLAINTEXT_BYTES + RECORD_OVERHEAD_BYTES - 2),
        **_code_costs(coding),
    }
    share = os.urandom(MAX_SHARE_BYTES)
    name = share_id(share)
    costs[HASH] = _cost(MAX_SHARE_BYTES, lambda: share_id(share))
    costs[TOKENS] = _cost(MAX_SHARE_BYTES, lambda: make_tokens(share, name, bytes(32), bytes(32), NodeId(bytes(32)), 0))
    costs[LOOPBACK] = _loopback_cost()
    costs[WRITE], costs[SYNCED] = _write_costs(folder, share)
    file.unlink()
    return costs


def limits(costs: dict[str, float], coding: Coding, cores: int) -> dict[str, Limit]:
    """By work ("put", "get", "get, worst shares"), from unit costs."""
    more = coding.total / coding.needed
    put = {
        READ: costs[READ],
        CIPHER: costs[CIPHER],
        ENCODE: costs[ENCODE],
        f"{HASH}, client": more * costs[HASH],
        f"{HASH}, node": more * costs[HASH],
        TOKENS: more * costs[TOKENS],
        SEAL: more * costs[SEAL],
        LOOPBACK: more * costs[LOOPBACK],
        OPEN: more * costs[OPEN],
        WRITE: more * costs[WRITE],
    }
    get = {
        READ: costs[READ],
        SEAL: costs[SEAL],
        LOOPBACK: costs[LOOPBACK],
        OPEN: costs[OPEN],
        HASH: costs[HASH],
        DECIPHER: costs[DECIPHER],
        WRITE: costs[WRITE],
    }
    disk = 1e3 / costs[SYNCED]
    return {
        "put": Limit(cores * 1e3 / sum(put.values()), disk / more, put),
        "get": Limit(cores * 1e3 / sum(get.values()), disk, get),
        "get, worst shares": Limit(
            cores * 1e3 / sum([*get.values(), costs[DECODE]]), disk, {**get, DECODE: costs[DECODE]}
        ),
    }


def _cost(size_bytes: int, step: Callable[[], object]) -> float:
    """CPU seconds of this thread per GB."""
    step()
    done = 0
    began = time.thread_time()
    while (used := time.thread_time() - began) < STEP_SECONDS:
        step()
        done += size_bytes
    return used / done * 1e9


def _reader(file: Path) -> Callable[[], object]:
    fd = os.open(file, os.O_RDONLY)
    buffer = memoryview(bytearray(PIECE_BYTES))
    size = file.stat().st_size
    at = 0

    def read() -> None:
        nonlocal at
        os.preadv(fd, [buffer], at)
        at = (at + PIECE_BYTES) % size

    return read


def _cipher_costs(seal_name: str, open_name: str, plain_bytes: int, sealed_bytes: int) -> dict[str, float]:
    """Over a megabyte, record by record, so that source and target are not always in the nearest cache."""
    cipher = ChaCha20Poly1305(bytes(32))
    records = range(PIECE_BYTES // plain_bytes)
    plain = memoryview(bytearray(os.urandom(plain_bytes * len(records))))
    sealed = memoryview(bytearray(sealed_bytes * len(records)))

    def seal() -> None:
        for i in records:
            out = sealed[i * sealed_bytes : (i + 1) * sealed_bytes]
            cipher.encrypt_into(i.to_bytes(12, "big"), plain[i * plain_bytes : (i + 1) * plain_bytes], None, out)

    def unseal() -> None:
        for i in records:
            out = plain[i * plain_bytes : (i + 1) * plain_bytes]
            cipher.decrypt_into(i.to_bytes(12, "big"), sealed[i * sealed_bytes : (i + 1) * sealed_bytes], None, out)

    return {seal_name: _cost(len(plain), seal), open_name: _cost(len(plain), unseal)}


def _code_costs(coding: Coding) -> dict[str, float]:
    """Parity of a stripe, and the worst decoding: as much parity among the shares as there can be."""
    k, n = coding.needed, coding.total
    code = ErasureCode(k, n)
    shares = [memoryview(bytearray(os.urandom(STRIPE_BYTES))) for _ in range(n)]
    code.encode(shares[:k], shares[k:])
    given = {number: shares[number] for number in range(n - k, n)}
    lacking = [number for number in range(k) if number not in given]
    out = [memoryview(bytearray(STRIPE_BYTES)) for _ in lacking]
    return {
        ENCODE: _cost(k * STRIPE_BYTES, lambda: code.encode(shares[:k], shares[k:])),
        DECODE: _cost(k * STRIPE_BYTES, lambda: code.decode(given, lacking, out)),
    }


def _loopback_cost() -> float:
    """CPU of both ends of a TCP connection, each in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
    listener.close()
    used: list[float] = []

    def send() -> None:
        piece = bytes(SEND_BYTES)
        began = time.thread_time()
        for _ in range(LOOPBACK_BYTES // SEND_BYTES):
            sender.sendall(piece)
        used.append(time.thread_time() - began)

    def receive() -> None:
        buffer = bytearray(RECEIVE_BYTES)
        left = LOOPBACK_BYTES
        began = time.thread_time()
        while left:
            left -= receiver.recv_into(buffer)
        used.append(time.thread_time() - began)

    threads = [threading.Thread(target=send), threading.Thread(target=receive)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sender.close()
    receiver.close()
    return sum(used) / LOOPBACK_BYTES * 1e9


def _write_costs(folder: Path, share: bytes) -> tuple[float, float]:
    """CPU seconds and wall seconds per GB of writing files of a share's size, each synced, several at once."""

    def write(number: int) -> float:
        began = time.thread_time()
        with (folder / f"limit-{number}").open("wb", buffering=0) as file:
            file.write(share)
            os.fsync(file.fileno())
        return time.thread_time() - began

    os.sync()
    with ThreadPoolExecutor(SYNC_THREADS) as workers:
        began = time.perf_counter()
        used = sum(workers.map(write, range(SYNCED_FILES)))
        seconds = time.perf_counter() - began
    for number in range(SYNCED_FILES):
        (folder / f"limit-{number}").unlink()
    total = SYNCED_FILES * len(share)
    return used / total * 1e9, seconds / total * 1e9
