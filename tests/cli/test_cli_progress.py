"""What a person sees of a transfer: a bar with rate and time left on a terminal only, then one line."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
from pathlib import Path

import pytest
from cli_world import COMMAND, PATIENCE_SECONDS, RunningNet, last_json, lnstore

ONE_LINE = re.compile(r"[0-9.]+ MiB[,;] .*in [0-9]+\.[0-9] s, [0-9.]+ MB/s")
BAR = re.compile(r"[0-9.]+/[0-9.]+ MiB +[0-9.]+ [kMG]?B/s +[0-9]+:[0-9]{2}.*[0-9]+ shares")
BAR_TO_THE_END = re.compile(r"[0-9.]+/\? MiB +[0-9.]+ [kMG]?B/s.*[0-9]+ shares")


@pytest.fixture(scope="module")
def home(net: RunningNet) -> Path:
    """Room at three nodes."""
    made = net.profile("watching", needed="2", total="3", happy="3")
    last_json(lnstore("nodes", "add", *net.addresses[:3], "--json", home=made))
    last_json(lnstore("rent", "buy", "--all", "64MiB", "--deposit", "20000", "--open-channel", "--json", home=made))
    return made


def watched(home: Path, *words: str, stdin: bytes = b"") -> tuple[bytes, str]:
    """Standard output, and what a terminal at standard error was sent."""
    ours, theirs = pty.openpty()
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "LNSTORE_HOME": str(home), "COLUMNS": "160"}
    seen = bytearray()

    def watch() -> None:
        while True:
            try:
                seen.extend(os.read(ours, 4096))
            except OSError:  # the other end is closed
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        done = subprocess.run(
            [*COMMAND, *words], input=stdin, stdout=subprocess.PIPE, stderr=theirs, timeout=PATIENCE_SECONDS,
            env=environment | {"TERM": "xterm"}, check=False,
        )  # fmt: skip
    finally:
        os.close(theirs)
        watching.join()
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert done.returncode == 0, text
    return done.stdout, text


def test_put_and_get_show_rate_and_time_left_on_a_terminal_and_end_with_one_line(home: Path, tmp_path: Path) -> None:
    """File, folder, standard input; to a file, a folder and standard output; a name is no markup."""
    data = os.urandom(9_000_000)
    name = "[/nothing] of\nit"
    (tmp_path / "file").write_bytes(data)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one").write_bytes(data[:5_000_000])
    for words, stdin in (
        (("put", str(tmp_path / "file"), "--name", name), b""),
        (("put", str(folder)), b""),
        (("put", "-", "--name", "stdin"), data),
        (("get", "folder", "-o", str(tmp_path / "folder back")), b""),
        (("get", name, "-o", str(tmp_path / "back")), b""),
    ):
        out, shown = watched(home, *words, stdin=stdin)
        assert (BAR_TO_THE_END if words[1] == "-" else BAR).search(shown), (words, shown)
        lines = [line for line in out.decode().splitlines() if not line.startswith("lnsr1")]
        assert len(lines) == 1, lines
        assert ONE_LINE.search(lines[0]), lines
        assert (r"[/nothing] of\nit" in lines[0]) == (name in words and words[0] == "put")
    out, shown = watched(home, "get", name)
    assert out == data
    assert BAR.search(shown)
    assert ONE_LINE.search(shown.splitlines()[-1])


def test_nothing_is_shown_where_nobody_looks(home: Path, tmp_path: Path) -> None:
    """Standard error is a pipe: it stays empty, and standard output is the line and the capability, or the file."""
    (tmp_path / "quiet").write_bytes(os.urandom(100_000))
    put = lnstore("put", str(tmp_path / "quiet"), home=home)
    assert (put.returncode, put.stderr) == (0, b"")
    assert len(put.stdout.splitlines()) == 2
    got = lnstore("get", "quiet", home=home)
    assert (got.returncode, got.stderr) == (0, b"")
    assert got.stdout == (tmp_path / "quiet").read_bytes()
