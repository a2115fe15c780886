"""However often a client is recovered between rent payments, its shares can be proven and paid for afterwards."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from node_street import PERIOD, Street, open_street
from transfer_fixtures import content

from lnstore.client.accounts import standing
from lnstore.client.adopt import NONCES_PER_PERIOD, UNKNOWN_RECOVERIES, adopt
from lnstore.client.money_errors import NodeUntrusted
from lnstore.client.renewal import plan_renewal, renew_due
from lnstore.client.rent import pay_rent
from lnstore.client.rent_status import rent_status
from lnstore_protocol.messages import TOKENS_PER_SHARE, AccountStatus, RequestInvoice


@dataclass
class Life:
    """A client at one node whose machine is lost now and then; the node's side of each nonce is written down."""

    street: Street
    asked: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    """By token index: the nonce that was revealed for it, and the period."""
    backed_up_at: int = 0
    files: int = 0

    async def back_up(self) -> None:
        self.backed_up_at = self.street.clock.now()
        with closing(sqlite3.connect(self._catalog)) as now, closing(sqlite3.connect(self._backup)) as then:
            now.backup(then)

    async def recover(self) -> None:
        """The machine is lost, and another one has what was backed up."""
        for path in self._catalog.parent.glob("catalog.db*"):
            path.unlink()
        shutil.copy(self._backup, self._catalog)
        async with self.street.client() as (purse, _):
            for node in purse.catalog.nodes():
                await adopt(purse, node, backed_up_at=self.backed_up_at)

    async def recover_and_back_up(self) -> None:
        await self.recover()
        await self.back_up()

    async def put(self) -> None:
        async with self.street.client() as (_, client):
            self.files += 1
            await client.put(BytesIO(content(5000, self.files)), name=f"file {self.files}")
        await self.back_up()

    async def pay(self, *, ahead: int = 0) -> None:
        """In the next period, or `ahead` of it, as `lnstore rent pay` does."""
        self.street.clock.at += 0 if ahead else PERIOD
        told: list[str] = []
        async with self.street.client() as (purse, _):
            await renew_due(purse, progress=told.append)
            (outcome,) = await pay_rent(purse, ahead=ahead)
            assert outcome.error is None, told
            assert (outcome.paid_until_at or 0) > self.street.clock.now()
            assert all(paid.verified and paid.sampled for paid in outcome.paid)
            assert outcome.proofs_left is not None
            assert 0 < outcome.proofs_left <= TOKENS_PER_SHARE
            (how,) = await rent_status(purse, purse.catalog.nodes())
            assert how.agrees, how.differences

    async def pay_ahead(self) -> None:
        await self.pay(ahead=1)

    def note(self, request: RequestInvoice) -> None:
        """R-R17: an index has one nonce, for one period."""
        if request.token_index is not None:
            now = (request.nonce or b"", request.period or 0)
            assert self.asked.setdefault(request.token_index, now) == now, "a nonce was revealed twice"

    @property
    def _catalog(self) -> Path:
        return self.street.profile.directory / "catalog.db"

    @property
    def _backup(self) -> Path:
        return self.street.directory / "backup.db"


@asynccontextmanager
async def a_life(directory: Path) -> AsyncIterator[Life]:
    async with open_street(directory, 1, needed=1, total=1) as street:
        life = Life(street)

        async def listen(true: Any, request: Any, message: RequestInvoice) -> Any:
            life.note(message)
            return await true(request, message)

        with pytest.MonkeyPatch.context() as patch:
            street.cheat(patch, street.houses[0], RequestInvoice, listen)
            await life.put()
            yield life


PAY, AHEAD, PUT, BACK_UP = Life.pay, Life.pay_ahead, Life.put, Life.back_up
LOSE, LOSE_AND_BACK_UP = Life.recover, Life.recover_and_back_up
Step = Callable[[Life], Awaitable[None]]
recoveries: st.SearchStrategy[list[Step]] = st.integers(1, 10).map(lambda times: [LOSE_AND_BACK_UP] * times)
others: st.SearchStrategy[list[Step]] = st.sampled_from([[PAY], [AHEAD], [PUT], [LOSE], [BACK_UP]])


@given(parts=st.lists(recoveries | others, max_size=4))
@example(parts=[[LOSE_AND_BACK_UP] * 10, [PUT, PAY, LOSE, PUT]])
@example(parts=[[LOSE_AND_BACK_UP, PAY, LOSE, PAY, LOSE, LOSE]])
@example(parts=[[LOSE, AHEAD, LOSE]])
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_rent_is_payable_after_any_recoveries(parts: list[list[Step]]) -> None:
    async def live() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with a_life(Path(directory)) as life:
                for step in (*chain.from_iterable(parts), PAY, PAY):
                    await step(life)

    trio.run(live)


async def test_the_plan_begins_where_the_next_proof_does_and_reads_each_share_once(tmp_path: Path) -> None:
    """Three recoveries pass over all tokens of the first table: the next one is read for, paid and not made again."""
    async with a_life(tmp_path) as life:
        for _ in range(3):
            await life.recover_and_back_up()
        async with life.street.client() as (purse, _):
            node = life.street.entry(purse, life.street.houses[0])
            plan = await plan_renewal(purse, node)
            assert (plan.token_start, len(plan.shares)) == (TOKENS_PER_SHARE, 2)
            await renew_due(purse, progress=lambda _: None)
            assert (await plan_renewal(purse, node)).shares == ()
            _, status = await standing(purse, node)
            assert status.token_index == 0
        await life.pay()
        assert list(life.asked) == [TOKENS_PER_SHARE]


async def test_a_node_can_not_use_up_more_tokens_than_recoveries_explain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says beyond that is refused, and nothing is entered."""
    most = 2 * NONCES_PER_PERIOD * (1 + UNKNOWN_RECOVERIES)
    async with a_life(tmp_path) as life:
        (house,) = life.street.houses

        async def boast(true: Any, request: Any, message: AccountStatus) -> Any:
            return replace(await true(request, message), token_index=most + 1)

        with monkeypatch.context() as patch:
            life.street.cheat(patch, house, AccountStatus, boast)
            async with life.street.client() as (purse, _):
                node = life.street.entry(purse, house)
                with pytest.raises(NodeUntrusted, match=f"no more than {most} can"):
                    await adopt(purse, node, backed_up_at=life.backed_up_at)
                assert purse.wallet.standing(node.node_id, anchor_at=0).latest_proof == 0
        await life.pay()
