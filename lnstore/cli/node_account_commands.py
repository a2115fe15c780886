"""`lnstore node accounts`: who stores at a node, and what its operator decides about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli import node_account_views
from lnstore.cli.ledger_commands import opened
from lnstore.cli.node_account_views import ACCOUNT, DIRECTORY, state_words
from lnstore.cli.output import human_time, json_option, print_json, run, size_argument
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.node.accounting import Overview
    from lnstore.ports import Account, Books


class _ListsByDefault(click.Group):
    """`accounts DIRECTORY` is `accounts list DIRECTORY`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the command that goes without saying."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListsByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def accounts() -> None:
    """List the accounts of the node in DIRECTORY, and decide about them; also while it runs, or not.

    ACCOUNT is a petname or the beginning of an account's id. A running node goes by a decision from its next request
    on.
    """


for _view in (node_account_views.list_command, node_account_views.show, node_account_views.export):
    accounts.add_command(_view)


@accounts.command()
@DIRECTORY
@ACCOUNT
@click.argument("petname", required=False)
@json_option
def name(directory: Path, account: str, petname: str | None, as_json: bool) -> None:
    """Call ACCOUNT by a PETNAME of yours, which nobody else is told; without one, take its petname away.

    \b
    Example:
      lnstore node accounts name ~/lnstore-node 5f0c1d2e alice
    """
    from lnstore.node import accounting
    from lnstore.ports import PetnameTaken

    async def work(books: Books, found: Account, _now: int) -> None:
        try:
            await books.name_account(found.account_id, None if petname is None else accounting.check_petname(petname))
        except PetnameTaken:
            raise accounting.AccountUnfit(f"another account is called {petname!r}; choose another name") from None

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@ACCOUNT
@click.argument("size", required=False)
@json_option
def quota(directory: Path, account: str, size: str | None, as_json: bool) -> None:
    """Let ACCOUNT store at most SIZE, whatever it has rented; without SIZE, as much as it has rented.

    What it has stored already stays, and its rent stays what it is. The client is told of the quota.

    \b
    Example:
      lnstore node accounts quota ~/lnstore-node alice 5GiB
    """
    most = None if size is None else size_argument(size, "SIZE")

    async def work(books: Books, found: Account, _now: int) -> None:
        await books.set_quota(found.account_id, most)

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@ACCOUNT
@click.option("--off", is_flag=True, help="Take again what the agreement says, from the next period on.")
@json_option
def free(directory: Path, account: str, off: bool, as_json: bool) -> None:
    """Take no rent, and nothing for reading, from ACCOUNT. It still proves every period that it is served.

    An invoice that it was given before is still good.

    \b
    Example:
      lnstore node accounts free ~/lnstore-node alice
    """

    async def work(books: Books, found: Account, now: int) -> None:
        await books.set_free(found.account_id, now, free=not off)

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@ACCOUNT
@json_option
def block(directory: Path, account: str, as_json: bool) -> None:
    """Take no more writes and no more money from ACCOUNT: it lapses when what it has paid, and the grace, are over.

    Until then it may read, list and drop what it has stored. An invoice that it was given before is still good.

    \b
    Example:
      lnstore node accounts block ~/lnstore-node 5f0c1d2e
    """

    async def work(books: Books, found: Account, now: int) -> None:
        await books.set_blocked(found.account_id, now, blocked=True)

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@ACCOUNT
@json_option
def unblock(directory: Path, account: str, as_json: bool) -> None:
    """Serve ACCOUNT again as any other.

    \b
    Example:
      lnstore node accounts unblock ~/lnstore-node 5f0c1d2e
    """

    async def work(books: Books, found: Account, now: int) -> None:
        await books.set_blocked(found.account_id, now, blocked=False)

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@click.argument("account_id", metavar="ACCOUNT_ID")
@json_option
def allow(directory: Path, account_id: str, as_json: bool) -> None:
    """Let the key ACCOUNT_ID (64 hex digits) open an account where accounts are by invitation (node.toml: accounts).

    \b
    Example:
      lnstore node accounts allow ~/lnstore-node 5f0c…e1
    """
    from lnstore.node import accounting

    key = accounting.account_id(account_id)

    async def work() -> bool:
        async with opened(directory) as books:
            return await books.allow_account(key)

    new = run(work)
    if as_json:
        print_json({"ok": True, "account_id": key.hex(), "new": new})
    else:
        click.echo("allowed" if new else "it was allowed already")


def _change(
    directory: Path, text: str, work: Callable[[Books, Account, int], Awaitable[None]], *, as_json: bool
) -> None:
    """Do something to the account that the text names, and say how it stands then."""
    from lnstore.clock import clock_for
    from lnstore.config import NodeConfig
    from lnstore.node import accounting

    now = clock_for(NodeConfig.load(directory).clock_file).now()

    async def change() -> Overview:
        async with opened(directory) as books:
            found = (await accounting.overview(books, text)).account
            await work(books, found, now)
            return await accounting.overview(books, found.account_id.hex())

    one = run(change)
    if as_json:
        print_json({"ok": True, **one.as_json()})
        return
    most = "" if one.account.quota_bytes is None else f", at most {human_bytes(one.account.quota_bytes)}"
    click.echo(
        f"{one.name}: {state_words(one)}, {human_bytes(one.account.used_bytes)} of "
        f"{human_bytes(one.account.capacity_bytes)} used{most}, paid until {human_time(one.account.paid_until_at)}"
    )
