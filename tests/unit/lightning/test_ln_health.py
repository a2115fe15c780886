"""A daemon that answers and cannot be used is named, with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lnstore.lightning.health import DaemonFault, LightningUnfit, check_daemon
from lnstore.ports import LightningError, LightningInfo
from lnstore_protocol.ids import LightningId

OURS = LightningId(b"\x02" * 33)
INFO = LightningInfo(OURS, "alias", "regtest", 100, "v26.06.6", synced=True, simulated=False)


@pytest.mark.parametrize("version", ["v24.11", "24.11.1", "v26.06.6-simulated", "v25.02rc1-12-g0123456", "memory", ""])
def test_versions_from_24_11_on_and_builds_of_ones_own_are_used(version: str) -> None:
    info = replace(INFO, version=version)
    assert check_daemon(info, network="regtest", lightning_id=OURS) is info


@pytest.mark.parametrize(
    ("change", "expected", "fault", "advice"),
    [
        ({"version": "v24.08.2"}, {}, DaemonFault.TOO_OLD, "needs v24.11 or newer; update it"),
        ({"version": "v0.12.1", "synced": False}, {}, DaemonFault.TOO_OLD, "v0.12.1"),
        ({"synced": False}, {}, DaemonFault.BEHIND, "at block 100"),
        ({"network": "bitcoin"}, {"network": "regtest"}, DaemonFault.OTHER_NETWORK, "one on regtest"),
        ({}, {"lightning_id": LightningId(b"\x03" * 33)}, DaemonFault.OTHER_DAEMON, "back to that one"),
        ({"synced": False}, {"network": "bitcoin"}, DaemonFault.OTHER_NETWORK, "one on bitcoin"),
    ],
)
def test_what_is_wrong_with_a_daemon_is_named_with_what_to_do(
    change: dict[str, Any], expected: dict[str, Any], fault: DaemonFault, advice: str
) -> None:
    """What waiting will not mend comes first."""
    with pytest.raises(LightningUnfit, match=advice) as caught:
        check_daemon(replace(INFO, **change), **expected)
    assert caught.value.fault is fault
    assert isinstance(caught.value, LightningError)
