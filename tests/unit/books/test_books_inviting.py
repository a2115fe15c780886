"""Who may open an account: invitations that are good once, and keys that were allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from books_world import ANCHOR, GRACE, PERIOD, World, a_world, agreement

from lnstore.ports import Account, BooksRefused, Invitation
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, InvitationId, InvitationSecret

SECRET = InvitationSecret(b"s" * 16)
OPEN = Invitation(invitation_id=SECRET.invitation_id, created_at=ANCHOR, expires_at=ANCHOR + 100, petname="alice")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


async def opened(world: World, now: int = ANCHOR, *, invitation: InvitationId | None, client: Identity) -> Account:
    return await world.books.open_account(agreement(client, now, invitation=invitation), now, invited_only=True)


async def test_an_invitation_opens_one_account_and_names_it(world: World) -> None:  # RA-W7
    await world.books.add_invitation(OPEN)
    client = Identity.generate()
    account = await opened(world, invitation=OPEN.invitation_id, client=client)
    assert (account.petname, account.unpaid_since_at) == ("alice", None)
    # The same request again, because its reply was lost, finds the account.
    assert await opened(world, ANCHOR + 1, invitation=OPEN.invitation_id, client=client) == account
    used = replace(OPEN, used_at=ANCHOR, used_by=account.account_id)
    assert await world.books.invitations() == [used]
    with pytest.raises(BooksRefused, match="used already") as raised:
        await opened(world, invitation=OPEN.invitation_id, client=Identity.generate())
    assert raised.value.code is ErrorCode.INVITATION_REQUIRED
    assert (await world.books.revoke_invitation(OPEN.invitation_id, ANCHOR + 5)).revoked_at is None


@pytest.mark.parametrize("why", ["withdrawn", "expired", "not known"])
async def test_an_invitation_that_is_not_good_opens_nothing(world: World, why: str) -> None:  # RA-W7, RA-R4
    if why != "not known":
        await world.books.add_invitation(OPEN)
    if why == "withdrawn":
        assert (await world.books.revoke_invitation(OPEN.invitation_id, ANCHOR)).revoked_at == ANCHOR
    now = ANCHOR + (101 if why == "expired" else 100)
    with pytest.raises(BooksRefused, match=why) as raised:
        await opened(world, now, invitation=OPEN.invitation_id, client=Identity.generate())
    assert raised.value.code is ErrorCode.INVITATION_REQUIRED
    assert await world.books.accounts() == []


async def test_without_an_invitation_only_who_was_allowed_or_there_before_is_taken(world: World) -> None:  # RA-W8
    stranger, friend = Identity.generate(), Identity.generate()
    with pytest.raises(BooksRefused, match="by invitation"):
        await opened(world, invitation=None, client=stranger)
    key = AccountId(friend.public_key)
    assert await world.books.allow_account(key)
    assert not await world.books.allow_account(key)
    assert (await opened(world, invitation=None, client=friend)).unpaid_since_at is None
    # Whoever had an account before accounts were by invitation goes on, and after a lapse too.
    account = await world.renting()
    await world.books.advance(account.paid_until_at + GRACE)
    later = ANCHOR + 9 * PERIOD
    assert (await opened(world, later, invitation=None, client=world.clients[0])).account_id == account.account_id


async def test_a_name_that_is_taken_is_passed_over(world: World) -> None:
    first = await world.opened()
    await world.books.name_account(first.account_id, "alice")
    await world.books.add_invitation(OPEN)
    assert (await opened(world, invitation=OPEN.invitation_id, client=Identity.generate())).petname is None


async def test_no_invitation_can_be_used_and_withdrawn_or_be_there_twice(world: World) -> None:
    await world.books.add_invitation(OPEN)
    with pytest.raises(Exception, match="UNIQUE"):
        await world.books.add_invitation(OPEN)
    with pytest.raises(KeyError):
        await world.books.revoke_invitation(InvitationId(bytes(32)), ANCHOR)
    assert await world.books.invitation(InvitationId(bytes(32))) is None
