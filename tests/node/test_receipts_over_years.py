"""Receipts over years: under several agreements, and over a time for which nothing was taken. Shown by both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from money_town import PERIOD, Life
from test_price_changes import ACCOUNT, Market

from lnstore.client.receipts import bundle_lines, kept
from lnstore.node.directory import load_identity
from lnstore.node.receipts import bundle_pages
from lnstore_protocol.bundles import HEADER, BundleCheck
from lnstore_protocol.messages import InvoicePurpose


class Archive(Market):
    """A town whose receipts are looked at in the end."""

    def free(self, *, free: bool) -> None:
        self.do(lambda: self._books.set_free(ACCOUNT, self.clock.now(), free=free))

    def pay(self, *, times: int = 1) -> None:
        """The next periods begin, and each is paid."""
        for _ in range(times):
            self.advance(PERIOD)
            assert self.run("rent") == "done", self.last.said

    def bundle(self) -> list[str]:
        """What both sides export; it is the same."""

        async def export() -> tuple[list[str], list[str]]:
            with self._catalog(Life()) as catalog:
                ours = list(bundle_lines(catalog, self.address.node_id))
                assert all(not one.faults and one.acknowledged for one in kept(catalog, self.address.node_id))
            identity = load_identity(self.directory / "node")
            return ours, [line async for page in bundle_pages(self._books, identity, ACCOUNT) for line in page]

        ours, theirs = self.do(export)
        assert ours == theirs
        return [HEADER, *ours]


def checked(lines: list[str]) -> BundleCheck:
    check = BundleCheck()
    check.feed(lines)
    check.finish()
    return check


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    town = Archive(tmp_path)
    try:
        town.set(price_periods=2)
        assert town.run("buy") == "done"
        assert town.run("put") == "done"
        yield town
    finally:
        town.stop()


def test_receipts_go_on_over_a_renewal_under_the_agreement_of_their_period(archive: Archive) -> None:  # RC-W1
    """The period before the change names the old agreement, those from it on the new one; growth over both is right."""
    archive.set(price_msat_per_gib_month=3 * 10**9, price_periods=5)
    archive.look()
    archive.pay()
    assert archive.run("agree") == "done"
    assert archive.run("ahead") == "done"
    archive.capacity_bytes *= 2
    assert archive.run("buy") == "done"  # until the end of period 2: half of its time costs the new price
    archive.pay(times=2)
    lines = archive.bundle()
    check = checked(lines)
    assert (check.findings, check.notes) == ([], [])
    (series,) = check.series
    assert (series.periods, series.proofs, series.uncharged_periods) == (3, 3, 0)
    assert sum(line.startswith('{"agreement"') for line in lines) == 2

    async def by_agreement() -> dict[bytes, list[tuple[InvoicePurpose, int]]]:
        found: dict[bytes, list[tuple[InvoicePurpose, int]]] = {}
        with archive._catalog(Life()) as catalog:
            for one in kept(catalog, archive.address.node_id):
                found.setdefault(one.receipt.agreement_hash, []).append((one.receipt.purpose, one.receipt.index))
        return found

    capacity, rent = InvoicePurpose.CAPACITY, InvoicePurpose.RENT
    assert list(archive.do(by_agreement).values()) == [
        [(capacity, 0), (rent, 1), (capacity, 1)],
        [(rent, 2), (rent, 3)],
    ]


def test_a_time_for_which_nothing_was_taken_is_told_and_is_no_fault(archive: Archive) -> None:  # RC-R9
    """Asked for while it was free: receipted. Not asked for: the verifier says which periods, and that is all."""
    archive.pay()
    archive.free(free=True)
    archive.pay()
    archive.advance(3 * PERIOD)
    archive.free(free=False)
    archive.pay()
    check = checked(archive.bundle())
    assert check.findings == []
    (series,) = check.series
    assert (series.periods, series.uncharged_periods) == (3, 3)
    (note,) = check.notes
    assert note.text == "the node took nothing for periods 3 to 5, and nothing is shown to have been proven"
