"""What an operator decides, as clients meet it: free accounts, quotas, blocks, invitations. Beside a running node."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from node_world import MIB, PERIOD, Client, RunningNode, World, some_bytes

from lnstore.books import SqlBooks
from lnstore.node import accounting
from lnstore_protocol import merkle, proofs
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, InvitationSecret, Msat, ShareId
from lnstore_protocol.invitations import Invitation, parse_invitation
from lnstore_protocol.messages import (
    AccountState,
    AccountStatusReply,
    AddCapacity,
    AddCapacityReply,
    DropShares,
    DropSharesReply,
    GetShare,
    GetShareReply,
    GetTerms,
    InvoicePurpose,
    InvoiceReply,
    OpenAccount,
    OpenAccountReply,
    PutShare,
    RequestInvoice,
    TermsReply,
)
from lnstore_protocol.terms import Agreement, SignedTerms


async def _grow(client: Client, capacity_bytes: int) -> AddCapacityReply:
    index = (await client.status()).growth_index
    return await client.ask(AddCapacity(growth_index=index, capacity_bytes=capacity_bytes), AddCapacityReply)


async def _terms(client: Client, invitation: InvitationSecret) -> SignedTerms:
    return SignedTerms.decode((await client.ask(GetTerms(invitation=invitation), TermsReply)).terms)


async def _open(client: Client, terms: SignedTerms, secret: InvitationSecret | None) -> OpenAccount:
    proposal = Agreement.propose(terms, client.identity, client.clock.now())
    return OpenAccount(agreement=proposal.encoded, invitation=secret)


async def _invited(world: World, node: RunningNode, **conditions: object) -> Invitation:
    made, text = await accounting.invite(world.config, node.books, valid_seconds=100_000_000_000, **conditions)
    invitation = parse_invitation(text)
    assert (invitation.invitation_id, invitation.address) == (made.invitation_id, node.address)
    assert (invitation.secret.hex() in repr(invitation), invitation.secret.hex() in repr(made)) == (False, False)
    return invitation


async def test_a_free_account_proves_its_shares_without_any_invoice(world: World) -> None:  # RA-W9, RA-R7, MA-R18
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        account_id = AccountId(client.identity.public_key)
        await node.books.set_free(account_id, world.clock.now(), free=True)
        reply = await _grow(client, 64 * MIB)
        assert (reply.amount_msat, reply.bolt11, len(reply.preimage or b"")) == (0, "", 32)
        # Asked for again, as after a lost reply, it is given no second time.
        again = await client.ask(AddCapacity(growth_index=0, capacity_bytes=64 * MIB), AddCapacityReply)
        assert again == reply
        status = await client.status()
        assert (status.capacity_bytes, status.growth_index, status.free) == (64 * MIB, 1, 1)

        blobs = {await client.put(data, tokens=client.tokens(node.address, data)): data for data in (b"a" * 99, b"b")}
        world.clock.time += PERIOD
        await node.bill()
        status = await client.status()
        assert (status.state, status.next_period) == (AccountState.ACTIVE, 1)
        request = client.rent_request(node.address, status)
        proof = await client.ask(request, InvoiceReply)
        assert (proof.amount_msat, proof.bolt11, proof.lost) == (0, "", b"")
        nonce = client.nonce(node.address, 0)
        ids = [ShareId(proof.sample[at : at + 32]) for at in range(0, len(proof.sample), 48)]
        answers = [(share_id, proofs.answer(nonce, share_id, blobs[share_id])) for share_id in ids]
        assert set(ids) == set(blobs)
        assert proof.preimage == proofs.fold(nonce, answers)
        status = await client.status()
        assert (status.next_period, status.token_index, status.proofs_passed) == (2, 1, 1)
        assert await client.ask(request, InvoiceReply) == proof
        # One period ahead may be asked for, no more.
        assert not (await client.ask(client.rent_request(node.address, status), InvoiceReply)).amount_msat
        ahead = client.rent_request(node.address, await client.status())
        assert await client.refused(ahead) is ErrorCode.PERIOD_REFUSED
        assert world.daemon.created == 0
        # Reading costs nothing either.
        for share_id in blobs:
            await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)


async def test_a_free_account_that_lost_a_share_says_so_and_is_counted(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        await node.books.set_free(AccountId(client.identity.public_key), world.clock.now(), free=True)
        await _grow(client, 64 * MIB)
        gone = await client.put(data := some_bytes(700), tokens=client.tokens(node.address, data))
        world.shares.delete(gone)
        world.clock.time += PERIOD
        await node.bill()
        reply = await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)
        assert (reply.lost, reply.sample) == (bytes(gone), b"")
        status = await client.status()
        assert (status.proofs_passed, status.proofs_failed) == (0, 1)


async def test_a_decision_beside_the_running_node_holds_from_the_next_request_on(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(64 * MIB)
        stored = await client.put(data := some_bytes(1000), tokens=client.tokens(node.address, data))
        account_id = AccountId(client.identity.public_key)
        more = some_bytes(1000)
        put = PutShare(share_id=merkle.share_id(more), token_start=0, tokens=b"", payload=more)
        async with SqlBooks.open(world.directory / "books.db") as operator:
            await operator.set_quota(account_id, 1500)
            assert await client.refused(put) is ErrorCode.CAPACITY_EXCEEDED
            refusal = await client.refused(AddCapacity(growth_index=1, capacity_bytes=128 * MIB))
            assert refusal is ErrorCode.CAPACITY_REFUSED
            assert (await client.status()).quota_bytes == 1500
            await operator.set_quota(account_id, None)
            await client.put(more)
            await operator.set_blocked(account_id, world.clock.now(), blocked=True)
        status = await client.status()
        assert (status.blocked, status.state) == (1, AccountState.ACTIVE)
        world.clock.time += PERIOD
        deposit = RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=0, amount_msat=Msat(5))
        growth = AddCapacity(growth_index=1, capacity_bytes=128 * MIB)
        for request in (put, deposit, growth, client.rent_request(node.address, status)):
            assert await client.refused(request) is ErrorCode.ACCOUNT_BLOCKED
        # Its own data can be read (which a deposit pays) and dropped.
        read = GetShare(share_id=stored, offset=0, length=0)
        assert await client.refused(read) is ErrorCode.PAYMENT_REQUIRED
        assert (await client.ask(DropShares(payload=bytes(stored)), DropSharesReply)).dropped == 1
        await node.bill()
        assert (await client.status()).state is AccountState.GRACE


async def test_an_invitation_leads_to_its_own_terms_once(world: World) -> None:  # RA-R3, RA-R5, RA-W7
    async with world.running() as node, world.client(node) as client:
        invitation = await _invited(
            world,
            node,
            price_msat_per_gib_month=0,
            egress_msat_per_gib=0,
            ingress_msat_per_gib=3,
            maximum_capacity_bytes=8 * MIB,
            price_periods=100,
            petname="alice",
        )
        signed = await _terms(client, invitation.secret)
        terms = signed.terms
        assert (terms.price_msat_per_gib_month, terms.maximum_capacity_bytes) == (0, 8 * MIB)
        assert (terms.egress_msat_per_gib, terms.ingress_msat_per_gib) == (0, 3)
        assert (terms.price_periods, terms.invitation) == (100, invitation.invitation_id)
        # The terms are nothing without the secret, and the secret nothing with other terms.
        assert await client.refused(await _open(client, signed, None)) is ErrorCode.INVITATION_REQUIRED
        usual = await client.terms()
        assert await client.refused(await _open(client, usual, invitation.secret)) is ErrorCode.INVITATION_REQUIRED
        await client.ask(await _open(client, signed, invitation.secret), OpenAccountReply)
        await _grow(client, 8 * MIB)
        one = await accounting.overview(node.books, "alice")
        assert (one.at_no_price, one.account.free, one.account.capacity_bytes) == (True, False, 8 * MIB)
        async with world.client(node, Identity.generate()) as other:
            assert await other.refused(GetTerms(invitation=invitation.secret)) is ErrorCode.INVITATION_REQUIRED
            refusal = await other.refused(await _open(other, signed, invitation.secret))
            assert refusal is ErrorCode.INVITATION_REQUIRED
        unknown = InvitationSecret(bytes(16))
        assert await client.refused(GetTerms(invitation=unknown)) is ErrorCode.INVITATION_REQUIRED


async def test_a_withdrawn_invitation_is_good_for_nothing(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        invitation = await _invited(world, node)
        signed = await _terms(client, invitation.secret)
        prefix = invitation.invitation_id.hex()[:8]
        await accounting.revoke(node.books, prefix, world.clock.now())
        assert await client.refused(GetTerms(invitation=invitation.secret)) is ErrorCode.INVITATION_REQUIRED
        opening = await _open(client, signed, invitation.secret)
        assert await client.refused(opening) is ErrorCode.INVITATION_REQUIRED
        with pytest.raises(accounting.AccountUnknown):
            await accounting.revoke(node.books, "0000", world.clock.now())


async def test_where_accounts_are_by_invitation_others_are_sent_to_the_operator(tmp_path: Path) -> None:  # RA-W8
    world = World(tmp_path, accounts="invited")
    async with world.running() as node, world.client(node) as client:
        opening = await _open(client, await client.terms(), None)
        assert await client.refused(opening) is ErrorCode.INVITATION_REQUIRED
        await node.books.allow_account(AccountId(client.identity.public_key))
        await client.rent(64 * MIB)
        async with world.client(node, Identity.generate()) as friend:
            secret = (await _invited(world, node)).secret
            await friend.ask(await _open(friend, await _terms(friend, secret), secret), OpenAccountReply)


async def test_accounts_are_found_by_name_or_the_beginning_of_their_id(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(64 * MIB)
        digits = client.identity.public_key.hex()
        one = await accounting.overview(node.books, digits[:4])
        assert (one.name, one.as_json()["petname"]) == (digits[:8], None)
        assert json.dumps(one.as_json())
        assert one.figures.income_msat > 0
        for text in ("abc", "nobody", ""):
            with pytest.raises(accounting.AccountUnknown, match="there is no account"):
                await accounting.overview(node.books, text)
        twins = [one.account, replace(one.account, account_id=AccountId(one.account.account_id[:31] + b"\0"))]
        with pytest.raises(accounting.AccountUnknown, match="2 accounts"):
            accounting.find(twins, digits[:8])
        for wrong in ("", "a b", "a" * 65, "a/b"):
            with pytest.raises(accounting.AccountUnfit):
                accounting.check_petname(wrong)


async def test_a_node_that_does_not_run_invites_to_what_its_settings_say(tmp_path: Path) -> None:
    world = World(tmp_path, announce_host="node.example.org", listen_port=7460)
    async with SqlBooks.open(world.directory / "books.db") as books:
        _, text = await accounting.invite(world.config, books, valid_seconds=60)
        assert parse_invitation(text).place == "node.example.org:7460"
        nowhere = replace(world.config, listen_port=0)
        with pytest.raises(accounting.AccountUnfit, match="start it first"):
            await accounting.invite(nowhere, books, valid_seconds=60)


def _is_past(period: int, status: AccountStatusReply) -> bool:
    return status.next_period > period


@pytest.mark.parametrize("periods", [None, 3])
async def test_an_invitations_prices_stay_for_good_or_for_its_periods(world: World, periods: int | None) -> None:
    """Then the node's usual ones are announced, and hold once they are signed."""
    async with world.running() as node, world.client(node) as client:
        invitation = await _invited(world, node, price_msat_per_gib_month=7, price_periods=periods)
        signed = await _terms(client, invitation.secret)
        await client.ask(await _open(client, signed, invitation.secret), OpenAccountReply)
        client.daemon.pay((await _grow(client, 64 * MIB)).bolt11)
        await client.until(lambda now: now.capacity_bytes)
        for period in (1, 2):
            world.clock.time += PERIOD
            await node.bill()
            reply = await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)
            client.daemon.pay(reply.bolt11)
            await client.until(partial(_is_past, period))
        status = await client.status()
        assert (status.announced_terms is None) is (periods is None)
        if status.announced_terms is not None:
            announced = SignedTerms.decode(status.announced_terms).terms
            assert announced.price_msat_per_gib_month == world.config.price_msat_per_gib_month
            assert announced.invitation is None
