"""The commands of lightningd about channels and the wallet behind them; `CoreLightning` is made of these and others."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from lnstore.lightning import replies
from lnstore.lightning.replies import understanding
from lnstore.ports import Channel, Closing, Coin, Feerates, LightningInfo, LightningRefused
from lnstore_protocol.ids import LightningId, Msat

PEER_SECONDS = 120.0
"""For a call that talks to a peer first (connect, fundchannel, splicein)."""

OPENING_START_WEIGHT = 214
"""A transaction with one P2WSH output and no inputs, as fundchannel reckons before it chooses coins."""

SPLICING_SINCE = (26, 6)
"""v26.04 has the commands, too, but they fail where a balance is no whole number of sat, and rent seldom is."""

_NO_ADDRESS = "Could not parse destination address"
"""What lightningd says to an address that is none, or that is another network's."""

_SPLICING_BITS = (62, 63)
"""BOLT 9: option_splice, compulsory and optional."""


class ChannelCommands(ABC):
    """`ports.Channels` and `ports.OnChain` over lightningd's commands. Errors are those of `CoreLightning`."""

    @abstractmethod
    async def call(self, method: str, *, timeout_seconds: float = ..., **params: Any) -> dict[str, Any]:
        """One command that is answered soon."""

    @abstractmethod
    async def info(self) -> LightningInfo:
        """Who the daemon is."""

    @abstractmethod
    async def _wait(self, method: str, *, timeout_seconds: float, **params: Any) -> dict[str, Any]:
        """One command that may take as long as it likes."""

    @abstractmethod
    async def _knows(self, command: str) -> bool:
        """Whether this daemon has the command."""

    # --- channels -----------------------------------------------------------------------------------------------

    async def connect(self, peer: LightningId, host: str, port: int) -> None:
        """Connects to a peer; refused with 401 when it does not answer there or has another key."""
        await self.call("connect", timeout_seconds=PEER_SECONDS, id=peer.hex(), host=host, port=port)

    async def open_channel(
        self, peer: LightningId, *, amount_sat: int, push_msat: Msat, announce: bool, zero_conf: bool = False
    ) -> str:
        """Funds a channel; its id.

        Refused with 301 (cannot afford), 313 (too little would be left for emergencies), -1 (too small, or another
        one is being opened to this peer) or 400 (peer not connected).
        """
        reply = await self.call(
            "fundchannel",
            timeout_seconds=PEER_SECONDS,
            id=peer.hex(),
            amount=amount_sat,
            push_msat=int(push_msat) or None,
            announce=announce,
            mindepth=0 if zero_conf else None,
        )
        with understanding("fundchannel"):
            return str(reply["channel_id"])

    async def channels(self, peer: LightningId | None = None) -> list[Channel]:
        """All channels with all peers, or with one; closed ones stay listed for some 100 blocks."""
        reply = await self.call("listpeerchannels", id=None if peer is None else peer.hex())
        with understanding("listpeerchannels"):
            return [replies.channel(entry) for entry in reply["channels"]]

    async def close_channel(
        self, channel_id: str, *, unilateral_timeout_seconds: int, destination: str | None = None
    ) -> Closing:
        """Closes, alone if the peer is away for so long. Refused with -1 for an address that is none."""
        reply = await self._wait(
            "close",
            timeout_seconds=unilateral_timeout_seconds + PEER_SECONDS,
            id=channel_id,
            unilateraltimeout=unilateral_timeout_seconds,
            destination=destination,
        )
        with understanding("close"):
            # A channel that was never funded closes without a transaction.
            txid = str((reply.get("txids") or [reply.get("txid", "")])[-1])
            return Closing(txid, mutual=reply["type"] == "mutual")

    async def can_splice(self, peer: LightningId) -> bool:
        """Whether our daemon has the commands and the peer, connected now, offers splicing."""
        reply = await self.call("listpeers", id=peer.hex())
        with understanding("listpeers"):
            features = [int(entry["features"], 16) for entry in reply["peers"] if entry["connected"]]
        offered = any(bits >> bit & 1 for bits in features for bit in _SPLICING_BITS)
        if not offered:
            return False
        version = re.match(r"v?(\d+)\.(\d+)", (await self.info()).version)
        return (version is None or (int(version[1]), int(version[2])) >= SPLICING_SINCE) and await self._knows(
            "splicein"
        )

    async def splice_in(self, channel_id: str, *, amount_sat: int) -> str:
        """Refused with 351 (peer away, channel closed) or -32602 (unknown channel, cannot afford)."""
        return await self._splice("splicein", channel_id, amount_sat)

    async def splice_out(self, channel_id: str, *, amount_sat: int) -> str:
        """Refused with 351 (peer away, channel closed) or -32602 (unknown channel, more than there is)."""
        return await self._splice("spliceout", channel_id, amount_sat)

    async def _splice(self, method: str, channel_id: str, amount_sat: int) -> str:
        reply = await self.call(method, timeout_seconds=PEER_SECONDS, channel=channel_id, amount=str(amount_sat))
        with understanding(method):
            return str(reply["txid"])

    async def set_largest_payment(self, channel_id: str, amount_msat: Msat) -> None:
        """Changes the channel's htlcmax; refused with -32602 for an unknown channel."""
        await self.call("setchannel", id=channel_id, htlcmax=int(amount_msat))

    # --- the wallet ---------------------------------------------------------------------------------------------

    async def new_address(self) -> str:
        """A fresh bech32 address of the daemon's wallet."""
        reply = await self.call("newaddr", addresstype="bech32")
        with understanding("newaddr"):
            return str(reply["bech32"])

    async def wallet_msat(self) -> Msat:
        """The wallet's confirmed, unreserved outputs."""
        return Msat(1000 * sum(coin.amount_sat for coin in await self.coins() if coin.spendable))

    async def coins(self) -> list[Coin]:
        """The wallet's unspent outputs."""
        reply = await self.call("listfunds")
        with understanding("listfunds"):
            return [replies.coin(output) for output in reply["outputs"]]

    async def feerates(self) -> Feerates:
        """What the daemon would pay now; a daemon without estimates (a young chain) names the least there is."""
        reply = await self.call("feerates", style="perkw")
        with understanding("feerates"):
            return replies.feerates(reply["perkw"])

    async def opening_fee_sat(self, amount_sat: int) -> int:
        """What fundchannel would pay, from the coins that its first step would choose; nothing is set aside."""
        reply = await self.call(
            "fundpsbt",
            satoshi=f"{amount_sat}sat",
            feerate="opening",
            startweight=OPENING_START_WEIGHT,
            reserve=0,
            excess_as_change=True,
            opening_anchor_channel=True,
        )
        with understanding("fundpsbt"):
            return -(-int(reply["estimated_final_weight"]) * int(reply["feerate_per_kw"]) // 1000)

    async def check_address(self, address: str) -> None:
        """Tries to send a coin that does not exist: an address that is none is refused before that is noticed."""
        try:
            await self.call("withdraw", destination=address, satoshi="all", utxos=[f"{'0' * 64}:0"])
        except LightningRefused as refused:
            if _NO_ADDRESS in refused.message:
                raise

    async def withdraw(self, address: str, *, coins: Sequence[str]) -> str:
        """Refused with 301 or 313 when nothing would arrive, with -1 for an address that is none."""
        reply = await self.call(
            "withdraw", timeout_seconds=PEER_SECONDS, destination=address, satoshi="all", utxos=list(coins)
        )
        with understanding("withdraw"):
            return str(reply["txid"])
