"""From twelve words and one address everything comes back, on an empty machine."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

from cli_world import RunningNet, last_json, lnstore

from lnstore.errors import ExitCode


class Person:
    """Somebody with words, and a profile that can be lost."""

    def __init__(self, net: RunningNet, name: str) -> None:
        self.net = net
        self.settings = ("--lightning-rpc", str(net.lightning_rpc), "--clock-file", str(net.clock_file))
        self.home = net.directory / name
        made = lnstore("init", *self.settings, "--needed", "2", "--total", "3", "--happy", "2", home=self.home)
        (self.words,) = [line.strip() for line in made.stdout.decode().splitlines() if line.startswith("  ")]
        self.run("nodes", "add", *net.addresses)
        self.run("rent", "buy", "--all", "10MiB", "--deposit", "5000", "--open-channel")

    def run(self, *words: str) -> dict[str, object]:
        done = lnstore(*words, "--json", home=self.home)
        assert done.returncode == 0, (words, done.stderr.decode())
        return dict(last_json(done)) if done.stdout else {}

    def recover(self, to: Path, *addresses: str) -> dict[str, object]:
        done = lnstore("recover", *addresses, *self.settings, "--json", home=to, stdin=self.words.encode() + b"\n")
        assert done.returncode == 0, done.stderr.decode()
        # Two neighbours: single words ("until", "know") stand in any English text.
        for pair in itertools.pairwise(self.words.split()):
            assert " ".join(pair) not in done.stdout.decode() + done.stderr.decode()
        self.home = to
        return dict(last_json(done))


def pay_a_month(person: Person) -> None:
    assert lnstore("devnet", "advance", "30d", "--dir", str(person.net.directory)).returncode == 0
    person.run("rent", "pay")


def test_everything_comes_back_and_rent_goes_on(town: RunningNet, tmp_path: Path) -> None:
    """Files, folders and payments made before the backup; rent paid after it is known from the nodes."""
    person = Person(town, "first")
    (tmp_path / "file").write_bytes(os.urandom(300_000))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_bytes(os.urandom(10_000))
    person.run("put", str(tmp_path / "file"))
    person.run("put", str(tmp_path / "folder"))
    assert person.run("put", str(tmp_path / "file"), "--name", "same", "--dedupe")["same_as"] == "file"
    pay_a_month(person)
    person.run("backup")
    made = person.run("backup")
    assert made["not_told"] == []
    pay_a_month(person)
    (tmp_path / "later").write_bytes(os.urandom(1000))
    person.run("put", str(tmp_path / "later"))
    again = person.recover(tmp_path / "again", town.addresses[1])
    assert (again["files"], again["folders"], again["older"], again["silent"]) == (2, 1, [], [])
    for node in again["nodes"]:  # type: ignore[attr-defined]
        assert len(node["differences"]) == 1
        assert node["missing_shares"] == 0
        assert node["unknown_shares"] in {1, 2}  # of the file that was stored later
    assert stat.S_IMODE((person.home / "account.key").stat().st_mode) == 0o600
    assert person.run("get", "file", "-o", str(tmp_path / "copy"))["bytes"] == 300_000
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()
    person.run("get", "folder/inside", "-o", str(tmp_path / "inside"))
    assert (tmp_path / "inside").read_bytes() == (tmp_path / "folder" / "inside").read_bytes()
    assert person.run("put", str(tmp_path / "copy"), "--dedupe")["same_as"] == "file"
    person.run("rm", "file", "copy")
    assert person.run("get", "same", "-o", str(tmp_path / "same"))["bytes"] == 300_000
    told = person.run("rent", "status")
    assert told["agrees"], told
    pay_a_month(person)
    assert person.run("backup")["not_told"] == []
    person.run("rm", "same", "folder")
    person.recover(tmp_path / "once more", town.addresses[0])
    pay_a_month(person)


def test_what_cannot_be_recovered_says_why_and_makes_nothing(town: RunningNet, tmp_path: Path) -> None:
    person = Person(town, "second")
    stranger = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    for words, addresses, code, said in [
        (person.words, [town.addresses[0]], ExitCode.NODE, "was lnstore backup ever run"),
        (stranger, [town.addresses[0]], ExitCode.NODE, "are these its words"),
        (stranger.replace("year", "yeer"), [town.addresses[0]], ExitCode.CONFIGURATION, "word 4"),
        (person.words, [town.addresses[0][:-5] + "1"], ExitCode.NODE, "cannot be reached"),
        (person.words, ["node.example.org"], ExitCode.USAGE, "looks like"),
    ]:
        home = tmp_path / "home"
        done = lnstore("recover", *addresses, *person.settings, home=home, stdin=words.encode() + b"\n")
        assert (done.returncode, done.stdout) == (code, b""), done.stderr
        assert said in done.stderr.decode()
        assert [path for path in tmp_path.iterdir()] == []  # noqa: C416 - what a person would see
    taken = lnstore("recover", town.addresses[0], *person.settings, home=person.home, stdin=person.words.encode())
    assert taken.returncode == ExitCode.CONFIGURATION
    assert b"not empty" in taken.stderr
