"""Bad input at the command line: one sentence that says what to do, the documented exit code, no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_world import RunningNet, last_json, lnstore

from lnstore.errors import ExitCode


@pytest.fixture(scope="module")
def home(net: RunningNet) -> Path:
    """A profile that knows the nodes and has a little capacity at each."""
    made = net.profile("errors")
    for number, address in enumerate(net.addresses):
        assert lnstore("nodes", "add", address, "--petname", f"n{number}", home=made).returncode == 0
    bought = lnstore("rent", "buy", "--all", "2MiB", "--deposit", "2000", "--open-channel", home=made)
    assert bought.returncode == 0, bought.stderr.decode()
    return made


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ls"], ExitCode.CONFIGURATION, "lnstore init"),
        (["put", "/nonexistent"], ExitCode.CONFIGURATION, "lnstore init"),
        (["node", "run", "/nonexistent"], ExitCode.CONFIGURATION, "lnstore node init"),
        (["nodes", "add", "node.example.org"], ExitCode.USAGE, "lnstore://"),
        (["rent", "quote", "much"], ExitCode.USAGE, "20GiB"),
        (["devnet", "advance", "soon", "--dir", "/tmp"], ExitCode.USAGE, "30d"),
        (["put", "-"], ExitCode.USAGE, "--name"),
        (["demo", "/nonexistent"], ExitCode.USAGE, "there is no file"),
        (["demo", "/"], ExitCode.USAGE, "not a file"),
        (["demo", "/dev/null", "--needed", "6"], ExitCode.USAGE, "--needed"),
    ],
)
def test_without_a_profile(tmp_path: Path, words: list[str], code: ExitCode, said: str) -> None:
    """What a new user gets wrong first."""
    done = lnstore(*words, home=tmp_path / "none")
    assert (done.returncode, done.stdout) == (code, b"")
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_errors_as_json(tmp_path: Path) -> None:
    """With --json the error is an object on standard output, too."""
    done = lnstore("ls", "--json", home=tmp_path / "none")
    said = json.loads(done.stdout)
    assert done.returncode == ExitCode.CONFIGURATION
    assert said["ok"] is False
    assert "lnstore init" in said["message"]


def test_files(net: RunningNet, home: Path, tmp_path: Path) -> None:
    """Unreadable, too large, unknown, damaged: each says what is wrong, and a failed get leaves no file."""
    small = tmp_path / "small"
    small.write_bytes(b"x" * 100_000)
    stored = last_json(lnstore("put", str(small), "--json", home=home))
    cap = stored["cap"]
    wrong = cap[:-1] + ("q" if cap[-1] != "q" else "p")
    large = tmp_path / "large"
    large.write_bytes(bytes(12 << 20))
    for words, code, said in [
        (["put", str(tmp_path / "none")], ExitCode.DATA, "cannot be read"),
        (["put", str(tmp_path), "--name", "small"], ExitCode.CONFIGURATION, "already a file"),
        (["get", "small", "--at", "2026-11-01", "-o", str(tmp_path / "copy")], ExitCode.DATA, "no folder"),
        (["forget", "small", "--keep-last", "1"], ExitCode.CONFIGURATION, "no folder"),
        (["forget", "small"], ExitCode.USAGE, "what to keep"),
        (["ls", "small"], ExitCode.USAGE, "is a file"),
        (["info", "none"], ExitCode.CONFIGURATION, "lnstore ls"),
        (["find", "none*"], ExitCode.FAILED, ""),
        (["put", str(small)], ExitCode.CONFIGURATION, "--name"),
        (["put", str(large)], ExitCode.NODE, "lnstore rent buy"),
        (["get", "nothing", "-o", str(tmp_path / "copy")], ExitCode.DATA, "lnstore ls"),
        (["get", wrong, "-o", str(tmp_path / "copy")], ExitCode.DATA, "copy it again"),
        (["get", "small", "-o", str(tmp_path / "no" / "copy")], ExitCode.DATA, "copy"),
    ]:
        done = lnstore(*words, home=home)
        assert (done.returncode, done.stdout) == (code, b""), (words, done)
        assert said in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()
    assert not (tmp_path / "copy").exists()
    assert wrong not in done.stderr.decode()


def test_nodes_and_money(net: RunningNet, home: Path) -> None:
    """Unreachable node, wrong key, unknown node, too much capacity."""
    address = net.addresses[0]
    elsewhere = address.rsplit(":", 1)[0] + ":1"
    node_id, place = net.addresses[1].removeprefix("lnstore://").split("@")
    wrong_key = address.replace(address.removeprefix("lnstore://").split("@")[0], node_id)
    assert place not in wrong_key
    for words, code, said in [
        (["nodes", "add", elsewhere], ExitCode.NODE, "cannot be reached"),
        (["nodes", "add", wrong_key], ExitCode.NODE, "key"),
        (["nodes", "add", address, "--petname", "n3"], ExitCode.CONFIGURATION, "n3"),
        (["channel", "open", "nobody"], ExitCode.CONFIGURATION, "nobody"),
        (["rent", "buy", "n0", "900TiB"], ExitCode.USAGE, "rents out"),
        (["rent", "buy", "n0", "5TiB"], ExitCode.NODE, "capacity"),
        (["rent", "buy", "20GiB"], ExitCode.USAGE, "--all"),
    ]:
        done = lnstore(*words, home=home)
        assert (done.returncode, done.stdout) == (code, b""), (words, done)
        assert said in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()


def test_lightning_daemon_missing(net: RunningNet, tmp_path: Path) -> None:
    """Without its Lightning daemon a client says which socket it looked for."""
    home = tmp_path / "lonely"
    assert lnstore("init", "--lightning-rpc", str(tmp_path / "none"), home=home).returncode == 0
    done = lnstore("nodes", "add", net.addresses[0], home=home)
    assert done.returncode == ExitCode.PAYMENT
    assert str(tmp_path / "none") in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
