"""Rent pinned to an amount of another currency: the rate, and the price that it makes. Exact arithmetic, no floats.

The rate is what one bitcoin costs in that currency: set by the operator, or printed by a command of theirs. A rate that
jumps further than allowed is not taken, and one that is too old is none: the node then offers no new terms, rather than
wrong ones. What was agreed stays as it is, whatever the rate does.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import trio

from lnstore.config import NodeConfig
from lnstore.logs import get_logger
from lnstore.ports import Clock
from lnstore.user_command import user_command
from lnstore_protocol.ids import Msat

RATE_FILE = "rate.json"
COMMAND_SECONDS = 30.0
MAXIMUM_OUTPUT_BYTES = 256
LOOK_SECONDS = 10.0
MSAT_PER_BITCOIN = 10**11
GIB_PER_TIB = 1024
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")

_log = get_logger("lnstore.node.fiat")


@dataclass(frozen=True, slots=True)
class Rate:
    """What one bitcoin cost in a currency, as it was written, and when that was found out."""

    fiat_per_bitcoin: str
    at: int

    @property
    def value(self) -> Fraction:
        """The number."""
        return Fraction(self.fiat_per_bitcoin)


def parse_rate(text: str) -> str:
    """The number in what a command printed; ValueError for anything but a decimal number above 0."""
    number = text.strip()
    if not _NUMBER.fullmatch(number) or Fraction(number) == 0:
        raise ValueError("a rate is a decimal number above 0 and nothing else, such as 95000.50")
    return number


def rent_price_msat(fiat_per_tib_month: str, fiat_per_bitcoin: Fraction) -> Msat:
    """The rent of a GiB and 30 days in msat, rounded to the nearest, halves up; a pinned price is never below 1."""
    exact = Fraction(fiat_per_tib_month) * MSAT_PER_BITCOIN / (fiat_per_bitcoin * GIB_PER_TIB)
    return Msat(max(1, int(exact + Fraction(1, 2))))


def jump_percent(kept: Fraction, found: Fraction) -> int:
    """By how many percent of what it was a rate has changed, rounded up."""
    return -(-abs(found - kept) * 100 // kept)


class FiatRate:
    """The node's rate. Without `fiat_currency` in node.toml there is none and it does nothing."""

    def __init__(self, config: NodeConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._file = config.directory / RATE_FILE
        self._kept = _read(self._file, config.fiat_currency) if config.fiat_rate_command else None
        self._asked_at: int | None = None

    def price_msat(self, now: int) -> Msat | None:
        """The rent price at the present rate; None while there is no rate that is recent enough."""
        config = self._config
        if config.fiat_per_bitcoin:
            return rent_price_msat(config.fiat_per_tib_month, Fraction(config.fiat_per_bitcoin))
        if self._kept is None or now - self._kept.at > config.fiat_rate_too_old:
            return None
        return rent_price_msat(config.fiat_per_tib_month, self._kept.value)

    async def run(self) -> None:
        """Ask the command for the rate again and again, for ever."""
        while True:
            await self.step()
            await trio.sleep(LOOK_SECONDS)

    async def step(self) -> None:
        """Ask the command once, if it is time; whatever goes wrong is logged and leaves the last rate."""
        now, every = self._clock.now(), self._config.fiat_rate_every
        if not self._config.fiat_rate_command or (self._asked_at is not None and now - self._asked_at < every):
            return
        self._asked_at = now
        try:
            found = parse_rate(await _output(self._config.fiat_rate_command))
        except (OSError, ValueError, trio.TooSlowError) as exc:
            age = None if self._kept is None else now - self._kept.at
            _log.error(
                "the rate command failed; the last rate holds until it is too old", why=str(exc), age_seconds=age
            )
            return
        if self._kept is not None:
            jump = jump_percent(self._kept.value, Fraction(found))
            if jump > self._config.fiat_rate_maximum_change_percent:
                _log.error(
                    "the rate has jumped and is not taken; if it is right, delete the file and restart",
                    rate=found,
                    last=self._kept.fiat_per_bitcoin,
                    percent=jump,
                    file=str(self._file),
                )
                return
        self._kept = Rate(found, now)
        await trio.to_thread.run_sync(_write, self._file, self._config.fiat_currency, self._kept)


async def _output(command: tuple[str, ...]) -> str:
    """What the command prints on its standard output. ValueError when it fails or prints too much; TooSlowError."""
    printed = bytearray()
    async with user_command(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        with trio.fail_after(COMMAND_SECONDS):
            async for chunk in cast("trio.abc.ReceiveStream", process.stdout):
                printed += chunk
                if len(printed) > MAXIMUM_OUTPUT_BYTES:
                    raise ValueError(f"it printed more than {MAXIMUM_OUTPUT_BYTES} bytes")
            code = await process.wait()
    if code != 0:
        raise ValueError(f"it ended with exit status {code}")
    return printed.decode("ascii")


def _read(file: Path, currency: str) -> Rate | None:
    try:
        found = json.loads(file.read_text())
        if found["currency"] != currency:
            return None
        return Rate(parse_rate(found["fiat_per_bitcoin"]), int(found["at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        _log.error("the last rate cannot be read", file=str(file), why=str(exc))
        return None


def _write(file: Path, currency: str, rate: Rate) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"currency": currency, "fiat_per_bitcoin": rate.fiat_per_bitcoin, "at": rate.at}))
    new.replace(file)
