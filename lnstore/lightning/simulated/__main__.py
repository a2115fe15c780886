"""`python -m lnstore.lightning.simulated`: runs a simulated Lightning network until it is told to stop."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
from pathlib import Path

import trio

from lnstore.lightning.simulated import nodes
from lnstore.lightning.simulated.commands import load
from lnstore.lightning.simulated.commands.control import CONTROL
from lnstore.lightning.simulated.simulation import CONTROL_FILE, Simulation

BLOCK_SECONDS = 0.2
PAYMENT_SECONDS = 0.01


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lnstore.lightning.simulated",
        description="A simulated Lightning network: one lightningd socket per node at DIR/NAME/lightning-rpc, and "
        "a control socket at DIR/control. Nothing in it is worth real money.",
    )
    parser.add_argument("--dir", type=Path, required=True, help="where state and sockets are (a short path)")
    parser.add_argument("--node", action="append", default=[], metavar="NAME", help="a node to run (repeatable)")
    parser.add_argument(
        "--block-seconds",
        type=float,
        default=BLOCK_SECONDS,
        help=f"how soon a transaction is mined ({BLOCK_SECONDS}); negative: only when told to",
    )
    parser.add_argument(
        "--payment-seconds",
        type=float,
        default=PAYMENT_SECONDS,
        help=f"how long a payment is on its way ({PAYMENT_SECONDS})",
    )
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop when the starter's pipe closes")
    return parser.parse_args()


async def _until_stdin_ends(scope: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        async for _ in stdin:
            pass
    scope.cancel()


async def _until_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _main(arguments: argparse.Namespace) -> None:
    directory: Path = arguments.dir
    simulation = Simulation(
        directory,
        block_seconds=None if arguments.block_seconds < 0 else arguments.block_seconds,
        payment_seconds=arguments.payment_seconds,
        commands=load(),
    )
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_signal, scope)
            await nursery.start(simulation.run)
            for name in arguments.node:
                await simulation.add(name)
            control = directory / CONTROL_FILE
            nursery.start_soon(simulation.serve(control, CONTROL, simulation, scope.cancel))
            if arguments.until_stdin_ends:
                nursery.start_soon(_until_stdin_ends, scope)
            ready = {
                "ready": True,
                "simulated": True,
                "control": str(control),
                "nodes": {node.name: str(simulation.path(node.name)) for node in nodes.every(simulation.db)},
            }
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            await simulation.stopped.wait()
            scope.cancel()


def main() -> int:
    """Runs it; 0 when it was asked to stop, 1 with one line on stderr when it cannot run."""
    arguments = _arguments()
    try:
        arguments.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (arguments.dir / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another simulated network runs in {arguments.dir}; stop it, or use another --dir"
                ) from None
            trio.run(_main, arguments)
    except BaseExceptionGroup as group:
        expected, other = group.split((ValueError, OSError))
        if other is not None:
            raise
        sys.stderr.write(f"{expected.exceptions[0] if expected else group}\n")
        return 1
    except (ValueError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
