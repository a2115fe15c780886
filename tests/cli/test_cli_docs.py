"""Every example in the README and the guides runs as it stands there, but for where things are."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_world import COMMAND, RunningNet, last_json, lnstore
from fork_server import write_shim

from lnstore.client.agent.unit import NAME
from lnstore.config import CLIENT_FILE, ClientConfig
from lnstore.errors import ExitCode

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 20


def blocks(document: str) -> list[str]:
    """The indented blocks of a Markdown document that hold commands."""
    text = (ROOT / document).read_text()
    found = re.findall(r"(?:^    \S.*\n(?:^ *\n(?=    ))?)+", text, flags=re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def run_shell(script: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in `place`, with `lnstore` being this checkout's."""
    (place / "bin").mkdir(exist_ok=True)
    write_shim(place / "bin" / "lnstore")
    return subprocess.run(
        ["bash", "-euxc", script],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "HOME": str(place), **environment},
        check=False,
    )


def test_readme_as_separate_programs(net: RunningNet, tmp_path: Path) -> None:
    """The README's second terminal, line by line, against a running network."""
    (script,) = [block for block in blocks("README.md") if "LNSTORE_HOME" in block]
    script = script.replace("/tmp/net", str(net.directory)).replace("uv run lnstore", "lnstore")
    (tmp_path / "photos.tar").write_bytes(os.urandom(200_000))
    done = run_shell(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy.tar").read_bytes() == (tmp_path / "photos.tar").read_bytes()


def test_client_guide(net: RunningNet, tmp_path: Path) -> None:
    """The client guide's commands, with real names for NODE, the address and the capability."""
    home = tmp_path / "home"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").write_bytes(os.urandom(50_000))
    run = run_shell("tar cf photos.tar photos", tmp_path)
    assert run.returncode == 0
    first, back_up, rent, ending, files, channels = blocks("docs/guides/client.md")
    first = first.replace("~/.lightning/bitcoin/lightning-rpc", str(net.lightning_rpc))
    coding = "--needed 1 --happy 2 --total 2"
    done = run_shell(f"{first.strip()} --clock-file {net.clock_file} {coding}", tmp_path, LNSTORE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    for number, address in enumerate(net.addresses[:2]):
        words = rent.replace("lnstore://<node id>@host:port", f"{address} --petname n{number}")
        done = run_shell(re.sub(r"\bNODE\b", f"n{number}", words), tmp_path, LNSTORE_HOME=str(home))
        assert done.returncode == 0, done.stderr
    lines = files.splitlines()
    assert [line for line in lines if "put -" in line and "--name photos.tar" in line]
    (by_cap,) = [at for at, line in enumerate(lines) if "lnsr1" in line]
    script = "\n".join(line.replace("--name photos.tar", "--name piped.tar") for line in lines[:by_cap])
    done = run_shell(script, tmp_path, LNSTORE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert "1024" in done.stdout.split()
    cap = next(line for line in done.stdout.splitlines() if line.startswith("lnsr1"))
    script = "\n".join([lines[by_cap].replace("lnsr1…", cap).replace("copy.tar", "again.tar"), *lines[by_cap + 1 :]])
    done = run_shell(script, tmp_path, LNSTORE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert cap in done.stdout.splitlines()
    assert any(line.startswith("lnsv1") for line in done.stdout.splitlines())
    assert "nothing was sent, the same content is in holiday.tar" in done.stdout
    assert "removed holiday.tar" in done.stdout
    done = run_shell(re.sub(r"\bNODE\b", "n0", channels), tmp_path, LNSTORE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert "n0: there is enough to spend already; nothing was added" in done.stdout
    assert "n0: closed together by " in done.stdout
    backup, recovery = back_up.splitlines()
    assert recovery.startswith("lnstore recover lnstore://")  # run by test_recovery.py, with words
    done = run_shell(backup, tmp_path, LNSTORE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    done = run_shell(re.sub(r"\bNODE\b", "n1", ending), tmp_path, LNSTORE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert "n1: 10.0 GiB instead of 20.0 GiB from " in done.stdout
    assert "n1: left; 0 sat came back" in done.stdout
    original = (tmp_path / "photos.tar").read_bytes()
    assert (tmp_path / "copy.tar").read_bytes() == (tmp_path / "again.tar").read_bytes() == original


def test_delegation_guide(net: RunningNet, tmp_path: Path) -> None:
    """The delegation guide's commands, by a holder with an account and another with nothing."""
    coding = ["--needed", "1", "--happy", "1", "--total", "1"]
    home = net.profile("holder", needed="1", happy="1", total="1")
    for words in (
        ["nodes", "add", net.addresses[0], "--petname", "n0"],
        ["rent", "buy", "n0", "20MiB", "--deposit", "20000", "--open-channel"],
    ):
        done = lnstore(*words, home=home)
        assert done.returncode == 0, done.stderr.decode()
    first, give, take, after = blocks("docs/guides/delegation.md")
    (tmp_path / "notes.txt").write_bytes(b"what I know")
    environment = {"LNSTORE_HOME": str(home)}

    def shell(script: str) -> list[str]:
        finished = run_shell(script, tmp_path, **environment)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.splitlines()

    init, show = first.splitlines()
    shell(shlex.join([*shlex.split(init), "--clock-file", str(net.clock_file), *coding]))
    (key,) = shell(show)
    (text,) = shell(give.replace("KEY", key))
    said = shell(take.replace("TEXT", text))
    assert [line for line in said if line.endswith(": ready")]
    assert (tmp_path / "copy.txt").read_bytes() == b"what I know"
    (given,) = [json.loads(line) for line in shell("lnstore delegate ls --json")]
    assert {usage["shares"] for usage in given["usage"]} == {2}  # one of the file, and its manifest
    taken, audited = (json.loads(line) for line in shell("lnstore delegate ls --audit --json --profile friend"))
    assert (taken["id"], taken["given_to_you"], audited["lost"]) == (given["id"], True, [])
    said = shell(after.replace("ID", given["id"][:12]))
    assert "revoked; 1 node was told" in said
    assert "dropped 2 shares" in said
    refused = lnstore("put", str(tmp_path / "notes.txt"), "--name", "more", home=tmp_path / "friend")
    assert refused.returncode == ExitCode.NODE
    assert b"expired or was revoked" in refused.stderr


def test_agent_guide(net: RunningNet, tmp_path: Path) -> None:
    """The agent guide's commands, its settings and its hook, by somebody with no deposit to read a share from."""
    home = net.profile("kept by an agent", needed="1", happy="1", total="1")
    for words in (
        ["nodes", "add", net.addresses[2], "--petname", "n2"],
        ["rent", "buy", "n2", "20MiB", "--open-channel"],
        ["put", str(ROOT / "README.md")],
    ):
        done = lnstore(*words, home=home)
        assert done.returncode == 0, done.stderr.decode()
    work, settings, hook, service = blocks("docs/guides/agent.md")
    command = tmp_path / "tell-me"
    command.write_text(hook)
    command.chmod(0o755)
    config = home / CLIENT_FILE
    given = settings.replace("/home/me/bin/tell-me", str(command))
    config.write_text(config.read_text().partition("[agent]")[0] + given)
    assert ClientConfig.load(home).agent.rent_every == 6 * 3600
    advice = "lnstore rent buy n2 20971520 --deposit"
    command.write_text("#!/bin/sh\nexit 1\n")
    assert "the hook command ended with exit status 1" in lnstore("agent", "once", home=home).stderr.decode()
    command.write_text(hook)
    for line in work.splitlines():  # each says by its exit code that something needs you
        shown = run_shell(line, tmp_path, LNSTORE_HOME=str(home))
        assert shown.returncode == ExitCode.ALERTS, shown.stderr
        assert advice in shown.stdout + shown.stderr
    assert [alert["job"] for alert in json.loads(shown.stdout)["alerts"]] == ["audit"]
    (told,) = (tmp_path / "lnstore-alerts").read_text().splitlines()
    assert told.startswith("opened n2 the deposit at n2 ")
    with subprocess.Popen([*COMMAND, "agent", "run", "--profile", str(home)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert advice in process.stderr.readline().decode()
        process.terminate()
    assert process.returncode == 0
    *install, enable = service.splitlines()
    assert enable == f"systemctl --user enable --now {NAME.removesuffix('.service')}"
    shown = run_shell("\n".join(install), tmp_path, LNSTORE_HOME=str(home))
    assert shown.returncode == 0, shown.stderr
    unit = (tmp_path / ".config" / "systemd" / "user" / NAME).read_text()
    assert f'Environment="LNSTORE_HOME={home}"' in unit


@pytest.mark.parametrize("document", ["README.md", "docs/guides/node.md"])
def test_node_of_your_own(net: RunningNet, tmp_path: Path, document: str) -> None:
    """`node init` and `node run` as the documents show them; SIGTERM stops the node in order."""
    (block,) = [block for block in blocks(document) if "lnstore node init" in block]
    *preparation, run = [line for line in block.splitlines() if line.strip()]
    assert run == "lnstore node run ~/lnstore-node"
    script = "\n".join(preparation).replace("~/.lightning/bitcoin/lightning-rpc", str(net.lightning_rpc))
    done = run_shell(script, tmp_path, EDITOR="true")
    assert done.returncode == 0, done.stderr
    directory = tmp_path / "lnstore-node"
    config = directory / "node.toml"
    text = config.read_text().replace("listen_port = 7460", "listen_port = 0")
    # The network's clock was advanced by other examples; a node of one's own has no such clock.
    config.write_text(text.replace('clock_file = ""', f'clock_file = "{net.clock_file}"'))
    process = subprocess.Popen([*COMMAND, "node", "run", str(directory)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (directory / "address").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        address = (directory / "address").read_text().strip()
        added = last_json(lnstore("nodes", "add", address, "--json", home=net.profile(f"guest-{document[:6]}")))
        assert added["address"] == address
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors


def test_node_channels(net: RunningNet, tmp_path: Path) -> None:
    """The node guide's commands about channels, on a node of the network, whatever it earned so far."""
    (script,) = [block for block in blocks("docs/guides/node.md") if "lnstore node channels" in block]
    channels, dry_run, _ = script.splitlines()
    words = f"{channels}\n{dry_run}".replace("~/lnstore-node", str(net.directory / "nodes" / "node3"))
    done = run_shell(words.replace("bc1q…", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "can be received:" in done.stdout
    assert "would arrive" in done.stdout


def test_the_first_two_commands_stand_in_the_readme() -> None:
    """The commands that CI and a new user run are the ones that the README shows."""
    shown = "\n".join(blocks("README.md"))
    assert "pip install uv && uv run lnstore demo FILE" in shown
    assert "pip install uv && uv run just check" in shown
    assert "pip install uv && uv run just check" in (ROOT / ".ci" / "run").read_text()
    assert sys.version_info >= (3, 11)
