"""Which Lightning daemon gets the payments, and whether it can be used now."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from lnstore.config import NodeConfig
from lnstore.lightning.health import check_daemon
from lnstore.logs import get_logger
from lnstore.node.directory import Binding
from lnstore.node.errors import Refusal
from lnstore.node.limits import BACKOFF_SECONDS, FIRST_CONTACT_SECONDS, HEALTH_SECONDS
from lnstore.ports import LightningError, LightningIdentity, LightningUnavailable
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
    """The node's Lightning identity: the remembered one at once, confirmed while the daemon answers and can be used."""

    def __init__(self, config: NodeConfig, node_id: NodeId, lightning: LightningIdentity) -> None:
        self._config = config
        self._node_id = node_id
        self._lightning = lightning
        self._known = Binding.load(config.directory)
        self.confirmed = trio.Event()
        """Set while the daemon is known to be the right one and fit; another event takes its place when it is not."""
        self._asked = trio.Event()
        self._doubted = trio.Event()
        self._trouble: str | None = None

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
        """The binding; Refusal(LIGHTNING_UNAVAILABLE) while the daemon does not answer or cannot be used."""
        binding = self.require()
        if not self.confirmed.is_set():
            raise Refusal(ErrorCode.LIGHTNING_UNAVAILABLE, "this node is waiting for its Lightning daemon; try later")
        return binding

    def doubt(self, error: LightningError) -> None:
        """Somebody met an error of the daemon: look at it now instead of at the next time."""
        if isinstance(error, LightningUnavailable):
            self._lose(error)
        self._doubted.set()

    async def run(self) -> None:
        """Look at the daemon, for ever: with patience while it cannot be used, now and then while it can."""
        while True:
            for pause in backoff():
                try:
                    await self._confirm()
                except LightningError as exc:
                    self._lose(exc)
                else:
                    break
                self._asked.set()
                await trio.sleep(pause)
            self._asked.set()
            with trio.move_on_after(HEALTH_SECONDS):
                await self._doubted.wait()
            self._doubted = trio.Event()

    def _lose(self, error: LightningError) -> None:
        if self.confirmed.is_set():
            self.confirmed = trio.Event()
        if str(error) != self._trouble:
            self._trouble = str(error)
            _log.warning("lightning daemon cannot be used; looking again and again", reason=self._trouble)

    async def _confirm(self) -> None:
        info, known = await self._lightning.info(), self._known
        if known is None:
            check_daemon(info)
            text = binding_text(self._node_id, info.lightning_id)
            self._known = Binding(info.lightning_id, info.network, await self._lightning.sign_message(text))
            self._known.save(self._config.directory)
        else:
            check_daemon(info, network=known.network, lightning_id=known.lightning_id)
        if self.confirmed.is_set():
            return
        self._trouble = None
        _log.info(
            "lightning daemon answers",
            lightning_id=info.lightning_id,
            network=info.network,
            version=info.version,
            simulated=info.simulated,
        )
        self.confirmed.set()
