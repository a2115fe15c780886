"""Delegations from both clients' side, over real nodes in this process: giving, acting, looking after, ending."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import trio
from node_world import MIB, START_AT
from test_transfer_real_nodes import Grid
from transfer_fixtures import content, read_back

from lnstore.client.accounts import open_account
from lnstore.client.audit import HowLost, find_lost
from lnstore.client.delegates import (
    DelegationInvalid,
    Limits,
    RevocationIncomplete,
    accept,
    drop,
    issue,
    overview,
    revoke,
)
from lnstore.client.files import Client, open_client
from lnstore.client.money_errors import AccountMissing
from lnstore.client.profile import Profile, init_profile
from lnstore.client.purse import Purse
from lnstore.client.standing import TooFewNodes
from lnstore.client.tasks import open_tasks
from lnstore.client.upload import PutFailed
from lnstore.lightning.core import CoreLightning
from lnstore_protocol.delegation import UNLIMITED, Rights
from lnstore_protocol.ids import AccountId
from lnstore_protocol.terms import Agreement


def limits(**changes: Any) -> Limits:
    values: dict[str, Any] = {
        "maximum_bytes": 8 * MIB,
        "maximum_read_bytes": UNLIMITED,
        "expires_at": START_AT + 3600,
        "rights": Rights.READ_WRITE,
        "levels": 0,
    }
    return Limits(**values | changes)


class Town(Grid):
    """Three nodes with one holder, and others without an account; everybody's clock is the nodes'."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, 3, needed=2)
        self.others: dict[str, Profile] = {}

    def key(self, name: str) -> AccountId:
        return self._profile(name).account_id

    def _profile(self, name: str) -> Profile:
        if name not in self.others:
            self.others[name] = init_profile(self.directory / name, needed=2, happy=2, total=3)
        return self.others[name]

    async def rent(self, capacity_bytes: int = 64 * MIB, *, deposit_msat: int = 1_000_000) -> None:
        await super().rent(capacity_bytes, deposit_msat=deposit_msat)
        for world, node in zip(self.worlds, self.running, strict=True):
            async with world.client(node, self.profile.identity) as client:
                agreement = Agreement.decode((await client.status()).agreement)
            with self.profile.open_catalog() as catalog:
                catalog.set_agreement(node.address.node_id, terms=agreement.terms.encoded, agreement=agreement.encoded)

    @asynccontextmanager
    async def acting(self, name: str = "") -> AsyncIterator[Client]:
        """The holder's client, or another's of this name."""
        async with open_client(self._profile(name) if name else self.profile) as client:
            client.clock = self.worlds[0].clock
            yield client

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """All nodes run, and the holder has rented at each."""
        async with self.up():
            await self.rent()
            yield

    async def give(self, name: str, **changes: Any) -> str:
        """The text of a delegation to this other."""
        async with self.acting() as holder:
            return issue(holder, self.key(name), limits(**changes)).delegation.to_text()

    async def take(self, name: str, text: str) -> list[str]:
        """What each node said to the delegate that came with it: nothing is good."""
        async with self.acting(name) as client:
            _, nodes = await accept(client, text)
            return [at.problem for at in nodes]


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


async def test_a_delegate_puts_and_gets_without_account_or_lightning_and_the_holder_sees_it(town: Town) -> None:
    async with town.open():
        data = content(3 * MIB)
        assert await town.take("friend", await town.give("friend")) == ["", "", ""]
        async with town.acting("friend") as friend:
            stored = await friend.put(BytesIO(data), name="f")
            assert stored.missing_shares == 0
            assert await read_back(friend, stored.cap) == data
            with pytest.raises(PutFailed, match=r"ask the account.s holder for a larger delegation"):
                await friend.put(BytesIO(content(17 * MIB)), name="large")
        async with town.acting() as holder:
            ((one,), silent) = await overview(holder)
            assert silent == []
            assert set(one.usages) == {"n0", "n1", "n2"}
            assert one.certificate.subject == town.key("friend")
            assert all(usage.used_bytes > MIB for usage in one.usages.values())
            with trio.fail_after(10):
                while sum(usage.read_bytes for usage in one.usages.values()) < 3 * MIB:  # counted once a session ends
                    ((one,), _) = await overview(holder)
            assert await read_back(holder, stored.cap) == data


async def _put_and_kill(town: Town, client: Client, path: Path) -> None:
    async with open_tasks() as tasks:
        tasks.start_soon(_kill_when_it_holds_something, town)
        await client.put(path)


async def _kill_when_it_holds_something(town: Town) -> None:
    """Two of the three nodes end once the first has taken something of the delegate's."""
    while not (await town.running[0].books.delegated(town.profile.account_id))[1]:  # noqa: ASYNC110 - the books are asked
        await trio.sleep(0.002)
    town.running[0].kill()
    town.running[1].kill()


async def test_an_interrupted_put_of_a_delegate_sends_nothing_twice(town: Town, tmp_path: Path) -> None:
    """What its certificate holds is found by have_shares."""
    async with town.open():
        path = tmp_path / "input"
        path.write_bytes(content(13 * MIB))
        await town.take("friend", await town.give("friend", maximum_bytes=32 * MIB))
        async with town.acting("friend") as friend:
            with pytest.raises(PutFailed, match="the same command continues"):
                await _put_and_kill(town, friend, path)
        async with town.up(), town.acting("friend") as friend:
            stored = await friend.put(path)
            assert sum(at.found_shares for at in stored.nodes.values()) > 0
            assert await read_back(friend, stored.cap) == path.read_bytes()


async def test_a_part_can_be_handed_on_once_and_never_more_than_one_has(town: Town) -> None:
    """D-W1."""
    async with town.open():
        await town.take("friend", await town.give("friend", levels=1, maximum_bytes=2 * MIB))
        async with town.acting("friend") as friend:
            ((), _) = await overview(friend)
            with pytest.raises(DelegationInvalid, match="no account to hand on"):
                issue(friend, town.key("third"), limits())
            given, _ = await accept(friend, await town.give("friend", levels=1))
            short = given.certificate_id.hex()[:8]
            with pytest.raises(DelegationInvalid, match="more bytes than the one above"):
                issue(friend, town.key("third"), limits(maximum_bytes=9 * MIB), under=short)
            with pytest.raises(DelegationInvalid, match="no more often"):
                issue(friend, town.key("third"), limits(levels=1), under=short)
            with pytest.raises(DelegationInvalid, match="begins the id of no"):
                issue(friend, town.key("third"), limits(), under="ffff")
            entry = issue(friend, town.key("third"), limits(maximum_bytes=MIB), under=short)
            assert len(entry.chain) == 2
        assert await town.take("third", entry.delegation.to_text()) == ["", "", ""]
        async with town.acting("third") as third:
            await third.put(BytesIO(content(MIB)), name="f")
        async with town.acting() as holder:
            held, _ = await overview(holder)
            by_id = {one.certificate_id: one for one in held}
            below, above = by_id[entry.certificate_id], by_id[given.certificate_id]
            assert below.parent == given.certificate_id
            assert above.usages["n0"].used_bytes == below.usages["n0"].used_bytes > 0


async def test_a_revocation_reaches_every_node_or_says_which_it_did_not(town: Town) -> None:
    """D-W4; what was stored stays until the holder drops it."""
    async with town.open():
        await town.take("friend", await town.give("friend"))
        async with town.acting("friend") as friend, town.acting() as holder:
            await friend.put(BytesIO(content(MIB)), name="f")
            ((one,), _) = await overview(holder)
            town.running[2].kill()
            with pytest.raises(RevocationIncomplete, match="n2"):
                await revoke(holder, one.certificate_id.hex()[:8])
            with pytest.raises(TooFewNodes, match="expired or was revoked"):
                await friend.put(BytesIO(content(MIB)), name="g")
        async with town.up(), town.acting() as holder:
            assert await revoke(holder, town.key("friend").hex()) == 3
            ((one,), _) = await overview(holder)
            assert one.revoked
            assert {usage.revoked_at for usage in one.usages.values()} == {START_AT}
            assert await drop(holder, one.certificate_id.hex()) > 0
            ((one,), _) = await overview(holder)
            assert {usage.used_bytes for usage in one.usages.values()} == {0}
            with pytest.raises(DelegationInvalid, match="begins the id of no"):
                await revoke(holder, "abcd")


async def test_a_delegate_audits_what_it_stored(town: Town) -> None:
    """D-W3: rent proves nothing of it, and a share that is gone shows."""
    async with town.open():
        await town.take("friend", await town.give("friend"))
        async with town.acting("friend") as friend:
            await friend.put(BytesIO(content(MIB)), name="f")
            lightning = CoreLightning(friend.profile.config.lightning_rpc)
            purse = Purse.of(friend.profile, friend.catalog, lightning, friend.pool.dial, friend.clock)
            node = friend.catalog.node(town.running[0].address.node_id)
            assert await find_lost(purse, node) == []
            for path in town.share_files(town.worlds[0]):
                path.unlink()
            assert {lost.why for lost in await find_lost(purse, node)} == {HowLost.UNKNOWN}


async def test_a_delegation_of_another_key_or_that_has_ended_is_not_taken(town: Town) -> None:
    async with town.open():
        text = await town.give("friend", expires_at=START_AT + 10)
        async with town.acting("third") as third:
            with pytest.raises(DelegationInvalid, match="is for the key"):
                await accept(third, text)
            with pytest.raises(DelegationInvalid, match="copy it again"):
                await accept(third, text[:-1])
        for world in town.worlds:
            world.clock.time = START_AT + 10
        async with town.acting("friend") as friend:
            with pytest.raises(DelegationInvalid, match="has expired"):
                await accept(friend, text)


async def test_where_one_has_an_account_that_is_used_and_no_account_is_opened_where_one_is_a_delegate(
    town: Town,
) -> None:
    async with town.open():
        await town.take("friend", await town.give("friend"))
        async with town.acting("friend") as friend:
            lightning = CoreLightning(friend.profile.config.lightning_rpc)
            purse = Purse.of(friend.profile, friend.catalog, lightning, friend.pool.dial, friend.clock)
            node = friend.catalog.node(town.running[0].address.node_id)
            with pytest.raises(AccountMissing, match="by a delegation"):
                await open_account(purse, node)
            friend.catalog.set_agreement(node.node_id, terms=b"", agreement=b"an agreement")
            assert not friend.pool.is_delegate_at(node.node_id)
            _, nodes = await accept(friend, await town.give("friend"))
            assert sorted(at.problem[:26] for at in nodes) == ["", "", "you have an account of you"]


async def test_a_delegation_is_for_the_nodes_that_were_named(town: Town) -> None:
    async with town.open():
        async with town.acting() as holder:
            only = [holder.catalog.find_node("n1")]
            text = issue(holder, town.key("friend"), limits(), nodes=only).delegation.to_text()
        assert await town.take("friend", text) == [""]
        async with town.acting("friend") as friend:
            assert [node.node_id for node in friend.catalog.nodes()] == [town.running[1].address.node_id]
        town.running[1].kill()
        async with town.acting("friend") as friend:
            with pytest.raises(TooFewNodes):
                await friend.put(BytesIO(b"x"), name="f")
