"""The fuzzer's targets over mutations of the vectors with a fixed seed: the same inputs each time, in a few seconds."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from fuzz_targets import TARGETS, corpus

INPUTS = {"connection": 1500, "handshake": 500}
INPUTS_OTHERWISE = 8000
_INTERESTING = (0, 1, 0x17, 0x18, 0x1F, 0x7F, 0x80, 0x93, 0xA0, 0xBF, 0xC1, 0xCF, 0xD8, 0xFF)


def mutations(seeds: list[bytes], count: int) -> Iterator[bytes]:
    """`count` inputs, each a seed changed in one to four places as a fuzzer would change it."""
    rng = random.Random(20261123)
    for _ in range(count):
        data = bytearray(rng.choice(seeds)[:2048])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(6):
                case 0 if data:
                    data[at % len(data)] ^= 1 << rng.randrange(8)
                case 1 if data:
                    data[at % len(data)] = rng.choice(_INTERESTING)
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 8))
                case 3:
                    del data[at : at + rng.randint(1, 8)]
                case 4:
                    data[at:at] = data[at : at + rng.randint(1, 40)]
                case _:
                    other = rng.choice(seeds)
                    data[at:] = other[rng.randrange(len(other) + 1) :][:1024]
        yield bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_no_mutation_of_the_vectors_makes_a_reader_fail(name: str) -> None:
    """Only RemoteProtocolError, and ValueError for texts, escapes; what is read is written and read as the same."""
    seeds = corpus(name)
    for data in (b"", *seeds, *mutations(seeds, INPUTS.get(name, INPUTS_OTHERWISE))):
        try:
            TARGETS[name](data)
        except Exception as exc:
            exc.add_note(f"input: {data.hex()}")
            raise
