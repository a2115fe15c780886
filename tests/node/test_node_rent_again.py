"""Rent asked for with another challenge: for a payer that can never pay the first invoice, or a share that is back."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_world import MIB, PERIOD, START_AT, Client, RunningNode, World, some_bytes
from soak_length import sequences

from lnstore.node.limits import MAXIMUM_RENT_ATTEMPTS
from lnstore_protocol import merkle, proofs
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import AddCapacity, AddCapacityReply, ErrorReply, InvoiceReply, RequestInvoice
from lnstore_protocol.terms import rent_msat

PRICE = 50_000_000


async def _ask(client: Client, node: RunningNode) -> RequestInvoice:
    return client.rent_request(node.address, await client.status())


def _with(ask: RequestInvoice, client: Client, node: RunningNode, t: int) -> RequestInvoice:
    return replace(ask, token_index=t, nonce=client.nonce(node.address, t))


# MA-R25
async def test_a_higher_token_index_gets_another_invoice_and_the_former_can_no_longer_be_paid(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.put(b"share")
        ask = await _ask(client, node)
        first = await client.ask(ask, InvoiceReply)
        again = _with(ask, client, node, 2)
        second = await client.ask(again, InvoiceReply)
        assert second.bolt11 != first.bolt11
        assert (second.amount_msat, second.from_at, second.until_at) == (
            first.amount_msat,
            first.from_at,
            first.until_at,
        )
        assert not world.daemon.pay(first.bolt11)
        assert await client.ask(again, InvoiceReply) == second
        for wrong in (
            ask,
            _with(ask, client, node, 1),
            replace(again, nonce=bytes(32)),
            replace(again, token_index=3),  # a nonce that is known
        ):
            assert await client.refused(wrong) is ErrorCode.NONCE_MISMATCH
        assert world.daemon.pay(second.bolt11)
        after = await client.until(lambda now: now.token_index == 3)
        assert (after.paid_until_at, after.deposit_msat) == (START_AT + 2 * PERIOD, 0)
        assert await client.refused(_with(ask, client, node, 3)) is ErrorCode.PERIOD_REFUSED  # paid


async def test_a_node_that_has_its_share_back_is_asked_again(world: World) -> None:
    """The answer to the first challenge stays what it was; the second challenge is answered from what is there now."""
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        data = some_bytes(3000)
        share_id = await client.put(data, tokens=client.tokens(node.address, data))
        path = next(world.directory.glob(f"shares/*/*/{share_id.hex()}"))
        path.rename(path.with_suffix(".away"))
        ask = await _ask(client, node)
        assert (await client.ask(ask, InvoiceReply)).lost == share_id
        path.with_suffix(".away").rename(path)
        assert (await client.ask(ask, InvoiceReply)).lost == share_id
        again = _with(ask, client, node, 1)
        reply = await client.ask(again, InvoiceReply)
        assert (reply.lost, reply.sample[:32]) == (b"", share_id)
        nonce = client.nonce(node.address, 1)
        honest = proofs.fold(nonce, [(ShareId(share_id), proofs.answer(nonce, merkle.share_id(data), data))])
        (hash_,) = [i.payment_hash for i in world.daemon.invoices.values() if i.bolt11 == reply.bolt11]
        assert proofs.payment_hash(honest) == hash_


async def test_further_attempts_are_few_and_the_last_can_still_be_paid(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        ask = await _ask(client, node)
        for t in range(MAXIMUM_RENT_ATTEMPTS):
            last = await client.ask(_with(ask, client, node, t), InvoiceReply)
        assert await client.refused(_with(ask, client, node, 9)) is ErrorCode.RATE_LIMITED
        assert await client.ask(_with(ask, client, node, MAXIMUM_RENT_ATTEMPTS - 1), InvoiceReply) == last
        assert world.daemon.pay(last.bolt11)
        await client.until(lambda now: now.token_index == MAXIMUM_RENT_ATTEMPTS)


async def test_an_invoice_that_was_paid_in_time_is_not_replaced(world: World) -> None:
    """The collector has not heard of the payment yet when another challenge comes."""
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        ask = await _ask(client, node)
        first = await client.ask(ask, InvoiceReply)
        world.daemon.hang("after paid")
        assert world.daemon.pay(first.bolt11)
        await world.daemon.hanging.wait()
        again = _with(ask, client, node, 1)
        assert await client.refused(again) is ErrorCode.PERIOD_REFUSED
        assert (await client.ask(ask, InvoiceReply)).bolt11 == first.bolt11
        identity = client.identity
        node.kill()
    world.daemon.recover()
    async with world.running() as node, world.client(node, identity) as client:
        after = await client.until(lambda now: now.token_index == 1)
        assert (after.next_period, after.deposit_msat) == (2, 0)
        assert await client.refused(again) is ErrorCode.PERIOD_REFUSED


async def test_growth_between_two_attempts_is_not_charged_twice(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        ask = await _ask(client, node)
        first = await client.ask(ask, InvoiceReply)
        grown = await client.ask(AddCapacity(growth_index=1, capacity_bytes=16 * MIB), AddCapacityReply)
        assert grown.until_at == first.until_at
        assert world.daemon.pay(grown.bolt11)
        await client.until(lambda now: now.capacity_bytes == 16 * MIB)
        second = await client.ask(_with(ask, client, node, 1), InvoiceReply)
        assert (second.capacity_bytes, second.amount_msat) == (8 * MIB, rent_msat(8 * MIB, PERIOD, PRICE))
        assert world.daemon.pay(second.bolt11)
        after = await client.until(lambda now: now.token_index == 2)
        assert after.paid_until_at == first.until_at


async def test_a_crash_while_an_invoice_is_withdrawn_leaves_one_that_can_be_paid(world: World) -> None:
    """Crossed out and deleted, but the next one not planned: the old request has the old invoice made again."""
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.put(b"share")
        ask = await _ask(client, node)
        first = await client.ask(ask, InvoiceReply)
        (label,) = [label for label, invoice in world.daemon.invoices.items() if invoice.bolt11 == first.bolt11]
        await node.books.withdrawing(label)
        del world.daemon.invoices[label]
        made = await client.ask(ask, InvoiceReply)
        assert replace(made, bolt11=first.bolt11) == first
        assert world.daemon.pay(made.bolt11)
        await client.until(lambda now: now.token_index == 1)


@settings(
    max_examples=sequences(short=7),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(indices=st.lists(st.integers(0, 6), min_size=1, max_size=8), late=st.integers(0, 8))
async def test_whatever_is_asked_in_whatever_order_one_payment_pays_the_period(
    tmp_path_factory: object, indices: list[int], late: int
) -> None:
    """Of all the invoices for a period only the last can be paid, and only once."""
    world = World(tmp_path_factory.mktemp("n"))  # type: ignore[attr-defined]
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        ask = await _ask(client, node)
        answered: list[tuple[int, str]] = []
        for t in indices:
            reply = await client.receive(await client.send(_with(ask, client, node, t)))
            if not isinstance(reply, InvoiceReply):
                assert t < max(answered)[0] or len(answered) == MAXIMUM_RENT_ATTEMPTS
                continue
            if (t, reply.bolt11) not in answered:
                assert all(t > before for before, _ in answered)
                answered.append((t, reply.bolt11))
        bolt11s = [bolt11 for _, bolt11 in answered]
        tried = bolt11s[late % len(bolt11s) :] + bolt11s
        assert sum(world.daemon.pay(bolt11) for bolt11 in tried) == 1
        after = await client.until(lambda now: now.next_period == 2)
        assert (after.token_index, after.deposit_msat) == (answered[-1][0] + 1, 0)
        assert sum((await node.books.balances()).values()) == 0


async def test_proofs_that_are_not_paid_for_are_limited_per_period_and_per_time(world: World) -> None:
    """S-W2, E-W4: the first of a period is always answered; the rest by time, which is told, and repetitions freely."""
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.put(b"share")
        ask = await _ask(client, node)
        for t in range(MAXIMUM_RENT_ATTEMPTS):
            last = await client.ask(_with(ask, client, node, t), InvoiceReply)
        beyond = _with(ask, client, node, MAXIMUM_RENT_ATTEMPTS)
        assert await client.refused(beyond) is ErrorCode.RATE_LIMITED
        assert world.daemon.pay(last.bolt11)
        await client.until(lambda now: now.token_index == MAXIMUM_RENT_ATTEMPTS)
        world.clock.time += PERIOD
        ask = await _ask(client, node)
        first = await client.ask(ask, InvoiceReply)
        for _ in range(20):
            assert await client.ask(ask, InvoiceReply) == first
        refused = await client.ask(_with(ask, client, node, MAXIMUM_RENT_ATTEMPTS + 1), ErrorReply)
        assert refused.code is ErrorCode.RATE_LIMITED
        assert 800 < (refused.retry_after_seconds or 0) <= 900
        assert world.daemon.pay(first.bolt11)
