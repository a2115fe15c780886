"""Finding out which Lightning daemon gets the payments, with patience."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from lnstore.config import NodeConfig
from lnstore.logs import get_logger
from lnstore.node.directory import Binding
from lnstore.node.errors import Refusal
from lnstore.node.limits import BACKOFF_SECONDS, FIRST_CONTACT_SECONDS
from lnstore.ports import LightningError, LightningIdentity
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import NodeId
from lnstore_protocol.terms import binding_text

_log = get_logger("lnstore.node.binding")


def backoff() -> Iterator[float]:
    """Pauses in seconds: doubled from the first to the longest, then that one for ever."""
    pause, longest = BACKOFF_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, longest)


class LightningBinding:
    """The node's Lightning identity: the remembered one at once, confirmed as soon as the daemon answers."""

    def __init__(self, config: NodeConfig, node_id: NodeId, lightning: LightningIdentity) -> None:
        self._config = config
        self._node_id = node_id
        self._lightning = lightning
        self._known = Binding.load(config.directory)
        self.confirmed = trio.Event()
        """Set once the daemon that answers is known to be the right one."""
        self._asked = trio.Event()

    async def first_contact(self) -> None:
        """Wait for the daemon before the node tells its address, up to FIRST_CONTACT_SECONDS.

        A node that met its daemon in an earlier run can answer without it, and waits for one attempt only.
        """
        with trio.move_on_after(FIRST_CONTACT_SECONDS):
            await (self.confirmed if self._known is None else self._asked).wait()

    def require(self) -> Binding:
        """The binding; Refusal(LIGHTNING_UNAVAILABLE) while this node never met its daemon."""
        if self._known is None:
            raise Refusal(ErrorCode.LIGHTNING_UNAVAILABLE, "this node has not reached its Lightning daemon yet")
        return self._known

    def require_confirmed(self) -> Binding:
        """The binding; Refusal(LIGHTNING_UNAVAILABLE) until the daemon answered once since the start."""
        binding = self.require()
        if not self.confirmed.is_set():
            raise Refusal(ErrorCode.LIGHTNING_UNAVAILABLE, "this node is waiting for its Lightning daemon")
        return binding

    async def run(self) -> None:
        """Ask until the right daemon has answered."""
        for pause in backoff():
            try:
                await self._confirm()
            except LightningError as exc:
                _log.warning("lightning daemon does not answer; trying again", reason=str(exc), pause_seconds=pause)
            else:
                if self.confirmed.is_set():
                    return
            self._asked.set()
            await trio.sleep(pause)

    async def _confirm(self) -> None:
        info = await self._lightning.info()
        known = self._known
        if known is not None and (known.lightning_id, known.network) != (info.lightning_id, info.network):
            # Its pay index would mean nothing here: payments would be missed or counted twice.
            _log.error(
                "this is another Lightning daemon than the one this node's books belong to; "
                "point lightning_rpc back to it, or set up a new node",
                expected=known.lightning_id,
                found=info.lightning_id,
                network=info.network,
            )
            return
        if known is None:
            text = binding_text(self._node_id, info.lightning_id)
            self._known = Binding(info.lightning_id, info.network, await self._lightning.sign_message(text))
            self._known.save(self._config.directory)
        _log.info(
            "lightning daemon answers", lightning_id=info.lightning_id, network=info.network, simulated=info.simulated
        )
        self.confirmed.set()
        self._asked.set()
