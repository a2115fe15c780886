"""A change of prices over its whole way: a real node and client over the simulated Lightning network, killed or not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from money_town import CLIENT, GRACE, MIB, PERIOD, Life, Town
from node_world import World

from lnstore.cli import cli
from lnstore.client.agreements import prices_of
from lnstore.client.money_errors import TermsRefused
from lnstore.client.profile import init_profile
from lnstore.client.purse import Purse
from lnstore.client.renewing import Comparison, find_change, sign_change
from lnstore.client.rent_status import RentStatus, rent_status
from lnstore.client.wallet import Wallet
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.messages import (
    AccountState,
    AddCapacity,
    InvoicePurpose,
    InvoiceReply,
    RenewAgreement,
    RenewAgreementReply,
)
from lnstore_protocol.terms import Agreement, SignedTerms, rent_msat

ACCOUNT = AccountId(CLIENT.public_key)


class Market(Town):
    """A town whose node changes its prices."""

    found: Comparison | None = None

    def set(self, **settings: Any) -> None:
        """The node is started again with other settings."""
        self.kill_node()
        file = self.directory / "node" / "node.toml"
        text = file.read_text()
        for name, value in settings.items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert count == 1
        file.write_text(text)
        self.start_node()

    def run(self, command: str, dies_at: int | None = None) -> str:
        """How a command of the client ends; what it said is in `last.said`."""
        ended = self.begin(command, dies_at, 20)
        assert ended is not None
        return ended

    async def _agree(self, purse: Purse) -> None:
        self.found = await find_change(purse, purse.catalog.node(self.address.node_id))
        if self.found is not None:
            await sign_change(purse, self.found.change)

    async def _look(self, purse: Purse) -> None:
        (self.status,) = await rent_status(purse)

    def look(self) -> RentStatus:
        assert self.run("look") == "done", self.last.said
        return self.status

    def bill(self) -> AccountState:
        """The account's state once the node has looked at it."""

        async def bill() -> AccountState:
            await self._node.collector.wait_caught_up()
            self._node.billing._not_before_at = 0
            await self._books.advance(self.clock.now())
            account = await self._books.account(ACCOUNT)
            assert account is not None
            return account.state

        return self.do(bill)

    def both_agree(self) -> None:
        """The two sides compute the same rent for every period to come."""

        async def compare() -> None:
            with self._catalog(Life()) as catalog:
                async with self._purse(catalog, Life()) as purse:
                    node = catalog.node(self.address.node_id)
                    assert node.agreement is not None
                    ours = prices_of(purse, node, Agreement.decode(node.agreement))
            account = await self._books.account(ACCOUNT)
            assert account is not None
            for period in range(account.next_period, account.next_period + 20):
                theirs = account.prices.agreed_last(period)
                assert ours.for_period(period) == theirs

        self.do(compare)

    def rents(self) -> list[int]:
        """What was paid for each period."""

        async def read() -> list[int]:
            with self._catalog(Life()) as catalog:
                paid = [entry for entry in Wallet(catalog).payments() if entry.purpose is InvoicePurpose.RENT]
                return [entry.amount_msat for entry in sorted(paid, key=lambda entry: entry.index)]

        return self.do(read)


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    town = Market(tmp_path)
    try:
        town.set(price_periods=2)
        assert town.run("buy") == "done"
        yield town
    finally:
        town.stop()


def test_a_change_holds_once_it_is_signed_and_not_before_its_time(market: Market) -> None:  # R-W29, R-W30, R-R29
    """Old price in the fixed periods, nothing taken after them, grace; signed and paid, the account is active again."""
    old, new = (rent_msat(8 * MIB, PERIOD, price) for price in (10**9, 3 * 10**9))
    assert market.look().change is None
    market.set(price_msat_per_gib_month=3 * 10**9, price_periods=5)
    change = market.look().change
    assert change is not None
    assert (change.from_period, change.fault) == (2, "")
    assert change.sign_by_at == change.from_at + GRACE
    market.advance(PERIOD)
    assert market.run("rent") == "done"
    market.advance(PERIOD)
    assert market.run("rent") == "PriceUnsigned"
    assert "lnstore rent agree node" in market.last.said
    assert market.bill() is AccountState.GRACE
    assert market.run("agree") == "done"
    assert market.found is not None
    assert (market.found.rent_before_msat, market.found.rent_after_msat) == (old, new)
    assert market.bill() is AccountState.GRACE
    assert market.run("rent") == "done"
    assert market.bill() is AccountState.ACTIVE
    assert market.rents() == [old, new]
    assert market.look().change is None
    assert market.look().agrees
    market.both_agree()
    market.check()


def test_without_a_signature_the_account_lapses(market: Market) -> None:
    """At the end of the grace, and not by any payment at a price that nobody signed."""
    market.set(price_msat_per_gib_month=3 * 10**9)
    assert market.look().change is not None
    market.advance(PERIOD)
    assert market.run("rent") == "done"
    market.advance(PERIOD)
    assert market.run("rent") == "PriceUnsigned"
    assert market.bill() is AccountState.GRACE
    market.advance(GRACE)
    assert market.bill() is AccountState.LAPSED
    assert market.run("agree") == "AccountMissing"
    assert len(market.rents()) == 1
    market.check()


def test_what_is_not_announced_does_not_change(market: Market) -> None:  # R-W30
    """The price goes on after its periods; what is announced then begins a whole period later."""
    old = rent_msat(8 * MIB, PERIOD, 10**9)
    for _ in range(4):
        market.advance(PERIOD)
        assert market.run("rent") == "done"
    market.set(price_msat_per_gib_month=2 * 10**9)
    change = market.look().change
    assert change is not None
    assert change.from_period == 6
    market.set(price_msat_per_gib_month=10**9)
    assert market.look().change is None
    for _ in range(2):  # one by one: beyond the grace the node's billing would race with the payment
        market.advance(PERIOD)
        assert market.run("rent") == "done"
    assert market.rents() == [old] * 6
    market.both_agree()


@pytest.mark.parametrize("dies_at", [4, 5])
def test_a_client_that_dies_while_it_signs_finds_what_it_signed(market: Market, dies_at: int) -> None:  # MA-R28
    """With the answer lost, or before it is kept: signed once, and known to both."""
    market.set(price_msat_per_gib_month=2 * 10**9)
    assert market.run("agree", dies_at) == "killed"
    market.kill_node()
    market.start_node()
    assert market.run("agree") == "done"
    assert market.run("agree") == "done"
    assert market.found is None
    market.both_agree()
    for _ in range(2):  # one by one: beyond the grace the node's billing would race with the payment
        market.advance(PERIOD)
        assert market.run("rent") == "done"
    assert market.rents() == [rent_msat(8 * MIB, PERIOD, price) for price in (10**9, 2 * 10**9)]
    market.check()


def test_a_price_beyond_the_limits_is_not_signed(market: Market) -> None:  # R-R28
    """Whatever is said on the command line."""
    market.set(price_msat_per_gib_month=2 * 10**12)
    assert market.run("agree") == TermsRefused.__name__
    assert "maximum_msat_per_gib_month" in market.last.said
    assert market.look().change is not None


def test_the_command_line_shows_and_signs(market: Market, tmp_path: Path) -> None:  # R-R28
    """A profile of its own at the same node: shown, refused at the prompt and with --json, signed with --yes, once."""
    profile = tmp_path / "profile"
    init_profile(
        profile,
        lightning_rpc=str(market.simulation.path("client")),
        maximum_msat_per_gib_month=10**12,
        channel_periods=1,
    )

    def lnstore(*words: str, answer: str = "") -> Result:
        result = CliRunner().invoke(cli, [*words, "--profile", str(profile)], input=answer)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    lnstore("nodes", "add", str(market.address), "--petname", "shop")
    quoted = lnstore("rent", "quote", "2MiB")
    assert "2 periods" in quoted.output
    lnstore("rent", "buy", "shop", "2MiB")
    assert "nothing to sign" in lnstore("rent", "agree", "shop").output
    assert json.loads(lnstore("rent", "agree", "shop", "--json").output) == {
        "node": "shop",
        "change": None,
        "signed": False,
    }
    market.set(price_msat_per_gib_month=3 * 10**9)
    assert "lnstore rent agree shop" in lnstore("rent", "status").output
    assert json.loads(lnstore("rent", "status", "--json").stdout)["change"]["price_msat_per_gib_month"] == 3 * 10**9
    refused = lnstore("rent", "agree", "shop", answer="n\n").output
    assert "rent per GiB and 30 days" in refused
    assert "nothing was signed" in refused
    shown = json.loads(lnstore("rent", "agree", "shop", "--json").output)
    assert (shown["signed"], shown["change"]["price_msat_per_gib_month_before"]) == (False, 10**9)
    assert "signed; these prices hold" in lnstore("rent", "agree", "shop", answer="y\n").output
    assert "nothing to sign" in lnstore("rent", "agree", "shop", "--yes").output


# --- the node, request by request -------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, price_periods=1)


def dearer(world: World, price: int = 99_000_000) -> None:
    """The operator changes node.toml; the node takes it up when it starts."""
    file = world.directory / "node.toml"
    file.write_text(
        re.sub(r"(?m)^price_msat_per_gib_month = .*$", f"price_msat_per_gib_month = {price}", file.read_text())
    )


async def test_growth_across_a_change_is_charged_at_both_prices(world: World) -> None:  # R-W8
    """What reaches into a period with another price costs that price there; without a signature it is refused."""
    client_key, period = Identity.generate(), world.config.period
    async with world.running() as node, world.client(node, client_key) as client:
        await client.rent(MIB)
    dearer(world)
    async with world.running() as node, world.client(node, client_key) as client:
        told = await client.status()
        assert (told.announced_period, told.announced_at) == (2, world.clock.now())
        assert told.announced_terms is not None
        first = Agreement.decode(told.agreement)
        world.clock.time += period  # period 1: the first unpaid one
        reply = await client.ask(client.rent_request(node.address, told), InvoiceReply)
        assert world.daemon.pay(reply.bolt11)
        await client.until(lambda now: now.next_period == 2)
        world.clock.time += period // 2
        later = await client.status()
        request = client.rent_request(node.address, later)
        assert await client.refused(request) is ErrorCode.PRICE_NOT_AGREED
        signed = Agreement.propose(SignedTerms.decode(told.announced_terms), client_key, first.anchor_at, from_period=2)
        renewed = await client.ask(RenewAgreement(agreement=signed.encoded), RenewAgreementReply)
        again = await client.ask(RenewAgreement(agreement=signed.encoded), RenewAgreementReply)
        assert again.agreement == renewed.agreement
        assert (await client.status()).renewed_agreement == renewed.agreement
        ahead = await client.ask(request, InvoiceReply)
        assert ahead.amount_msat == rent_msat(MIB, period, 99_000_000)
        grown = await client.receive(
            await client.send(AddCapacity(growth_index=later.growth_index, capacity_bytes=3 * MIB))
        )
        assert isinstance(grown, InvoiceReply)
        left = grown.until_at - grown.from_at - period
        assert left == first.anchor_at + 2 * period - world.clock.now()
        exact = 2 * MIB * (left * 50_000_000 + period * 99_000_000)
        assert grown.amount_msat == -(-exact // ((1 << 30) * 2_592_000))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a, _t: (a.terms, a.anchor_at, 2), ErrorCode.TERMS_CHANGED),
        (lambda a, t: (t, a.anchor_at, 3), ErrorCode.TERMS_CHANGED),
        (lambda a, t: (t, a.anchor_at + 1, 2), ErrorCode.TERMS_CHANGED),
    ],
)
async def test_only_what_was_announced_can_be_signed(  # MA-R27
    world: World, change: Callable[[Agreement, SignedTerms], tuple[SignedTerms, int, int]], code: ErrorCode
) -> None:
    """Other terms, another period or another anchor are refused, and nothing is entered."""
    key = Identity.generate()
    async with world.running() as node, world.client(node, key) as client:
        await client.rent(MIB)
    dearer(world)
    async with world.running() as node, world.client(node, key) as client:
        told = await client.status()
        assert told.announced_terms is not None
        terms, anchor_at, period = change(Agreement.decode(told.agreement), SignedTerms.decode(told.announced_terms))
        proposed = Agreement.propose(terms, key, anchor_at, from_period=period)
        assert await client.refused(RenewAgreement(agreement=proposed.encoded)) is code
        assert (await client.status()).renewed_agreement is None


async def test_an_announcement_stands_until_prices_move_on(world: World) -> None:  # R-W28
    """It is the same after a restart and a later time; other prices replace it with a notice of their own."""
    key, period = Identity.generate(), world.config.period
    async with world.running() as node, world.client(node, key) as client:
        await client.rent(MIB)
    dearer(world)
    async with world.running() as node, world.client(node, key) as client:
        first = await client.status()
    world.clock.time += period - 10
    async with world.running() as node, world.client(node, key) as client:
        again = await client.status()
        assert (again.announced_terms, again.announced_period) == (first.announced_terms, 2)
    world.clock.time += 20
    dearer(world, 60_000_000)
    async with world.running() as node, world.client(node, key) as client:
        other = await client.status()
        assert other.announced_terms is not None
        assert other.announced_period == 3
        assert SignedTerms.decode(other.announced_terms).terms.price_msat_per_gib_month == Msat(60_000_000)
