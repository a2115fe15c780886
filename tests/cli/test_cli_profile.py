"""A profile's words and passphrase, as a person and a script meet them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path

from cli_world import COMMAND, last_json, lnstore

from lnstore.client.keyfile import seed_of
from lnstore.errors import ExitCode
from lnstore_protocol.identity import Identity


def test_init_shows_words_once_and_keeps_them_out_of_json(tmp_path: Path) -> None:
    told = lnstore("init", home=tmp_path / "a")
    (line,) = [line for line in told.stdout.decode().splitlines() if line.startswith("  ")]
    account = Identity(seed_of(line)).public_key.hex()
    assert account in told.stdout.decode()
    done = lnstore("init", "--json", home=tmp_path / "b")
    (words,) = [line.strip() for line in done.stderr.decode().splitlines() if line.startswith("  ")]
    assert last_json(done)["account_id"] == Identity(seed_of(words)).public_key.hex()
    # Two neighbours: a single word can stand in any English text.
    assert not any(" ".join(pair) in done.stdout.decode() for pair in itertools.pairwise(words.split()))
    for path in (tmp_path / "b").rglob("*"):
        assert words.encode() not in path.read_bytes()


def test_a_locked_profile_works_with_the_passphrase_and_says_what_it_needs_without(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = lnstore("init", "--passphrase", "--json", home=home, stdin=b"correct horse\n")
    assert made.returncode == 0, made.stderr
    locked = lnstore("ls", home=home)
    assert (locked.returncode, locked.stdout) == (ExitCode.CONFIGURATION, b"")
    assert b"LNSTORE_PASSPHRASE_FILE" in locked.stderr
    (tmp_path / "file").write_text("correct horse\n")
    environment = {"PATH": os.environ["PATH"], "LNSTORE_HOME": str(home), "LNSTORE_PASSPHRASE_FILE": f"{tmp_path}/file"}

    def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*COMMAND, *words], env=environment, input=stdin, capture_output=True, check=False)

    assert run("ls").returncode == 0
    wrong = run("passphrase", stdin=b"short\n")
    assert wrong.returncode == ExitCode.CONFIGURATION
    assert b"at least 8" in wrong.stderr
    assert json.loads(run("passphrase", "--json", stdin=b"battery staple\n").stdout)["locked"]
    refused = run("ls")
    assert refused.returncode == ExitCode.CONFIGURATION
    assert b"not the passphrase" in refused.stderr
    (tmp_path / "file").write_text("battery staple")
    assert run("passphrase", "--remove").returncode == 0
    assert lnstore("ls", home=home).returncode == 0
