"""`lnstore repair`: what nodes have lost, stored elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.output import SECRET_TEXT, json_option, print_json, printable, profile_option, progress_lines, run
from lnstore.cli.session import load_profile, open_session

if TYPE_CHECKING:
    from lnstore.client.catalog import FileEntry, NodeEntry
    from lnstore.client.files import Client
    from lnstore.client.mending import Repaired
    from lnstore.client.purse import Purse
    from lnstore.errors import LnstoreError
    from lnstore_protocol.caps import VerifyCap


@click.command()
@click.argument("file", metavar="[FILE|FOLDER|CAP|-]", required=False, type=SECRET_TEXT)
@click.option("--all", "everything", is_flag=True, help="Every file that lacks something.")
@profile_option
@json_option
@click.pass_context
def repair(context: click.Context, *, file: str | None, everything: bool, profile: Path | None, as_json: bool) -> None:
    """Store what is known to be lost of FILE or FOLDER at other nodes, put together again from what is left.

    What is lost is known from `lnstore check --verify` and from failed proofs; what never found a node is stored too.
    Needs accounts with room at nodes that hold nothing else of the same segments, and deposits for reading.
    Capabilities stay as they are. Interrupted? The same command goes on, and sends no share twice. Exit code 6 when
    something could not be repaired.

    With a capability (lnsv1…, from standard input with -) anybody repairs a file that is not theirs, without reading
    it: all known nodes are asked for a piece of each share, and what none of them shows is stored under your account.
    Afterwards `lnstore ls` shows it as care-…; the same command repairs it again, `lnstore rm` gives it up.

    \b
    Example:
      lnstore repair --all
      lnstore repair - < cap.txt
    """
    from lnstore.client.naming import files_called, verify_cap_of
    from lnstore.errors import ExitCode

    if everything == (file is not None):
        raise click.UsageError("name a file, or --all")

    async def work() -> list[Repaired]:
        async with open_session(load_profile(profile)) as (purse, client):
            cap = None if file is None else verify_cap_of(client.catalog, file)
            files = None if file is None or cap is not None else files_called(client.catalog, file)
            return await carry_out_repair(purse, client, files=files, cap=cap, as_json=as_json)

    done = run(work)
    report_repairs(done, as_json=as_json)
    if not done and not as_json:
        click.echo("nothing is known to be lost; look with: lnstore check --verify")
    if any(one.to is None for one in done):
        context.exit(ExitCode.DATA)


async def carry_out_repair(
    purse: Purse,
    client: Client,
    *,
    files: Collection[FileEntry] | None = None,
    cap: VerifyCap | None = None,
    as_json: bool = False,
) -> list[Repaired]:
    """Repair at all nodes that may be written to and that are neither suspended nor retiring."""
    from lnstore.client.repairing import repair_cap, repair_files
    from lnstore.client.targets import find_targets

    def silent(node: NodeEntry, error: LnstoreError) -> None:
        if as_json:
            print_json({"ok": True, "silent": node.petname, "error": str(error)})
        else:
            click.echo(f"{node.petname} counts as gone: {error}", err=True)

    progress = progress_lines("repair", as_json=as_json)
    targets = await find_targets(client)
    if cap is not None:
        return await repair_cap(purse, targets, cap, progress=progress, silent=silent)
    return await repair_files(purse, targets, files=files, progress=progress, silent=silent)


def report_repairs(done: list[Repaired], *, as_json: bool) -> None:
    """Say what was repaired, and what was not and why."""
    from lnstore.client.titles import title

    for one in done:
        if as_json:
            print_json(
                {
                    "ok": one.to is not None,
                    "file": one.file.name,
                    "folder": one.file.folder,
                    "share_id": one.share.share_id,
                    "segment": one.share.segment,
                    "from": one.share.at,
                    "to": None if one.to is None else one.to.node_id,
                    "sent": one.sent,
                    "reason": one.reason,
                }
            )
            continue
        what = f"{printable(title(one.file))}: share {one.share.share_id.hex()[:16]}"
        if one.to is None:
            click.echo(f"{what} is not repaired: {one.reason}", err=True)
        else:
            click.echo(f"{what} is at {one.to.petname} now")
            if one.reason:
                click.echo(f"warning: {one.to.petname} gets no more shares in this run: {one.reason}", err=True)
