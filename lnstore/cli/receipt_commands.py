"""`lnstore receipts`: what nodes signed that they were paid, and checking such files without any node."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from lnstore.cli.output import human_msat, human_time, json_option, print_json, profile_option, run, table
from lnstore.cli.session import chosen_nodes, load_profile, open_purse
from lnstore.errors import ExitCode, LnstoreError

if TYPE_CHECKING:
    from lnstore.client.catalog import Catalog, NodeEntry
    from lnstore.client.receipts import Collected, Kept
    from lnstore_protocol.bundles import BundleCheck, Finding, Series

NODES = click.argument("nodes", metavar="[NODE…]", nargs=-1)


class ReceiptsWrong(LnstoreError):
    """A bundle holds something that is wrong; each finding was named."""

    exit_code = ExitCode.DIFFERS

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} thing{'s are' if count > 1 else ' is'} wrong with these receipts")


class BundleUnreadable(LnstoreError):
    """A bundle cannot be read or written."""

    exit_code = ExitCode.DATA


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def receipts() -> None:
    """Receipts of what you paid: for which period and which proof, signed by the node."""


@receipts.command()
@NODES
@profile_option
@json_option
def fetch(nodes: tuple[str, ...], profile: Path | None, as_json: bool) -> None:
    """Get receipts that are still lacking, at NODE or wherever you have an account, and acknowledge the right ones.

    `rent buy` and `rent pay` do so by themselves. Exits with 7 when a node gives none, or one that is wrong.

    \b
    Example:
      lnstore receipts fetch
    """
    from lnstore.client.receipts import collect

    async def work() -> list[Collected]:
        async with open_purse(profile) as purse:
            chosen = chosen_nodes(purse.catalog, nodes, everything=False) if nodes else purse.catalog.nodes()
            return [await collect(purse, node) for node in chosen if node.agreement is not None]

    found = run(work)
    for one in found:
        if as_json:
            print_json({"ok": not one.warnings, "node": one.node.petname, "new": one.new, "warnings": one.warnings})
        else:
            click.echo(f"{one.node.petname}: {one.new} new")
            for warning in one.warnings:
                click.echo(warning, err=True)
    if wrong := sum(len(one.warnings) for one in found):
        raise ReceiptsWrong(wrong)


@receipts.command()
@NODES
@profile_option
@json_option
def ls(nodes: tuple[str, ...], profile: Path | None, as_json: bool) -> None:
    """List the receipts that you have, of NODE or all, as compared with your own books. Asks no node.

    \b
    Example:
      lnstore receipts ls
    """
    from lnstore.client.receipts import kept

    with _catalog(profile) as catalog:
        rows = [(node, one) for node in _chosen(catalog, nodes) for one in kept(catalog, node.node_id)]
    if as_json:
        for node, one in rows:
            print_json(_kept_json(node, one))
        return
    table(
        "",
        ["node", "number", "for", "from", "until", "msat", "proof", ""],
        [
            [
                node.petname,
                str(one.receipt.number),
                f"{one.receipt.purpose.name.lower()} {one.receipt.index}",
                human_time(one.receipt.from_at),
                human_time(one.receipt.until_at),
                str(one.receipt.received_msat),
                f"{one.receipt.sampled} of {one.receipt.shares}" if one.receipt.shares else "",
                _state(one),
            ]
            for node, one in rows
        ],
    )


@contextmanager
def _catalog(profile: Path | None) -> Iterator[Catalog]:
    with load_profile(profile).open_catalog() as catalog:
        yield catalog


def _chosen(catalog: Catalog, nodes: tuple[str, ...]) -> list[NodeEntry]:
    return chosen_nodes(catalog, nodes, everything=False) if nodes else catalog.nodes()


def _state(one: Kept) -> str:
    if one.faults:
        return "wrong: " + "; ".join(one.faults)
    if one.open:
        return "your daemon has not told of the payment yet"
    return "acknowledged" if one.acknowledged else "right"


def _kept_json(node: NodeEntry, one: Kept) -> dict[str, Any]:
    return {
        "node": node.petname,
        **{name: value for name, value in asdict(one.receipt).items() if name != "purpose"},
        "purpose": one.receipt.purpose.name.lower(),
        "acknowledged": one.acknowledged,
        "state": _state(one),
        "faults": one.faults,
    }


@receipts.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@NODES
@profile_option
@json_option
def export(file: Path, nodes: tuple[str, ...], profile: Path | None, as_json: bool) -> None:
    """Write the receipts that you have, of NODE or all, into FILE (or - for standard output), for anybody to verify.

    With each go the agreements, the payment's preimage and your acknowledgement; no secret.

    \b
    Example:
      lnstore receipts export receipts.jsonl
    """
    from lnstore.client.receipts import bundle_lines
    from lnstore_protocol.bundles import HEADER

    written = 0
    with _catalog(profile) as catalog, writing(file) as out:
        out.write(HEADER + "\n")
        for node in _chosen(catalog, nodes):
            for line in bundle_lines(catalog, node.node_id):
                out.write(line + "\n")
                written += is_receipt(line)
    report_export(file, written, as_json=as_json)


def is_receipt(line: str) -> bool:
    """Whether a line of a bundle is one of a receipt."""
    return line.startswith('{"receipt"')


@contextmanager
def writing(file: Path) -> Iterator[IO[str]]:
    """The file to write into, or standard output for `-`; BundleUnreadable when it can not be written."""
    if str(file) == "-":
        yield sys.stdout
        return
    try:
        with file.open("w", encoding="utf-8") as out:
            yield out
    except OSError as exc:
        raise BundleUnreadable(f"{file} cannot be written: {exc.strerror}") from exc


def report_export(file: Path, written: int, *, as_json: bool) -> None:
    """Say how many receipts were written; on standard error when they went to standard output."""
    to_stdout = str(file) == "-"
    if as_json and not to_stdout:
        print_json({"ok": True, "receipts": written, "file": file.absolute()})
    elif not as_json:
        click.echo(f"{written} receipts written", err=to_stdout)


@receipts.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@json_option
def verify(file: Path, as_json: bool) -> None:
    """Check the receipts in FILE (or - for standard input), whoever wrote it, without any node or profile.

    Every signature of node and client, that the amounts are what the agreement says, that no period is paid twice and
    no receipt missing, that each preimage is its payment's, that the client verified what the node claims. It also
    tells for which periods the node took nothing and nothing was proven: its operator had made the account free.
    Exits with 0 when all is right, 7 when something is wrong, 6 when the file cannot be read.

    \b
    Example:
      lnstore receipts verify receipts.jsonl
    """
    from lnstore_protocol.bundles import BundleCheck

    check = BundleCheck()
    try:
        with click.open_file(str(file), encoding="utf-8", errors="replace") as lines:
            check.feed(_lines(lines))
    except OSError as exc:
        raise BundleUnreadable(f"{file} cannot be read: {exc.strerror}") from exc
    check.finish()
    if as_json:
        print_json(_check_json(check))
    else:
        _show_check(check)
    if check.found:
        raise ReceiptsWrong(check.found)


def _lines(file: IO[str]) -> Iterator[str]:
    """The lines of a file; of one that is too long only as much as shows that it is."""
    from lnstore_protocol.bundles import MAX_LINE_CHARACTERS

    while line := file.readline(MAX_LINE_CHARACTERS + 2):
        yield line
        while line and not line.endswith("\n"):
            line = file.readline(MAX_LINE_CHARACTERS)


def _check_json(check: BundleCheck) -> dict[str, Any]:
    return {
        "ok": not check.found,
        "accounts": [{name: getattr(series, name) for name in _SHOWN} for series in check.series],
        "findings": [asdict(finding) for finding in check.findings],
        "found": check.found,
        "notes": [asdict(note) for note in check.notes],
    }


_SHOWN = (
    "node_id",
    "account_id",
    "receipts",
    "periods",
    "proofs",
    "acknowledged",
    "preimages",
    "covered_from_at",
    "covered_until_at",
    "rent_msat",
    "capacity_msat",
    "deposit_msat",
    "uncharged_periods",
)


def _show_check(check: BundleCheck) -> None:
    table(
        "",
        ["node", "account", "receipts", "periods #", "proven #", "verified by client #", "from", "until", "paid"],
        [_series_row(series) for series in check.series],
    )
    for finding in check.findings:
        click.echo(f"{_where(finding)}: {finding.text}")
    if check.found > len(check.findings):
        click.echo(f"and {check.found - len(check.findings)} more")
    for note in check.notes:
        click.echo(f"before {_where(note)}: {note.text} (its operator may have made the account free)")
    if not check.found:
        click.echo("all is right" + ("; no receipt is missing" if check.notes else ""))


def _where(finding: Finding) -> str:
    where = f"line {finding.line}"
    if finding.number is not None and finding.node_id is not None:
        where += f", receipt {finding.number} of node {finding.node_id.hex()[:16]}"
    return where


def _series_row(series: Series) -> list[str]:
    return [
        series.node_id.hex()[:16],
        series.account_id.hex()[:16],
        str(series.receipts),
        str(series.periods),
        str(series.proofs),
        str(series.acknowledged),
        "" if series.covered_from_at is None else human_time(series.covered_from_at),
        "" if series.covered_until_at is None else human_time(series.covered_until_at),
        human_msat(series.rent_msat + series.capacity_msat + series.deposit_msat),
    ]
