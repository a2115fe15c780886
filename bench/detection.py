"""How often one proof of rent finds a partial loss: measured over seeds with the protocol's own sample and positions.

    uv run python -m bench.detection [--seeds 2000] [--json]

The losses are drawn once per scenario, the nonce anew for each seed: who lost data does not know what will be asked.
A proof fails when it samples a lost share or looks at a lost sector. Beside the rate stand its 95 % interval (Wilson)
and what spec/03 computes. The short form of this is a test (tests/bench/test_bench_detection.py).
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from blake3 import blake3

from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import MAX_SHARE_BYTES, SAMPLE_SHARES
from lnstore_protocol.proofs import POSITIONS, challenge_positions, sector_count, select_sample

SECTORS = sector_count(MAX_SHARE_BYTES)
Detects = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a loss was found, its 95 % interval, and what was computed."""

    loss: str
    account: str
    seeds: int
    found: int
    measured: float
    low: float
    high: float
    computed: float


def ids_of(shares: int) -> list[ShareId]:
    """An account's shares."""
    return [ShareId(blake3(b"detection %d" % number).digest()) for number in range(shares)]


def nonce_of(seed: int) -> bytes:
    """The challenge of one seed."""
    return blake3(b"nonce %d" % seed).digest()


def whole_shares(ids: Sequence[ShareId], lost: int) -> Detects:
    """Whether a proof samples one of `lost` shares that are gone."""
    gone = set(random.Random(lost).sample(ids, lost))

    def detects(nonce: bytes) -> bool:
        return not gone.isdisjoint(select_sample(nonce, ids))

    return detects


def sectors_of(ids: Sequence[ShareId], fraction: float) -> Detects:
    """Whether a proof looks at one of the sectors, `fraction` of each share, that are gone."""
    draw = random.Random(round(fraction * 1e6))
    count = max(1, round(SECTORS * fraction))
    gone = {share_id: set(draw.sample(range(SECTORS), count)) for share_id in ids}

    def detects(nonce: bytes) -> bool:
        return any(
            not gone[share_id].isdisjoint(challenge_positions(nonce, share_id, MAX_SHARE_BYTES))
            for share_id in select_sample(nonce, ids)
        )

    return detects


def misses_shares(shares: int, lost: int) -> float:
    """C(N - b, s) / C(N, s): no lost share among those sampled."""
    sampled = min(shares, SAMPLE_SHARES)
    return math.prod((shares - sampled - at) / (shares - at) for at in range(lost))


def misses_sectors(shares: int, fraction: float) -> float:
    """(1 - f) to the number of looks; `fraction` rounded as sectors_of rounds it."""
    lost = max(1, round(SECTORS * fraction)) / SECTORS
    return float((1 - lost) ** (POSITIONS * min(shares, SAMPLE_SHARES)))


def measure(loss: str, account: str, detects: Detects, computed: float, seeds: int) -> Rate:
    """Try so many challenges."""
    found = sum(detects(nonce_of(seed)) for seed in range(seeds))
    low, high = interval(found, seeds)
    return Rate(loss, account, seeds, found, found / seeds, low, high, computed)


def interval(found: int, tries: int) -> tuple[float, float]:
    """Wilson's 95 % interval."""
    z = 1.959964
    p, square = found / tries, z * z / tries
    middle, half = p + square / 2, z * math.sqrt(p * (1 - p) / tries + square / (4 * tries))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def scenarios(seeds: int) -> list[Rate]:
    """Everything that stands in spec/03 and can be told from 0 and 1 with so many seeds."""
    rates = []
    for shares, lost, name, part in (
        (512, 1, "1 share", 1.0),
        (5_120, 1, "1 share", 1.0),
        (5_120, 5, "5 shares (0.1 %)", 1.0),
        (5_120, 51, "51 shares (1 %)", 1.0),
        (100_000, 100, "0.1 % of the shares", 1.0),
        (100_000, 1_000, "1 % of the shares", 0.1),
    ):
        detects = whole_shares(ids_of(shares), lost)
        computed = 1 - misses_shares(shares, lost)
        rates.append(measure(name, f"{shares:,} shares", detects, computed, max(1, int(seeds * part))))
    for shares, fraction, name in (
        (10, 0.01, "1 % of all sectors"),
        (10, 0.001, "0.1 % of all sectors"),
        (512, 1 / SECTORS, "1 sector of each share"),
        (512, 0.001, "0.1 % of all sectors"),
        (1, 1 / SECTORS, "1 sector"),
        (1, 0.01, "1 % of all sectors"),
        (1, 0.05, "5 % of all sectors"),
        (1, 0.5, "half of all sectors"),
    ):
        detects = sectors_of(ids_of(shares), fraction)
        account = f"{shares:,} share{'s' if shares > 1 else ''}"
        rates.append(measure(name, account, detects, 1 - misses_sectors(shares, fraction), seeds))
    return rates


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="How often one proof of rent finds a partial loss.")
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rates = scenarios(given.seeds)
    if given.json:
        print(json.dumps([asdict(rate) for rate in rates], indent=1))
        return
    print("| loss | account | seeds | found | measured (95 %) | computed |\n|---|---|---|---|---|---|")
    for rate in rates:
        print(
            f"| {rate.loss} | {rate.account} | {rate.seeds:,} | {rate.found:,} | {rate.measured:.2%} "
            f"({rate.low:.2%} to {rate.high:.2%}) | {rate.computed:.2%} |"
        )


if __name__ == "__main__":
    main()
