"""Help, versions and start-up: what a person sees before anything runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from cli_world import lnstore

from lnstore.cli import cli
from lnstore.errors import EXIT_CODE_MEANINGS, ExitCode


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


ALL = list(commands(cli))


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) for words, _ in ALL])
def test_every_command_has_an_example_that_calls_it(words: tuple[str, ...], command: click.Command) -> None:
    """Help says what the command does and shows an example of it."""
    text = command.help or ""
    assert "Example" in text
    assert f"lnstore {' '.join(words)}" in text


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) for words, _ in ALL])
def test_every_command_prints_json_and_documents_its_options(words: tuple[str, ...], command: click.Command) -> None:
    """Programs can read what every command says; no option goes without help."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert all(option.help for option in options)
    # A node's output is its log, which is JSON by itself where nobody watches.
    assert words == ("node", "run") or any("--json" in option.opts for option in options)


def test_exit_codes_are_documented() -> None:
    """`lnstore --help` lists what each exit code means."""
    text = lnstore("--help").stdout.decode()
    assert all(f"{code:>3}  {meaning.split(',')[0]}" in text for code, meaning in EXIT_CODE_MEANINGS.items())


def test_help_imports_nothing_slow() -> None:
    """The start is quick because help needs none of the libraries that work needs."""
    program = (
        "import sys\nfrom lnstore.cli import main\nsys.argv = ['lnstore', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'rich', 'trio', 'sqlalchemy', 'pyln', 'zfec', 'nacl', 'structlog'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_unknown_commands_and_options_are_usage_errors() -> None:
    """A command line that cannot be understood exits with its own code."""
    for words in (["nonsense"], ["ls", "--nonsense"], ["rent", "pay", "--json", "--profile"]):
        done = lnstore(*words)
        assert done.returncode == ExitCode.USAGE
        assert b"Traceback" not in done.stderr
