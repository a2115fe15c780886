"""Real Core Lightning: how long what lnstore does most takes here. The figures are printed; the limits are wide."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.regtest import RegtestNetwork, missing_programs
from lnstore.ports import LightningUnavailable, Outcome
from lnstore_protocol.ids import Msat

PAYMENTS = 100


@pytest.mark.live
@pytest.mark.skipif(bool(missing_programs()), reason=f"not on PATH: {', '.join(missing_programs())}")
async def test_channel_and_payments(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A channel opens within seconds, a hundred payments settle one after the other, each well under a second."""
    async with RegtestNetwork.start(tmp_path_factory.mktemp("rt"), ["alice", "bob"]) as network:
        alice, bob = (CoreLightning(network.socket(name)) for name in ("alice", "bob"))
        await network.fund("alice", 5_000_000)
        info = await bob.info()
        started = time.monotonic()
        await ensure_channel(alice, info.lightning_id, *info.addresses[0], amount_sat=1_000_000, timeout_seconds=60)
        opened = time.monotonic() - started
        spent = []
        for _ in range(PAYMENTS):
            preimage = os.urandom(32)
            invoice = await bob.create_invoice(
                label=preimage.hex(),
                amount_msat=Msat(40_000),
                description="rent",
                expires_in_seconds=600,
                preimage=preimage,
            )
            started = time.monotonic()
            payment = await alice.pay(invoice.bolt11, max_fee_msat=Msat(0), retry_for_seconds=10)
            spent.append(time.monotonic() - started)
            assert payment.outcome is Outcome.SETTLED
        p50, p99 = statistics.median(spent), sorted(spent)[PAYMENTS * 99 // 100 - 1]
        print(f"\n{info.version}: channel {opened:.2f} s, payment p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")  # noqa: T201
        assert opened < 30
        assert p99 < 5


STARTER = """
import sys, trio
from lnstore.lightning.regtest import RegtestNetwork

async def main():
    async with RegtestNetwork.start(sys.argv[1], ["alice"]):
        print("up", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def running_in(directory: Path) -> list[str]:
    """The command lines of programs that name this directory, or that have files of it open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            files = [str(one.readlink()) for one in (process / "fd").iterdir()]
        except OSError:
            continue
        if str(directory) in command or any(file.startswith(str(directory)) for file in files):
            found.append(command)
    return found


@pytest.mark.live
@pytest.mark.skipif(bool(missing_programs()), reason=f"not on PATH: {', '.join(missing_programs())}")
async def test_a_killed_network_leaves_no_daemon(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SIGKILL of the process that started them ends bitcoind, lightningd and its helpers."""
    directory = tmp_path_factory.mktemp("dead")
    command = [sys.executable, "-c", STARTER, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as starter:  # noqa: ASYNC220  nothing waits for its end
        assert starter.stdout is not None
        assert await trio.to_thread.run_sync(starter.stdout.readline) == b"up\n"
        assert any("bitcoind" in command for command in running_in(directory))
        assert any("lightningd" in command for command in running_in(directory))
        starter.kill()
    with trio.fail_after(20):
        while left := running_in(directory):  # noqa: ASYNC110 - a process sets no event
            await trio.sleep(0.1)
    assert left == []


async def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the programs the network says which ones are missing and where they come from."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LightningUnavailable, match=r"bitcoind \(Bitcoin Core\).*lightningd \(Core Lightning\)"):
        async with RegtestNetwork.start(tmp_path, []):
            pass
