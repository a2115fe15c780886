"""How often: the work that peers may ask for without paying, bounded per account and per network. Pure.

`now` is an argument: seconds of any clock that never goes back. A limit is a bucket of `burst` permits that fills by
`per_second`; it is kept as the one time at which it is full again (the generic cell rate algorithm), so a bucket that
is full needs no memory. The table is bounded: when it is full, those asked longest ago are forgotten.

Keys cost their owners nothing, so the limit per account bounds who has paid, and the limit per network everybody else.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

_ROUNDING_SECONDS = 1e-6

NO_NETWORK = b""
"""Of a peer that comes over no IP socket."""


class Work(Enum):
    """What a request costs a node, by its greatest part."""

    CONNECT = "connections"
    """A handshake: three X25519 operations."""
    ASK = "questions"
    """A look into the books."""
    MOVE = "shares put and read"
    """Bytes that capacity or deposit pays for."""
    AUDIT = "audits"
    """Reading from the disk for nothing."""
    RECORD = "records"
    """A record or receipts: some signatures, and rows in the books."""
    INVOICE = "invoices"
    """An invoice of the Lightning daemon, and what it promises: capacity, or a proof."""
    PROOF = "proofs asked for anew"
    """Up to 512 shares' sectors, for a period whose last proof was never paid."""
    OPEN = "accounts opened"
    """Two signatures and rows that stay for a while."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `burst` at once, and `per_second` in the long run."""

    burst: int
    per_second: float

    def scaled(self, factor: float) -> Rate:
        """The same, so many times as often."""
        return Rate(max(1, round(self.burst * factor)), self.per_second * factor)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one account, and one network, may do."""

    account: Rate
    network: Rate


class Buckets:
    """Buckets by key, at most `maximum` of them."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._full_at: OrderedDict[tuple[Work, bytes], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, work: Work, key: bytes, rate: Rate, now: float) -> float:
        """Seconds until there is a permit; 0 when there is one."""
        full_at = self._full_at.get((work, key), now)
        wait = full_at - now - (rate.burst - 1) / rate.per_second
        return wait if wait > _ROUNDING_SECONDS else 0.0

    def take(self, work: Work, key: bytes, rate: Rate, now: float) -> None:
        """Use up a permit."""
        full_at = max(self._full_at.pop((work, key), now), now)
        self._full_at[work, key] = full_at + 1 / rate.per_second
        while len(self._full_at) > self.maximum or next(iter(self._full_at.values())) <= now:
            self._full_at.popitem(last=False)


class Throttle:  # S-W2
    """The limits of a node, and who has used up how much of them. `factor` 0 switches them off."""

    def __init__(self, limits: dict[Work, Limits], *, factor: float = 1.0, maximum: int) -> None:
        self._limits = {
            work: Limits(limit.account.scaled(factor), limit.network.scaled(factor))
            for work, limit in limits.items()
            if factor > 0
        }
        self._accounts = Buckets(maximum)
        self._networks = Buckets(maximum)

    def take(self, work: Work, *, account: bytes | None = None, network: bytes, now: float) -> float:
        """0 when the work may be done now, and is counted; else the seconds to wait, and nothing is counted."""
        limits = self._limits.get(work)
        if limits is None:
            return 0.0
        wait = self._networks.wait(work, network, limits.network, now)
        if account is not None:
            wait = max(wait, self._accounts.wait(work, account, limits.account, now))
        if wait > 0:
            return wait
        self._networks.take(work, network, limits.network, now)
        if account is not None:
            self._accounts.take(work, account, limits.account, now)
        return 0.0


class Counts:
    """How many of something each network has now."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[bytes, int] = {}

    def of(self, network: bytes) -> int:
        """How many it has."""
        return self._counts.get(network, 0)

    def most(self) -> tuple[bytes, int]:
        """A network that has most, and how many."""
        return max(self._counts.items(), key=lambda item: item[1], default=(NO_NETWORK, 0))

    def enter(self, network: bytes) -> None:
        """One more."""
        self.total += 1
        self._counts[network] = self.of(network) + 1

    def leave(self, network: bytes) -> None:
        """One less."""
        self.total -= 1
        left = self._counts.pop(network) - 1
        if left:
            self._counts[network] = left


def network_of(host: str) -> bytes:
    """What is taken for one peer: an IPv4 address, or the 64 bits of an IPv6 address that its holder cannot choose."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return NO_NETWORK
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return address.packed[:8] if mapped is None else mapped.packed
    return address.packed
