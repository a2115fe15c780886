"""The simulated network's process is killed at any moment and forgets nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.control import SimulatedNetwork
from lnstore.ports import Invoice, LightningUnavailable, Outcome
from lnstore_protocol.ids import Msat
from tests.unit.lightning.conftest import Alice, eventually

ROUNDS = 6
PAYMENTS = 16


async def test_nothing_is_forgotten(lone_alice: Alice) -> None:
    """Invoices, payments, channels, balances, wallet and height are the same after SIGKILL."""
    alice = lone_alice
    paid, unpaid = await alice.invoice(1234), await alice.invoice()
    assert (await alice.pay(paid)).outcome is Outcome.SETTLED

    async def everything() -> list[object]:
        status = await alice.network.status()
        methods = ("getinfo", "listinvoices", "listpays", "listpeerchannels", "listfunds", "listpeers")
        return [status, *[await daemon.call(method) for daemon in (alice.a, alice.b) for method in methods]]

    before = await everything()
    await alice.network.kill()
    with pytest.raises(LightningUnavailable):
        await alice.a.info()
    with pytest.raises(LightningUnavailable):
        await alice.network.status()
    await alice.network.launch()
    assert await everything() == before
    assert (await alice.pay(unpaid)).outcome is Outcome.SETTLED


async def test_killed_again_and_again_while_paying(lone_alice: Alice) -> None:
    """However often the process is killed among payments, each is paid at most once and the books agree."""
    alice = lone_alice
    chance = random.Random(7)
    await alice.network.settings(payment_seconds=0.005)
    invoices = [await alice.invoice(1000 + number) for number in range(PAYMENTS)]
    start = await alice.balance()

    async def pay(invoice: Invoice) -> None:
        await alice.a.pay(invoice.bolt11, max_fee_msat=Msat(0), retry_for_seconds=1)

    for _ in range(ROUNDS):
        async with trio.open_nursery() as nursery:
            for invoice in invoices:
                nursery.start_soon(pay, invoice)
            await trio.sleep(chance.uniform(0, 0.06))
            await alice.network.kill()
            await alice.network.launch()
        outcomes = {invoice.label: (await alice.a.payment(invoice.bolt11)).outcome for invoice in invoices}
        assert Outcome.UNKNOWN not in outcomes.values()

    async def all_paid() -> bool:
        return all([(await alice.pay(invoice)).outcome is Outcome.SETTLED for invoice in invoices])

    await eventually(all_paid)
    assert await alice.balance() == start - sum(invoice.amount_msat for invoice in invoices)
    cursor, labels = 0, []
    while (paid := await alice.b.next_paid(cursor, timeout_seconds=0)) is not None:
        assert paid.pay_index == cursor + 1
        cursor = paid.pay_index
        labels.append(paid.label)
    assert sorted(labels) == sorted(invoice.label for invoice in invoices)


async def test_a_held_payment_survives(lone_alice: Alice) -> None:
    """A fault and what it did outlast the process."""
    alice = lone_alice
    await alice.network.fault("hold_payment", "alice")
    invoice = await alice.invoice()
    with trio.move_on_after(0.1):
        await alice.pay(invoice)
    await alice.network.kill()
    await alice.network.launch()
    assert (await alice.a.payment(invoice.bolt11)).outcome is Outcome.PENDING
    assert await alice.network.release("alice") == 1

    async def settled() -> bool:
        return (await alice.a.payment(invoice.bolt11)).outcome is Outcome.SETTLED

    await eventually(settled)


async def test_a_dead_node_stays_dead(lone_alice: Alice) -> None:
    """A node that was down when the process died is down afterwards, and its peer does not see it."""
    alice = lone_alice
    await alice.network.crash_node("bob")
    await alice.network.kill()
    await alice.network.launch()
    with pytest.raises(LightningUnavailable):
        await alice.b.info()
    assert not (await alice.a.channels())[0].connected


async def test_the_process_ends_with_its_starter(home: Path) -> None:
    """When the starter's pipe closes, as when it is killed, the network ends and its sockets refuse."""
    network = SimulatedNetwork(home, ["alice"])
    await network.launch()
    process = network._running()
    assert process.stdin is not None
    await process.stdin.aclose()
    with trio.fail_after(10):
        assert await process.wait() == 0
    await network.terminate()
    with pytest.raises(LightningUnavailable):
        await CoreLightning(network.socket("alice")).info()


async def test_stop_command(home: Path) -> None:
    """`stop` on the control socket ends the process with success; on a node's socket only that node."""
    network = SimulatedNetwork(home, ["alice", "bob"])
    await network.launch()
    alice, bob = (CoreLightning(network.socket(name)) for name in ("alice", "bob"))
    process = network._running()
    with pytest.raises(Exception, match="without a result"):
        await alice.call("stop")  # its result is a text

    async def gone() -> bool:
        try:
            await alice.info()
        except LightningUnavailable:
            return True
        return False

    await eventually(gone)
    assert (await bob.info()).alias == "bob"
    assert await network.call("stop") == "Shutdown complete"
    with trio.fail_after(10):
        assert await process.wait() == 0
    await network.terminate()


@pytest.mark.parametrize(
    ("names", "words"),
    [(["control"], "cannot name a node"), (["../x"], "cannot name a node"), (["a" * 32], "shorter path")],
)
async def test_it_says_why_it_does_not_start(home: Path, names: list[str], words: str) -> None:
    """A bad name, or a path too long for a unix socket, ends the process with a sentence."""
    deep = home / ("d" * 60)
    with pytest.raises(LightningUnavailable, match=words):
        async with SimulatedNetwork.start(deep, names):
            pass


async def test_one_process_per_directory(network: SimulatedNetwork, home: Path) -> None:
    """A second network in the same directory is refused; the first goes on."""
    with pytest.raises(LightningUnavailable, match="another simulated network runs"):
        async with SimulatedNetwork.start(home, ["alice"]):
            pass
    assert (await network.status())["blockheight"] > 100


async def test_sockets_are_private(network: SimulatedNetwork) -> None:
    """Only the owner may talk to a node, or to the control socket."""
    for path in (network.socket("alice"), network.directory / "control"):
        assert path.stat().st_mode & 0o077 == 0


async def test_nodes_may_come_later(network: SimulatedNetwork) -> None:
    """A node can be added while the network runs, twice without harm."""
    path = await network.add_node("carol")
    assert await network.add_node("carol") == path == network.socket("carol")
    assert (await CoreLightning(path).info()).alias == "carol"
    assert [node["name"] for node in (await network.status())["nodes"]] == ["alice", "bob", "carol"]
