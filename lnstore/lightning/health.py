"""Whether a Lightning daemon that answers can be used: one place, for node and client."""

from __future__ import annotations

import re
from enum import Enum

from lnstore.ports import LightningError, LightningInfo
from lnstore_protocol.ids import LightningId

MINIMUM_VERSION = (24, 11)
"""The first Core Lightning with xpay, splicing out of the experimental flags, and listpays as it is read here."""


class DaemonFault(Enum):
    """Why a daemon cannot be used, although it answers."""

    TOO_OLD = "too old"
    BEHIND = "behind the chain"
    OTHER_NETWORK = "on another network"
    OTHER_DAEMON = "another daemon"


class LightningUnfit(LightningError):
    """The daemon answers and cannot be used as it is; the text says what to do."""

    def __init__(self, fault: DaemonFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def check_daemon(
    info: LightningInfo, *, network: str | None = None, lightning_id: LightningId | None = None
) -> LightningInfo:
    """`info`, if that daemon can be used (and is the one expected); LightningUnfit otherwise.

    A version that is not one of Core Lightning's numbers is taken as a build of somebody who knows.
    """
    version = re.match(r"v?(\d+)\.(\d+)", info.version)
    if version is not None and (int(version[1]), int(version[2])) < MINIMUM_VERSION:
        wanted = "v" + ".".join(map(str, MINIMUM_VERSION))
        raise LightningUnfit(
            DaemonFault.TOO_OLD, f"lightningd is {info.version}, and lnstore needs {wanted} or newer; update it"
        )
    if network is not None and info.network != network:
        raise LightningUnfit(
            DaemonFault.OTHER_NETWORK,
            f"lightningd is on the {info.network} network; point lightning_rpc to one on {network}",
        )
    if lightning_id is not None and info.lightning_id != lightning_id:
        # Its pay index would mean nothing here: payments would be missed or counted twice.
        raise LightningUnfit(
            DaemonFault.OTHER_DAEMON,
            f"this is the Lightning daemon {info.lightning_id.hex()}, and the books belong to {lightning_id.hex()}; "
            "point lightning_rpc back to that one, or set up a new node",
        )
    if not info.synced:
        raise LightningUnfit(
            DaemonFault.BEHIND,
            f"lightningd is still catching up with the chain (it is at block {info.block_height}); wait until "
            "`lightning-cli getinfo` shows no warning, and look at bitcoind if it stays so",
        )
    return info
