"""Which channel may still carry a payment that lightningd lists as pending."""

from __future__ import annotations

import pytest
import trio

from lnstore.lightning.replies import may_carry
from lnstore.ports import Outcome
from tests.unit.lightning.conftest import Alice, eventually, open_channel

HASH, OTHER = "aa" * 32, "bb" * 32
MADE_AT = 1_795_392_646
BEFORE, AFTER = "2026-11-23T00:10:45.900Z", "2026-11-23T00:10:46.100Z"


def left_normal(timestamp: str) -> list[dict[str, str]]:
    return [
        {
            "timestamp": "2026-11-20T00:00:00.000Z",
            "old_state": "CHANNELD_AWAITING_LOCKIN",
            "new_state": "CHANNELD_NORMAL",
        },
        {"timestamp": timestamp, "old_state": "CHANNELD_NORMAL", "new_state": "CHANNELD_SHUTTING_DOWN"},
    ]


def spliced(timestamp: str) -> list[dict[str, str]]:
    """A splice takes a channel out of its normal state, and it carries payments all the same."""
    return [
        {"timestamp": timestamp, "old_state": "CHANNELD_NORMAL", "new_state": "CHANNELD_AWAITING_SPLICE"},
        {"timestamp": timestamp, "old_state": "CHANNELD_AWAITING_SPLICE", "new_state": "CHANNELD_NORMAL"},
    ]


@pytest.mark.parametrize(
    ("state", "hashes", "changes", "carries"),
    [
        ("CHANNELD_NORMAL", [], [], False),
        ("CHANNELD_NORMAL", [OTHER], [], False),
        ("CHANNELD_NORMAL", [OTHER, HASH], [], True),
        ("CHANNELD_AWAITING_LOCKIN", [], [], False),
        ("CHANNELD_SHUTTING_DOWN", [HASH], [], True),
        ("AWAITING_UNILATERAL", [], [], True),
        ("AWAITING_UNILATERAL", [], left_normal(AFTER), True),
        ("ONCHAIN", [], left_normal(AFTER), True),
        ("ONCHAIN", [], left_normal(BEFORE), False),
        ("ONCHAIN", [HASH], left_normal(BEFORE), True),
        ("CHANNELD_AWAITING_SPLICE", [], spliced(BEFORE), False),
        ("CHANNELD_AWAITING_SPLICE", [HASH], spliced(BEFORE), True),
        ("AWAITING_UNILATERAL", [], spliced(BEFORE), True),
        ("ONCHAIN", [], [*spliced(BEFORE), *left_normal(AFTER)[1:]], True),
        ("ONCHAIN", [], [*spliced(BEFORE), *left_normal(BEFORE)[1:]], False),
        ("SOME_STATE_OF_A_LATER_VERSION", [], [], True),
    ],
)
def test_may_carry(state: str, hashes: list[str], changes: list[dict[str, str]], carries: bool) -> None:
    """Only what is listed, or what surely came too early, is taken as not carrying."""
    entry = {
        "state": state,
        "htlcs": [{"payment_hash": payment_hash} for payment_hash in hashes],
        "state_changes": changes,
    }
    assert may_carry(entry, HASH, MADE_AT) is carries


async def test_lost_beside_a_channel_that_was_closed_before(alice: Alice) -> None:
    """A channel closed on chain before the payment was made does not keep it from being taken for lost."""
    (first,) = await alice.a.channels()
    await alice.a.close_channel(first.channel_id, unilateral_timeout_seconds=5)
    await open_channel(alice.network, alice.a, alice.b, 500_000)
    await trio.sleep(1.01)  # payments are listed by whole seconds
    invoice = await alice.invoice()
    await alice.network.fault("crash", alice.a_name, command="payment-recorded")
    assert (await alice.pay(invoice)).outcome is Outcome.UNKNOWN
    await alice.network.start_node(alice.a_name)
    assert (await alice.pay(invoice)).unpayable


async def test_closing_alone_gives_back_what_was_in_flight(alice: Alice) -> None:
    """A channel closed alone with a payment in flight fails the payment; no msat is lost or paid."""
    await alice.network.fault("hold_payment", alice.a_name)
    invoice = await alice.invoice(600_000_000)
    ends = []

    async def pay() -> None:
        ends.append(await alice.pay(invoice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay)

        async def pending() -> bool:
            return (await alice.a.payment(invoice.bolt11)).outcome is Outcome.PENDING

        await eventually(pending)
        (channel,) = await alice.a.channels()
        await alice.a.close_channel(channel.channel_id, unilateral_timeout_seconds=1)
    assert ends[0].outcome is Outcome.FAILED

    async def onchain() -> bool:
        return [one.state for one in await alice.a.channels()] == ["ONCHAIN"]

    await eventually(onchain)
    assert await alice.a.wallet_msat() < 19_100_000_000  # our own output waits for its delay
    await alice.network.mine(6)
    assert await alice.a.wallet_msat() > 19_990_000_000
    assert await alice.b.wallet_msat() == 0
