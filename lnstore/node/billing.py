"""Billing: moving accounts through their states, never at the cost of somebody who could not pay.

Nobody is evicted for the node's absence or for its Lightning daemon's: accounts are only looked at while the collector
is caught up, and after an absence they get as long as it lasted (at most the grace) before time is held against them.
"""

from __future__ import annotations

import trio

from lnstore.books.states import owed_at
from lnstore.logs import get_logger
from lnstore.node.collector import Collector
from lnstore.node.context import NodeContext
from lnstore.node.directory import write_seen
from lnstore.node.limits import BILLING_SECONDS, HEARTBEAT_SECONDS
from lnstore.ports import Look
from lnstore_protocol.messages import AccountStage

_log = get_logger("lnstore.node.billing")


class Billing:
    """Looks at the accounts again and again."""

    def __init__(self, node: NodeContext, collector: Collector) -> None:
        self._node = node
        self._collector = collector
        self._not_before_at = 0
        self._seen_at = 0

    async def run(self) -> None:
        """Bill, for ever."""
        while True:
            await self._collector.wait_caught_up()
            await self.step()
            await trio.sleep(BILLING_SECONDS)

    async def step(self) -> None:  # R-W5
        """One look, if the payments are known and no absence is being made up for."""
        if not self._collector.is_caught_up:
            return
        now = self._node.clock.now()
        since = self._collector.take_absence()
        if since is not None:
            self._not_before_at = max(self._not_before_at, now + min(max(0, now - since), self._node.config.grace))
        if now >= self._seen_at + HEARTBEAT_SECONDS:
            await self.heartbeat()
        if now < self._not_before_at:
            return
        for look in await self._node.books.advance(now):
            self._tell(look)

    def _tell(self, look: Look) -> None:  # RP-W2
        """What is new about an account, in the log: each stage that begins, and each that is warned of, once."""
        account = look.account
        about = {
            "account": account.account_id,
            "stage": look.stage.name,
            "paid_until_at": account.paid_until_at,
            "grace_until_at": (owed_at(account) or account.paid_until_at) + account.grace_seconds,
        }
        if look.entered:
            _log.info("account entered a stage", **about)
        if look.warned_of is not None:
            _log.info("account nears a stage", next_stage=look.warned_of.name, **about)
        if look.stage is AccountStage.LAPSED:
            self._node.sweep_wanted.set()

    async def heartbeat(self) -> None:
        """Write down that the node is there and can be paid.

        Not before an absence is made up for, lest a restart forget it.
        """
        now = self._node.clock.now()
        if self._collector.is_caught_up and now >= self._not_before_at:
            await trio.to_thread.run_sync(write_seen, self._node.config.directory, now)
            self._seen_at = now
