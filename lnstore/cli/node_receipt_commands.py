"""`lnstore node receipts`: what the node signed for its clients, and they for it."""

from __future__ import annotations

from pathlib import Path

import click

from lnstore.cli.ledger_commands import DIRECTORY, opened
from lnstore.cli.output import json_option, run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def receipts() -> None:
    """Receipts that the node gave its clients, and what they signed for them."""


@receipts.command("export")
@DIRECTORY
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--account", "wanted", multiple=True, metavar="ACCOUNT", help="Only this one (64 hex digits); several.")
@json_option
def export_receipts(*, directory: Path, file: Path, wanted: tuple[str, ...], as_json: bool) -> None:
    """Write all receipts into FILE (or - for standard output): with the clients' word that they verified the proofs.

    Anybody can check it: lnstore receipts verify FILE

    \b
    Example:
      lnstore node receipts export ~/lnstore-node receipts.jsonl
    """
    from lnstore.cli.receipt_commands import is_receipt, report_export, writing
    from lnstore.node.directory import load_identity
    from lnstore.node.receipts import bundle_pages
    from lnstore_protocol.bundles import HEADER
    from lnstore_protocol.ids import AccountId

    try:
        chosen = [AccountId.from_hex(text) for text in wanted]
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--account") from exc

    async def work() -> int:
        written = 0
        node = load_identity(directory)
        async with opened(directory) as books:
            with writing(file) as out:
                out.write(HEADER + "\n")
                for account_id in chosen or [account.account_id for account in await books.accounts()]:
                    async for lines in bundle_pages(books, node, account_id):
                        out.writelines(line + "\n" for line in lines)
                        written += sum(map(is_receipt, lines))
        return written

    report_export(file, run(work), as_json=as_json)
