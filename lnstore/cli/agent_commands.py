"""`lnstore agent`: what has to be done again and again, done without a person."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.output import (
    human_time,
    json_option,
    print_json,
    profile_directory,
    profile_option,
    run,
    unless_terminated,
)
from lnstore.cli.session import load_profile, open_unheld

if TYPE_CHECKING:
    from lnstore.client.agent.rounds import Ran, Round
    from lnstore.client.agent.store import Alert


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def agent() -> None:
    """Pay rent, verify proofs, audit, repair and back up at the right times."""


@agent.command("run")
@profile_option
@json_option
def run_command(profile: Path | None, *, as_json: bool) -> None:
    """Work until SIGTERM or Ctrl-C: each job at its time, one line for each.

    What was missed while the machine slept is done once. Settings are under [agent] in client.toml and are read anew
    before each round of work. Exit code 9 when another agent is at work with the profile.

    \b
    Example:
      lnstore agent run
    """
    from lnstore.client.agent.daemon import run_agent
    from lnstore.client.agent.lock import alone
    from lnstore.clock import clock_for

    loaded = load_profile(profile)
    seen: set[str] = set()

    def after(done: Round) -> None:
        for alert in done.alerts:
            if not as_json and alert.text not in seen:
                click.echo(alert_line(alert), err=True)
        seen.clear()
        seen.update(alert.text for alert in done.alerts)
        if done.hook_failure:
            click.echo(done.hook_failure, err=True)

    async def work() -> None:
        await run_agent(
            loaded,
            lambda: open_unheld(loaded),
            clock_for(loaded.config.clock_file),
            tell=lambda ran: tell_ran(ran, as_json=as_json),
            after=after,
            warn=lambda text: click.echo(text, err=True),
        )

    async def until_stopped() -> None:
        with suppress(click.Abort):
            await unless_terminated(work)

    with alone(loaded.directory), suppress(KeyboardInterrupt):
        run(until_stopped)


@agent.command()
@profile_option
@json_option
def unit(profile: Path | None, *, as_json: bool) -> None:
    """Print a systemd unit that runs the agent of this profile.

    Give LNSTORE_PASSPHRASE_FILE if the account key is under a passphrase; the unit names the same file.

    \b
    Example:
      lnstore agent unit > ~/.config/systemd/user/lnstore-agent.service
    """
    from lnstore.client.agent.unit import NAME, unit_text
    from lnstore.config import ClientConfig

    directory = profile_directory(profile)
    ClientConfig.load(directory)
    text = unit_text(directory)
    if as_json:
        print_json({"ok": True, "name": NAME, "unit": text})
    else:
        click.echo(text, nl=False)


@agent.command()
@profile_option
@json_option
@click.pass_context
def once(context: click.Context, profile: Path | None, as_json: bool) -> None:
    """Do what is due now and end: for cron, every quarter of an hour.

    What is due is decided as by `lnstore agent run`; run it as often as you like. Exit code 8 when something needs
    you (see: lnstore status), 9 when another agent is at work with the profile.

    \b
    Example:
      lnstore agent once
    """
    from lnstore.client.agent.lock import alone
    from lnstore.client.agent.rounds import work_off
    from lnstore.errors import ExitCode

    loaded = load_profile(profile)

    async def work() -> Round:
        return await work_off(loaded, lambda: open_unheld(loaded), lambda ran: tell_ran(ran, as_json=as_json))

    with alone(loaded.directory):
        done = run(work)
    tell_round(done, as_json=as_json)
    if done.alerts:
        context.exit(ExitCode.ALERTS)


def tell_ran(ran: Ran, *, as_json: bool) -> None:
    """One line for a job that was run."""
    if as_json:
        print_json({"ok": ran.ok, "job": ran.kind, "node": ran.petname, "at": ran.at, "result": ran.result})
        return
    what = ran.kind if ran.petname is None else f"{ran.kind} {ran.petname}"
    click.echo(f"{human_time(ran.at)} {what}: {'' if ran.ok else 'failed: '}{ran.result}")


def tell_round(done: Round, *, as_json: bool) -> None:
    """One line for the whole."""
    if as_json:
        print_json(
            {
                "ok": not done.alerts,
                "jobs": len(done.ran),
                "failed": sum(not ran.ok for ran in done.ran),
                "next_at": done.next_at,
                "alerts": [alert.text for alert in done.alerts],
                "hook_error": done.hook_failure,
            }
        )
        return
    for alert in done.alerts:
        click.echo(alert_line(alert), err=True)
    if done.hook_failure:
        click.echo(done.hook_failure, err=True)
    if not done.ran:
        when = "there is no account yet" if done.next_at is None else f"next: {human_time(done.next_at)}"
        click.echo(f"nothing is due; {when}")


def alert_line(alert: Alert) -> str:
    """What needs a person, and since when."""
    return f"needs you since {human_time(alert.opened_at)}: {alert.text}"
