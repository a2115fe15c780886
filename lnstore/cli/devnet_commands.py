"""`lnstore devnet`: a whole network on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from lnstore.cli.output import json_option, lightning_option, pairs, print_json, run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def devnet() -> None:
    """Run a whole network on this machine, to try things out. Its money is play money."""


@devnet.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep it here (default: a temporary directory).",
)
@click.option("--nodes", type=click.IntRange(1, 100), default=5, show_default=True, help="How many storage nodes.")
@lightning_option
@json_option
def up(directory: Path | None, nodes: int, lightning: str, as_json: bool) -> None:
    """Run nodes and a Lightning network until Ctrl-C, and print how to point a client at them.

    \b
    Example:
      lnstore devnet up --dir /tmp/net --nodes 5
    """
    import signal

    import trio

    from lnstore.devnet import LightningKind, devnet, short_directory

    kept = directory is not None
    place = directory.absolute() if directory is not None else short_directory("lnstore-")

    async def serve() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with devnet(place, nodes=nodes, kind=LightningKind(lightning), settings={}) as net:
                addresses = [str(node.address) for node in net.nodes]
                home = place / "profile"
                if as_json:
                    print_json(
                        {
                            "ok": True,
                            "directory": place,
                            "lightning": lightning,
                            "lightning_rpc": net.client_rpc,
                            "clock_file": net.clock_file,
                            "nodes": addresses,
                        }
                    )
                else:
                    pairs({"Lightning": f"{lightning} (play money)", "directory": str(place)})
                    click.echo("\nPoint a client at it, in another terminal:\n")
                    click.echo(f"  export LNSTORE_HOME={home}")
                    if not home.exists():
                        click.echo(f"  lnstore init --lightning-rpc {net.client_rpc} --clock-file {net.clock_file}")
                    click.echo("  lnstore nodes add " + " \\\n    ".join(addresses))
                    click.echo("  lnstore rent buy --all 1GiB --open-channel")
                    click.echo(f"\nLet time pass:\n\n  lnstore devnet advance 30d --dir {place}\n\nStop with Ctrl-C.")
                async for _ in signals:
                    break
                click.echo("stopping", err=True)

    try:
        run(serve)
    finally:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)


@devnet.command()
@click.argument("time")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The network's directory.",
)
@json_option
def advance(time: str, directory: Path, as_json: bool) -> None:
    """Let TIME (30d, 12h, 90m) pass at once for a running development network and its clients.

    \b
    Example:
      lnstore devnet advance 30d --dir /tmp/net
    """
    from lnstore.cli.output import human_time
    from lnstore.clock import SteeredClock
    from lnstore.config import parse_seconds

    try:
        seconds = parse_seconds(time)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="TIME") from exc
    if not (directory / "nodes").is_dir():
        raise click.BadParameter(f"{directory} is not a development network's directory", param_hint="--dir")
    clock = SteeredClock(directory / "clock")
    clock.advance(seconds)
    if as_json:
        print_json({"ok": True, "now_at": clock.now()})
        return
    click.echo(f"it is now {human_time(clock.now())}")


@devnet.command()
@click.argument("what", metavar="COMMAND")
@click.argument("parameters", metavar="NAME=VALUE…", nargs=-1)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The network's directory.",
)
@json_option
def control(what: str, parameters: tuple[str, ...], directory: Path, as_json: bool) -> None:
    """Steer the simulated Lightning network: blocks, clocks, daemons, faults. The answer is JSON in any case.

    docs/guides/lightning.md lists the commands.

    \b
    Example:
      lnstore devnet control fault kind=hold_payment node=client --dir /tmp/net
      lnstore devnet control release node=client --dir /tmp/net
    """
    import json

    from lnstore.lightning.simulated.control import SimulatedNetwork
    from lnstore.ports import LightningRefused

    given = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals:
            raise click.BadParameter(f"{parameter!r} is not NAME=VALUE", param_hint="NAME=VALUE")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value

    async def ask() -> object:
        return await SimulatedNetwork(directory / "lightning").call(what, **given)

    try:
        answer = run(ask)
    except LightningRefused as refused:
        raise click.BadParameter(refused.message, param_hint="COMMAND") from None
    if as_json:
        print_json(answer)
    else:
        click.echo(json.dumps(answer, indent=2))
