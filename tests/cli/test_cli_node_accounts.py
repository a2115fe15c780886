"""`lnstore node accounts`, `node invite`, `node invitations`: called in this process, on a node's directory."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from books_world import ANCHOR, GIB, World, always, growth, lease
from click.testing import CliRunner
from delegation_world import chain_of, handed_on

from lnstore.books import SqlBooks
from lnstore.cli import cli
from lnstore.node.accounting import AccountUnfit, AccountUnknown
from lnstore.node.directory import init_node
from lnstore_protocol.delegation import UNLIMITED, Authority
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId
from lnstore_protocol.invitations import parse_invitation


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node with one account that has rented a GiB and one that has nothing."""
    directory = tmp_path / "node"
    init_node(directory, listen_port=7460)

    async def fill() -> None:
        async with SqlBooks.open(directory / "books.db") as books:
            world = World(books)
            account = await world.opened()
            await world.pay(growth(account, GIB, account.anchor_at, account.anchor_at + account.period_seconds))
            await world.opened()

    trio.run(fill)
    return directory


def said(*words: object) -> str:
    """What a command prints; its error is raised."""
    result = CliRunner().invoke(cli, ["node", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def told(*words: object) -> list[Any]:
    return [json.loads(line) for line in said(*words, "--json").splitlines()]


def test_accounts_are_listed_without_a_word_more(node: Path) -> None:
    printed = said("accounts", node)
    assert "1.0 GiB" in printed
    assert printed == said("accounts", "list", node)
    first, second = told("accounts", node)
    assert (first["capacity_bytes"], first["income_msat"], first["state"]) == (GIB, 1000, "active")
    assert (second["capacity_bytes"], second["free"], second["blocked"]) == (0, False, False)


def test_an_account_is_named_limited_freed_and_blocked(node: Path) -> None:
    account_id = told("accounts", node)[0]["account_id"]
    assert said("accounts", "name", node, account_id[:8], "alice").startswith("alice: active")
    assert "at most 5.0 MiB" in said("accounts", "quota", node, "alice", "5MiB")
    assert told("accounts", "free", node, "alice")[0]["free"] is True
    assert "blocked, free" in said("accounts", "block", node, "alice")
    shown = said("accounts", "show", node, "alice")
    for line in ("quota:", "5.0 MiB", "blocked, free", "0 passed, 0 failed", account_id):
        assert line in shown
    (one,) = told("accounts", "show", node, account_id[:4])
    assert (one["petname"], one["quota_bytes"], one["price_msat_per_gib_month"]) == ("alice", 5 << 20, 0)
    said("accounts", "unblock", node, "alice")
    said("accounts", "free", node, "alice", "--off")
    said("accounts", "quota", node, "alice")
    (one,) = told("accounts", "show", node, "alice")
    assert (one["quota_bytes"], one["free"], one["blocked"]) == (None, False, False)
    other = told("accounts", node)[1]["account_id"]
    with pytest.raises(AccountUnfit, match="another account"):
        said("accounts", "name", node, other[:8], "alice")
    with pytest.raises(AccountUnknown):
        said("accounts", "block", node, "bob")
    said("accounts", "name", node, "alice")
    assert told("accounts", node)[0]["petname"] is None


def test_who_acts_for_an_account_is_shown_with_it(node: Path) -> None:
    """A chain of two, one that has expired, one that was revoked; with what was done under each and those below it."""
    ann, bob, cat, dot = (Identity(bytes([number]) * 32) for number in (2, 3, 4, 5))

    async def delegate() -> str:
        async with SqlBooks.open(node / "books.db") as books:
            world = World(books, pay_index=1)
            account = await world.renting()
            (holder,) = world.clients
            first = chain_of(holder, ann, maximum_bytes=UNLIMITED, expires_at=UNLIMITED, levels=1)
            further = handed_on(first, ann, bob, expires_at=UNLIMITED)
            for chain in (further, chain_of(holder, cat, expires_at=ANCHOR + 1), chain_of(holder, dot)):
                await books.present(Authority(chain), ANCHOR)
            stored = lease(account, 1, size_bytes=4096, certificate_id=further[-1].certificate_id)
            await books.add_lease(stored, ANCHOR, present=always)
            await books.revoke(account.account_id, AccountId(dot.public_key), ANCHOR)
            return account.account_id.hex()

    account_id = trio.run(delegate)
    (one,) = told("accounts", "show", node, account_id)
    shown = {delegate["subject"]: delegate for delegate in one["delegates"]}
    of_ann, of_bob, of_cat, of_dot = (shown[of.public_key.hex()] for of in (ann, bob, cat, dot))
    assert (of_bob["under"], of_ann["under"], of_ann["may_be_handed_on"]) == (of_ann["id"], None, True)
    assert [delegate["used_bytes"] for delegate in (of_ann, of_bob, of_cat, of_dot)] == [4096, 4096, 0, 0]
    assert [delegate["expired"] for delegate in (of_ann, of_bob, of_cat)] == [False, False, True]
    assert [delegate["revoked_at"] for delegate in (of_ann, of_dot)] == [None, ANCHOR]
    lines = said("accounts", "show", node, account_id).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(of_ann["id"][:12]))
    assert lines[at + 1].startswith(f"└ {of_bob['id'][:12]}")
    assert "read and write until after the year 9999, a part may be handed on" in lines[at]
    assert sorted(line.rsplit(maxsplit=1)[1] for line in lines[-4:]) == ["expired", "good", "good", "revoked"]


def test_a_key_is_allowed(node: Path) -> None:
    assert said("accounts", "allow", node, "ab" * 32) == "allowed\n"
    assert told("accounts", "allow", node, "ab" * 32) == [{"ok": True, "account_id": "ab" * 32, "new": False}]
    assert "already" in said("accounts", "allow", node, "ab" * 32)
    with pytest.raises(AccountUnfit):
        said("accounts", "allow", node, "alice")


def test_all_is_exported_for_programs(node: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(said("accounts", "export", node))))
    exported = json.loads(said("accounts", "export", node, "--format", "json"))
    assert exported == json.loads(said("accounts", "export", node, "--json"))
    assert [row["account_id"] for row in rows] == [row["account_id"] for row in exported]
    assert (rows[0]["capacity_bytes"], rows[0]["petname"]) == (str(GIB), "")


def test_invitations_are_made_listed_and_taken_back(node: Path) -> None:
    assert "nobody was invited" in said("invitations", node)
    text = said("invite", node, "--free", "--capacity", "50GiB", "--name", "alice", "--periods", "12").strip()
    invitation = parse_invitation(text)
    prices = (invitation.price_msat_per_gib_month, invitation.egress_msat_per_gib, invitation.ingress_msat_per_gib)
    assert prices == (0, 0, 0)
    assert (invitation.maximum_capacity_bytes, invitation.price_periods) == (50 << 30, 12)
    (made,) = told("invite", node, "--price", "5", "--ingress", "7", "--expires", "1h")
    dear = parse_invitation(made["invitation"])
    assert (dear.price_msat_per_gib_month, dear.egress_msat_per_gib, dear.ingress_msat_per_gib) == (5, None, 7)
    # Those of one second stand in any order.
    assert sorted(one["ingress_msat_per_gib"] for one in told("invitations", node)) == [0, 7]
    printed = said("invitations", node)
    assert "alice" in printed
    assert printed.count("open") == 2
    assert invitation.secret.hex() not in printed
    (withdrawn,) = told("invitations", node, "--revoke", invitation.invitation_id.hex()[:16])
    assert withdrawn["revoked_at"] is not None
    assert "withdrawn" in said("invitations", node)
    assert text not in (node / "books.db").read_bytes().decode("latin-1")
    result = CliRunner().invoke(cli, ["node", "invite", str(node), "--free", "--price", "1"])
    assert "--free names all prices" in result.output
    assert result.exit_code == 2
