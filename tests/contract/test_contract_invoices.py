"""What every Lightning daemon must do: invoices."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
import trio

from lnstore.ports import Invoice, InvoiceStatus, LightningRefused, Outcome
from lnstore_protocol.ids import Msat
from tests.contract.conftest import eventually

if TYPE_CHECKING:
    from tests.contract.conftest import Pair

FEE = Msat(5000)


async def test_invoice_with_chosen_preimage(pair: Pair) -> None:
    """The payment hash is the SHA-256 of the preimage we chose, and the signed text says what we asked for."""
    preimage = os.urandom(32)
    invoice = await pair.invoice(2500, preimage=preimage)
    decoded = await pair.a.decode(invoice.bolt11)
    assert invoice.payment_hash == decoded.payment_hash == hashlib.sha256(preimage).digest()
    assert decoded.payee == pair.b_id
    assert decoded.amount_msat == invoice.amount_msat == 2500
    assert decoded.network == "regtest"
    assert decoded.description == "rent"
    assert decoded.expires_at == invoice.expires_at == decoded.created_at + 3600
    assert invoice.status is InvoiceStatus.UNPAID
    assert invoice.pay_index is None


async def test_creating_twice_gives_the_same_invoice(pair: Pair) -> None:
    """A repeated creation, as after a crash, finds the invoice of the first one."""
    preimage = os.urandom(32)
    label = f"rent-{preimage.hex()}"

    async def create() -> Invoice:
        return await pair.b.create_invoice(
            label=label, amount_msat=Msat(1000), description="rent", expires_in_seconds=600, preimage=preimage
        )

    first, second = await create(), await create()
    assert second == first == await pair.b.find_invoice(label)


async def test_label_and_preimage_belong_to_one_invoice(pair: Pair) -> None:
    """A label with another preimage is 900; a preimage under another label, or with another amount, is 901."""
    preimage, label = os.urandom(32), f"taken-{os.urandom(4).hex()}"

    async def create(label: str, amount_msat: int, preimage: bytes) -> int:
        try:
            await pair.b.create_invoice(
                label=label, amount_msat=Msat(amount_msat), description="x", expires_in_seconds=600, preimage=preimage
            )
        except LightningRefused as refused:
            return refused.code
        return 0

    assert await create(label, 1000, preimage) == 0
    assert await create(label, 1000, os.urandom(32)) == 900
    assert await create(label, 2000, preimage) == 901
    assert await create(label + "-other", 1000, preimage) == 901


async def test_impossible_expiry_is_refused_before_the_daemon_sees_it(pair: Pair) -> None:
    """An expiry that crashes Core Lightning is a ValueError here."""
    for seconds in (0, -1, 2**31):
        with pytest.raises(ValueError, match="expire within"):
            await pair.b.create_invoice(
                label="x", amount_msat=Msat(1), description="x", expires_in_seconds=seconds, preimage=os.urandom(32)
            )


async def test_unknown_label(pair: Pair) -> None:
    """An unknown label is None, not an error; waiting for it is -1."""
    assert await pair.b.find_invoice("never made") is None
    with pytest.raises(LightningRefused) as caught:
        await pair.b.call("waitinvoice", label="never made")
    assert (caught.value.code, caught.value.message) == (-1, "Label not found")


async def test_paid_invoices_come_in_order_and_again(pair: Pair) -> None:
    """next_paid gives each paid invoice once per cursor, in order of payment, and None when there are no more."""
    start = await pair.last_pay_index()
    invoices = [await pair.invoice(1000 + number) for number in range(3)]
    for invoice in reversed(invoices):
        assert (await pair.a.pay(invoice.bolt11, max_fee_msat=FEE, retry_for_seconds=30)).outcome is Outcome.SETTLED
    for _ in range(2):
        cursor, seen = start, []
        while (paid := await pair.b.next_paid(cursor, timeout_seconds=0)) is not None:
            assert paid.pay_index is not None
            assert paid.pay_index > cursor
            cursor = paid.pay_index
            seen.append(paid)
        assert [paid.label for paid in seen] == [invoice.label for invoice in reversed(invoices)]
        assert [paid.received_msat for paid in seen] == [1002, 1001, 1000]
        assert all(paid.status is InvoiceStatus.PAID and paid.paid_at for paid in seen)


async def test_waiting_for_a_payment(pair: Pair) -> None:
    """A wait that began before the payment ends with it."""
    start = await pair.last_pay_index()
    invoice = await pair.invoice()
    got: list[Invoice | None] = []

    async def wait() -> None:
        got.append(await pair.b.next_paid(start, timeout_seconds=30))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(0.05)
        await pair.a.pay(invoice.bolt11, max_fee_msat=FEE, retry_for_seconds=30)
    assert got[0] == await pair.b.find_invoice(invoice.label)


async def test_waiting_times_out(pair: Pair) -> None:
    """Waitanyinvoice's timeout is 904, which the adapter says as None."""
    start = await pair.last_pay_index()
    assert await pair.b.next_paid(start, timeout_seconds=0) is None
    with pytest.raises(LightningRefused) as caught:
        await pair.b.call("waitanyinvoice", lastpay_index=start, timeout=0)
    assert caught.value.code == 904


async def test_deleted_before_it_was_read(pair: Pair) -> None:
    """A paid invoice that is deleted is skipped silently: who deletes must have read."""
    start = await pair.last_pay_index()
    first, second = await pair.invoice(), await pair.invoice()
    for invoice in (first, second):
        await pair.a.pay(invoice.bolt11, max_fee_msat=FEE, retry_for_seconds=30)
    assert await pair.b.delete_invoice(first.label, InvoiceStatus.PAID)
    paid = await pair.b.next_paid(start, timeout_seconds=0)
    assert paid is not None
    assert paid.label == second.label


async def test_delete_only_in_the_status_one_thinks_it_has(pair: Pair) -> None:
    """Delinvoice refuses another status (906) and an unknown label (905); the adapter says False."""
    invoice = await pair.invoice()
    assert not await pair.b.delete_invoice(invoice.label, InvoiceStatus.PAID)
    with pytest.raises(LightningRefused) as wrong_status:
        await pair.b.call("delinvoice", label=invoice.label, status="expired")
    assert wrong_status.value.code == 906
    assert await pair.b.delete_invoice(invoice.label, InvoiceStatus.UNPAID)
    assert not await pair.b.delete_invoice(invoice.label, InvoiceStatus.UNPAID)
    with pytest.raises(LightningRefused) as unknown:
        await pair.b.call("delinvoice", label=invoice.label, status="unpaid")
    assert unknown.value.code == 905
    assert await pair.b.find_invoice(invoice.label) is None


async def test_expired_invoice(pair: Pair) -> None:
    """An expired invoice is found as such, ends a wait with 903, and cannot be paid (207, or 203 from its payee)."""
    invoice = await pair.invoice(expiry=1)
    with pytest.raises(LightningRefused) as caught:
        await pair.b.call("waitinvoice", label=invoice.label)
    assert caught.value.code == 903
    found = await pair.b.find_invoice(invoice.label)
    assert found is not None
    assert found.status is InvoiceStatus.EXPIRED

    with pytest.raises(LightningRefused) as late:
        await pair.a.call("xpay", invstring=invoice.bolt11)
    # The payer looks at whole seconds: within the last of them it still sends, and the payee refuses (203).
    assert late.value.code in {203, 207}

    async def failed() -> bool:
        # A real daemon lists what its payee refused as pending for a moment, and pay() then does not try again.
        return (await pair.a.pay(invoice.bolt11, max_fee_msat=FEE, retry_for_seconds=5)).outcome is Outcome.FAILED

    await eventually(failed)
    assert not await pair.b.delete_invoice(invoice.label, InvoiceStatus.UNPAID)
    assert await pair.b.delete_invoice(invoice.label, InvoiceStatus.EXPIRED)


async def test_invoice_of_any_amount(pair: Pair) -> None:
    """An invoice without amount decodes to None; paying it needs one, paying another one may not give one."""
    reply = await pair.b.call("invoice", amount_msat="any", label=f"any-{os.urandom(4).hex()}", description="gift")
    assert (await pair.a.decode(reply["bolt11"])).amount_msat is None
    with pytest.raises(LightningRefused) as without:
        await pair.a.call("xpay", invstring=reply["bolt11"])
    assert without.value.code == -32602
    paid = await pair.a.call("xpay", invstring=reply["bolt11"], amount_msat=2000)
    assert paid["amount_msat"] == 2000
    with pytest.raises(LightningRefused) as twice:
        await pair.a.call("xpay", invstring=(await pair.invoice()).bolt11, amount_msat=2000)
    assert twice.value.code == -32602


async def test_positional_parameters(pair: Pair) -> None:
    """Parameters may come as an array; too many are refused."""
    socket = str(pair.b._path)

    async def ask(params: list[object]) -> dict[str, object]:
        from lnstore.lightning.rpc import Call  # noqa: PLC0415  what core.py stands on

        return await Call(socket, "invoice", params, 30).run(trio.CapacityLimiter(1))  # type: ignore[arg-type]

    label = f"positional-{os.urandom(4).hex()}"
    assert str((await ask([1000, label, "d"]))["bolt11"]).startswith("lnbcrt10n1")
    with pytest.raises(LightningRefused) as caught:
        await ask([1000, label + "2", "d", 60, [], None, None, 10, False, 1, 2, 3])
    assert caught.value.code == -32602


async def test_all_invoices_can_be_listed_in_pages(pair: Pair) -> None:
    """In the order of their creation, each once, paid ones with what was received; an index to go on with."""
    made = [await pair.invoice(1000 + number) for number in range(5)]
    await pair.a.pay(made[1].bolt11, max_fee_msat=FEE, retry_for_seconds=60)
    listed: list[Invoice] = []
    index = 1
    while index:
        page, index = await pair.b.list_invoices(from_index=index, limit=2)
        assert len(page) <= 2
        listed += page
    ours = [one for one in listed if one.label in {invoice.label for invoice in made}]
    assert [one.label for one in ours] == [invoice.label for invoice in made]
    assert [one.status is InvoiceStatus.PAID for one in ours] == [False, True, False, False, False]
    assert ours[1] == await pair.b.find_invoice(made[1].label)
