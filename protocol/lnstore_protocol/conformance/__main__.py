"""The conformance program's command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lnstore_protocol.conformance.client_run import COMING_SECONDS, CommandClient, check_client
from lnstore_protocol.conformance.node_run import CHECKS, check_node
from lnstore_protocol.conformance.report import Report, Result
from lnstore_protocol.conformance.scenarios import SCENARIOS
from lnstore_protocol.conformance.tools import Command, CommandPayer, Payer, RpcPayer
from lnstore_protocol.conformance.trial import PATIENCE_SECONDS, NodeTools
from lnstore_protocol.conformance.verdict import Unreachable
from lnstore_protocol.ids import NodeAddress

FAILED, UNUSABLE = 1, 2
"""Exit codes: a requirement failed; the run could not be made."""

_EPILOG = """\
examples:
  %(prog)s lnstore://ID@host:port
  %(prog)s lnstore://ID@host:port --lightning-rpc ~/.lightning/regtest/lightning-rpc --json
  %(prog)s lnstore://ID@host:port --pay-command 'lightning-cli pay {bolt11}' --only 'R-.*'
  %(prog)s --client --client-command 'my-client read {address} {share_id}'

A run pays for several accounts with the least capacity (8 MiB if that is less), some deposits and some rent: a few
thousand msat in all at usual prices. The payer needs a channel or a route to the node's Lightning daemon.
Exit code: 0 nothing failed, 1 a requirement failed, 2 the run could not be made."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lnstore_protocol.conformance",
        description="Checks a running lnstore node, or a client, against the numbered requirements of the spec.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", nargs="?", help="the node to check: lnstore://ID@host:port")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, with more of the bytes")
    parser.add_argument("--verbose", action="store_true", help="print the bytes of every check")
    parser.add_argument("--list", action="store_true", help="print the checks and what they try, and run nothing")
    parser.add_argument("--only", default="", metavar="REGEX", help="only checks of this name or requirement number")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, metavar="S", help="seconds for an answer")
    node = parser.add_argument_group("checking a node")
    node.add_argument("--lightning-rpc", type=Path, metavar="SOCKET", help="pay through this lightningd's socket")
    node.add_argument("--pay-command", metavar="CMD", help="pay with this command; {bolt11} is the invoice")
    node.add_argument("--restart-command", metavar="CMD", help="ends the node as a crash would, and starts it again")
    node.add_argument("--advance-command", metavar="CMD", help="sets the node's clock ahead by {seconds}")
    node.add_argument("--capacity", type=int, metavar="BYTES", help="what to rent for each account of the run")
    node.add_argument("--wait", type=float, default=0.0, metavar="S", help="how long to wait for deadlines of the node")
    client = parser.add_argument_group("checking a client")
    client.add_argument("--client", action="store_true", help="act as a node and check the client that connects")
    client.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="where to act as a node")
    client.add_argument(
        "--client-command",
        metavar="CMD",
        help="starts the client for each scenario; {address}, {share_id} and {capability} say what to read",
    )
    client.add_argument("--network", default="regtest", help="the chain that the stand-in claims to be paid on")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list:
        print_table()
        return 0
    if given.client is (given.address is not None):
        parser.error("give the address of a node, or --client")
    try:
        report = _client(given) if given.client else _node(given)
    except (ValueError, OSError, Unreachable) as exc:
        print(f"{parser.prog}: {exc}", file=sys.stderr)
        return UNUSABLE
    print(json.dumps(report.as_json(), indent=1) if given.json else report.as_text(verbose=given.verbose))
    return FAILED if report.failed else 0


def print_table() -> None:
    """The checks and scenarios with their requirements."""
    for check in CHECKS:
        print(f"{check.name:<34} {' '.join(check.requirements)}\n    {check.title}")
    for scenario in SCENARIOS:
        print(f"{'--client ' + scenario.name:<34} {' '.join(scenario.requirements)}\n    {scenario.title}")


def _node(given: argparse.Namespace) -> Report:
    payer: Payer | None = None
    if given.lightning_rpc is not None:
        payer = RpcPayer(given.lightning_rpc.expanduser())
    elif given.pay_command is not None:
        payer = CommandPayer(given.pay_command)
    restart = None if given.restart_command is None else Command(given.restart_command)
    advance = None if given.advance_command is None else Command(given.advance_command)
    tools = NodeTools(
        payer=payer,
        restart=None if restart is None else restart.run,
        advance=None if advance is None else lambda seconds: advance.run(seconds=str(seconds)),
        capacity_bytes=given.capacity,
        patience_seconds=given.patience,
        wait_seconds=given.wait,
    )
    tell = _tell if sys.stderr.isatty() else lambda _: None
    report = check_node(NodeAddress.parse(given.address), tools, only=given.only, tell=tell)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return report


def _tell(result: Result) -> None:
    print(f"\r{result.name:<40} {result.outcome.value:<14}", end="", file=sys.stderr, flush=True)


def _client(given: argparse.Namespace) -> Report:
    host, _, port = given.listen.rpartition(":")
    return check_client(
        None if given.client_command is None else CommandClient(given.client_command),
        listen=(host.strip("[]") or "127.0.0.1", int(port)),
        network=given.network,
        only=given.only,
        patience_seconds=given.patience,
        coming_seconds=COMING_SECONDS,
        tell=lambda text: print(text, file=sys.stderr, flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
