"""Accounts that never paid: how many there may be, and their removal after a time that they are told."""

from __future__ import annotations

import trio
from blake3 import blake3

from lnstore.config import NodeConfig
from lnstore.logs import get_logger
from lnstore.node import invoicing
from lnstore.node.context import NodeContext
from lnstore.node.errors import Refusal
from lnstore.node.limits import STRANGER_FULL_SECONDS, STRANGER_SECONDS, STRANGER_STEP
from lnstore.ports import LightningError, StrangerLimits
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId

_log = get_logger("lnstore.node.strangers")

NETWORK_BYTES = 8


def limits_of(config: NodeConfig) -> StrangerLimits:
    """What the configuration allows them."""
    return StrangerLimits(
        accounts=config.unpaid_accounts,
        accounts_of_network=config.unpaid_accounts_per_address,
        growth_percent=config.unpaid_growth_percent,
    )


def network_key(identity: Identity, network: bytes) -> bytes:
    """What the books have of an address: enough to see that two are the same, for whoever has the node's key."""
    key = blake3(identity.seed, derive_key_context="lnstore network of a stranger v1").digest()
    return blake3(network, key=key).digest(length=NETWORK_BYTES)


class Strangers:
    """Removes them."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node

    async def run(self) -> None:
        """Remove, for ever."""
        while True:
            await self.step()
            await trio.sleep(STRANGER_SECONDS)

    async def step(self) -> int:  # S-W3, R-W7
        """Remove those whose time is over, some at a time; how many went.

        When the places are used up, newcomers take those of accounts that are older than any purchase takes.
        """
        node, now = self._node, self._node.clock.now()
        full = await node.books.stranger_count() >= node.config.unpaid_accounts
        age = min(node.config.unpaid_account_time, STRANGER_FULL_SECONDS) if full else node.config.unpaid_account_time
        # Twice the time for those that have an invoice to pay, and have it made again and again.
        idle_since_at, in_any_case_at = now - age, now - 2 * age
        removed = 0
        for account_id in await node.books.strangers(
            now, idle_since_at=idle_since_at, in_any_case_at=in_any_case_at, limit=STRANGER_STEP
        ):
            # Under the lock that whoever plans an invoice holds: none is made between the two steps.
            async with node.account_locks.holding(account_id):
                try:
                    withdrawn = await self._withdraw(account_id)
                except LightningError as exc:
                    node.binding.doubt(exc)
                    break
                if withdrawn:
                    removed += await node.books.remove_stranger(
                        account_id, now, idle_since_at=idle_since_at, in_any_case_at=in_any_case_at
                    )
        if removed:
            _log.info("accounts that never paid were removed", accounts=removed)
        return removed

    async def _withdraw(self, account_id: AccountId) -> bool:
        """Make sure that nothing can be paid for the account any more; False when it just was, or cannot be told."""
        for planned in await self._node.books.unpaid_invoices(account_id):
            try:
                await invoicing.withdraw(self._node, planned)
            except Refusal as refused:
                if refused.code is ErrorCode.PERIOD_REFUSED:
                    _log.info("a payment came as an account was to be removed", account=account_id)
                return False
        return True
