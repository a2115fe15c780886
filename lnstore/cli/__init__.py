"""The command line: arguments to exit codes, tables, progress bars and --json; nothing else.

Commands are imported when they are called, so that `lnstore --help` and `lnstore ls` start quickly.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
from typing import Any

import click

from lnstore.cli.output import printable_lines
from lnstore.errors import EXIT_CODE_MEANINGS, ExitCode, LnstoreError, without_secrets

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in EXIT_CODE_MEANINGS.items())


class LazyGroup(click.Group):
    """A group whose commands are named with their one-line help here and imported only when called."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a new user needs them."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that holds the command."""
        if cmd_name not in self._lazy:
            return None
        module, attribute = self._lazy[cmd_name][0].split(":")
        command = getattr(importlib.import_module(f"lnstore.cli.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker; the table is ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    lazy={
        "demo": ("demo_command:demo", "The whole job on a file of yours, on a simulated network."),
        "init": ("profile_commands:init", "Make a client profile."),
        "passphrase": ("profile_commands:passphrase", "Lock the account key, or unlock it."),
        "nodes": ("nodes_commands:nodes", "Add, list and judge storage nodes."),
        "channel": ("channel_commands:channel", "Open, list, top up and close Lightning channels."),
        "rent": ("rent_commands:rent", "Quote, buy, pay and show rent."),
        "receipts": ("receipt_commands:receipts", "Receipts of what you paid, signed; check such files."),
        "put": ("file_commands:put", "Store a file or a folder."),
        "get": ("file_commands:get", "Read a file or a folder back."),
        "ls": ("catalog_commands:ls", "List what is stored."),
        "snapshots": ("snapshot_commands:snapshots", "List the snapshots of folders."),
        "forget": ("snapshot_commands:forget", "Forget old snapshots of a folder."),
        "prune": ("prune_command:prune", "Free what forgotten snapshots left in packs that are needed in part."),
        "find": ("catalog_commands:find", "Find stored files by name."),
        "info": ("catalog_commands:info", "Show where and how a file is stored."),
        "rm": ("catalog_commands:rm", "Give files up, so that their room is free again."),
        "mv": ("catalog_commands:mv", "Give a file another name."),
        "check": ("check_command:check", "Ask the nodes whether they hold what is stored, and what hangs on which."),
        "repair": ("repair_commands:repair", "Store what nodes have lost elsewhere."),
        "cap": ("cap_commands:cap", "Show the capabilities of a file."),
        "delegate": ("delegate_commands:delegate", "Let others store and read on your account, within limits."),
        "agent": ("agent_commands:agent", "Pay rent, audit, repair and back up at the right times."),
        "status": ("status_command:status", "Show what is due, what was done and what needs you."),
        "backup": ("backup_commands:backup", "Store the catalog on your nodes."),
        "recover": ("backup_commands:recover", "Bring everything back from twelve words and a node."),
        "node": ("node_commands:node", "Set up and run a storage node."),
        "devnet": ("devnet_commands:devnet", "Run a whole network on this machine, to try things out."),
    },
)
@click.version_option(package_name="lnstore")
def cli() -> None:
    """lnstore: storage nodes that keep and serve your data only while you pay them, over Lightning."""


def main() -> None:
    """Run the command line and exit; every known error becomes one sentence and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that this locale cannot write
    try:
        # A command that ends with an exit code of its own (ctx.exit, click.exceptions.Exit) returns it here.
        code = ExitCode(cli.main(standalone_mode=False) or ExitCode.OK)
    except click.UsageError as exc:
        click.UsageError(printable_lines(without_secrets(exc.format_message())), exc.ctx).show()
        code = ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        code = _interrupted()
    except BrokenPipeError:
        # The reader of our output went away (`lnstore ls | head`): no error, and nobody to tell.
        sys.stderr.close()
        code = ExitCode.OK
    except BaseExceptionGroup as group:
        _, rest = group.split(KeyboardInterrupt)
        code = _interrupted() if rest is None else _report(_only_known(rest))
    except LnstoreError as exc:
        code = _report(exc)
    sys.exit(code)


def _only_known(group: BaseExceptionGroup[BaseException]) -> LnstoreError:
    """The error a person can act on among those that trio's nurseries gathered; anything else is a bug: re-raised."""
    known, unknown = group.split(LnstoreError)
    if known is None or unknown is not None:
        raise group
    first: BaseException = known
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, LnstoreError)  # noqa: S101 - split() keeps only these
    return first


def _interrupted() -> ExitCode:
    click.echo("interrupted", err=True)
    return ExitCode.INTERRUPTED


def _report(error: LnstoreError) -> ExitCode:
    if "--json" in sys.argv:
        click.echo(json.dumps({"ok": False, "error": type(error).__name__, "message": str(error)}))
    click.echo(f"error: {printable_lines(str(error))}", err=True)
    return error.exit_code
