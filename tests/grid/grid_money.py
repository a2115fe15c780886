"""All ledgers of a grid against each other and against the daemons: nothing paid or credited twice, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from lnstore.client.catalog import CATALOG_FILE, Catalog
from lnstore.client.wallet import Wallet
from lnstore.devnet import Devnet, DevnetNode
from lnstore.lightning.core import CoreLightning
from lnstore.node.app import open_books
from lnstore.node.reconcile import reconcile
from lnstore.ports import Outcome


async def check_money(net: Devnet, home: Path, anew: Mapping[str, int]) -> dict[str, int]:
    """AssertionError when one of them says something else than the others; how much left, by kind of payment.

    No client's command may run meanwhile. `anew` is how often an account was rented anew after a lapse, by petname.
    """
    pays = (await CoreLightning(net.client_rpc).call("listpays"))["pays"]
    complete = [pay for pay in pays if pay["status"] == "complete"]
    sent = {pay["payment_hash"]: pay["amount_sent_msat"] for pay in complete}
    assert len(sent) == len(complete), "an invoice was paid twice"
    assert not [pay for pay in pays if pay["status"] == "pending"]
    invoices: list[dict[str, Any]] = []
    for node in net.nodes:
        invoices += await _paid_and_credited(node)
    assert sent == {one["payment_hash"]: one["amount_received_msat"] for one in invoices}
    # lnstore/ACCOUNT/KIND/INDEX/ATTEMPT: one attempt at most was paid. Periods count from 0 again after a lapse.
    for (node, what), count in Counter((one["node"], one["label"].rsplit("/", 1)[0]) for one in invoices).items():
        lapses = sum(times for petname, times in anew.items() if node.startswith(petname))
        assert count <= 1 + lapses * ("/rent/" in what), (node, what)
    with Catalog.open(home / CATALOG_FILE) as catalog:
        entries = Wallet(catalog).payments()
        assert not [entry for entry in entries if entry.open]
        # One of 0 msat stands for what a recovered client does not know.
        made = [one for one in entries if one.state is Outcome.SETTLED and one.amount_msat]
        settled = {entry.payment_hash.hex(): entry.amount_msat for entry in made}
        assert settled.items() <= sent.items(), set(settled.items()) - set(sent.items())
        balances = Wallet(catalog).balances()
        assert sum(balances.values()) == 0
        assert balances.get("lightning", 0) == -sum(settled.values())
    totals = Counter[str]()
    for one in invoices:
        totals[one["label"].split("/")[2]] += one["amount_received_msat"]
    return dict(totals)


async def _paid_and_credited(node: DevnetNode) -> list[dict[str, Any]]:
    """The paid invoices of a node, once its books have them all and verify."""
    lightning = CoreLightning(node.lightning_rpc)
    async with open_books(node.directory) as books:
        with trio.fail_after(30):
            while (result := await reconcile(books, lightning)).waiting:  # noqa: ASYNC110 - a process sets no event
                await trio.sleep(0.05)
        assert not result.differences, (node.name, result.differences)
        assert sum((await books.balances()).values()) == 0
    invoices = (await lightning.call("listinvoices"))["invoices"]
    return [one | {"node": node.running_address.node_id.hex()} for one in invoices if one["status"] == "paid"]
