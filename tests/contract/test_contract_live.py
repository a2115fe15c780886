"""Says loudly when the contract is not held against real Core Lightning."""

from __future__ import annotations

import pytest

from lnstore.lightning.regtest import missing_programs


@pytest.mark.live
def test_the_contract_is_held_against_real_core_lightning() -> None:
    """With bitcoind and lightningd on PATH every contract test runs twice; without them this one is skipped."""
    if missing := missing_programs():
        pytest.skip(f"REAL CORE LIGHTNING IS NOT TESTED HERE, not on PATH: {', '.join(missing)}")
