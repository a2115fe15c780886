"""`lnstore cap`: the texts that read a file, or only verify it."""

from __future__ import annotations

from pathlib import Path

import click

from lnstore.cli.output import SECRET_TEXT, json_option, print_json, profile_option
from lnstore.cli.session import load_profile


@click.group()
def cap() -> None:
    """Show the capabilities of a file: the one that reads it, and the one that only verifies it."""


@cap.command()
@click.argument("name", metavar="NAME")
@profile_option
@json_option
def show(name: str, profile: Path | None, as_json: bool) -> None:
    """Print the capability that reads the file or folder NAME. Whoever has it can read it: hand it on with care.

    \b
    Example:
      lnstore cap show holiday.mp4
    """
    from lnstore.client.naming import read_cap_of

    with load_profile(profile).open_catalog() as catalog:
        text = read_cap_of(catalog, name).to_text()
    if as_json:
        print_json({"name": name, "cap": text})
        return
    click.echo(text)


@cap.command()
@click.argument("given", metavar="CAP|NAME|-", type=SECRET_TEXT)
@profile_option
@json_option
def verify(given: str, profile: Path | None, as_json: bool) -> None:
    """Print the capability that verifies and repairs a file but can not read it, for somebody who looks after it.

    With - the capability that reads it is the first line of standard input.

    \b
    Example:
      lnstore cap verify holiday.mp4
    """
    from lnstore.client.naming import read_cap_of

    with load_profile(profile).open_catalog() as catalog:
        text = read_cap_of(catalog, given).verify_cap().to_text()
    if as_json:
        print_json({"cap": text})
        return
    click.echo(text)
