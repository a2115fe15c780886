"""Real Core Lightning: how long what lnstore does most takes here. The figures are printed; the limits are wide."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest

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


async def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the programs the network says which ones are missing and where they come from."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LightningUnavailable, match=r"bitcoind \(Bitcoin Core\).*lightningd \(Core Lightning\)"):
        async with RegtestNetwork.start(tmp_path, []):
            pass
