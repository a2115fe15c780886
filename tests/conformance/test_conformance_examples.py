"""protocol/examples, run: with each other, with lnstore's own node and client, and under the conformance program."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import trio
from conformance_world import LightningSockets, NodeWorld
from examples_world import EXAMPLES, SECRET, example_node, running_example

from lnstore.client.files import open_client
from lnstore.client.profile import init_profile
from lnstore_protocol.conformance import NodeTools, check_node
from lnstore_protocol.conformance.curve import public_key, sign_message
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, NodeAddress
from lnstore_protocol.messages import Request
from lnstore_protocol.prices import Prices

SHIM = Path(__file__).parent / "lightning_cli.py"


async def run_client(address: NodeAddress, key: Path, *words: str, socket: Path | str = "none") -> bytes:
    """What the example client prints."""
    lightning = f"{sys.executable} {SHIM} {socket}"
    ended = await trio.run_process(
        [sys.executable, EXAMPLES / "client.py", str(address), *words, "--key", str(key), "--lightning", lightning],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout


async def test_client_and_node_of_the_examples(tmp_path: Path) -> None:
    """A file goes to the example node and comes back, without anybody paying."""
    file, key = tmp_path / "file", tmp_path / "account.key"
    file.write_bytes(os.urandom(100_000))
    with running_example() as address:
        share_id = (await run_client(address, key, "put", str(file))).decode().strip()
        assert await run_client(address, key, "get", share_id) == file.read_bytes()
    assert key.stat().st_mode & 0o077 == 0


@pytest.fixture
def world(tmp_path: Path, lightning: LightningSockets) -> NodeWorld:
    """The example client pays nothing for writing."""
    return NodeWorld(tmp_path, lightning, ingress_msat_per_gib=0)


async def test_the_example_client_rents_at_lnstores_node(world: NodeWorld, tmp_path: Path) -> None:
    """It pays for capacity, puts, pays for reading, and gets the same bytes; a second put finds room already."""
    file, key, socket = tmp_path / "file", tmp_path / "account.key", world.lightning.client
    file.write_bytes(os.urandom(200_001))
    async with world.running() as address:
        share_id = (await run_client(address, key, "put", str(file), socket=socket)).decode().strip()
        assert await run_client(address, key, "get", share_id, socket=socket) == file.read_bytes()
        assert (await run_client(address, key, "put", str(file))).decode().strip() == share_id


async def test_the_example_client_does_not_overpay(
    world: NodeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that charges more than its terms gets nothing from it."""
    exact = Prices.growth_msat
    monkeypatch.setattr(Prices, "growth_msat", lambda *args: exact(*args) + 1)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    async with world.running() as address:
        with pytest.raises(AssertionError, match=r"msat where \d+ are due"):
            await run_client(address, tmp_path / "key", "put", str(file), socket=world.lightning.client)


async def test_lnstores_client_uses_the_example_node(tmp_path: Path) -> None:
    """It opens an account, puts a file of several segments, and reads it back."""
    content = os.urandom(3_000_000)
    with running_example() as address:
        profile = init_profile(tmp_path / "profile", needed=1, happy=1, total=1)
        await run_client(address, profile.directory / "account.key", "put", str(SHIM))  # opens the account
        async with open_client(profile) as client:
            client.catalog.add_node(address, petname="example", lightning_id=None, added_at=0)
            stored = await client.put(io.BytesIO(content), name="file")
            output = io.BytesIO()
            await client.get(stored.cap, output)
    assert output.getvalue() == content


async def test_the_example_node_conforms() -> None:
    """In all that can be tried without money; it says LIGHTNING_UNAVAILABLE for the rest."""
    with running_example() as address:
        report = await trio.to_thread.run_sync(lambda: check_node(address, NodeTools()))
    assert report.failed == {}
    assert {"MB-R3", "MB-R6", "MB-R20", "P-R5", "MB-R26", "MA-R4", "M-R2", "T-R12"} <= report.passed.keys()
    assert {"RP-R2", "RP-R5", "RP-W1", "RP-W7", "RP-W8"} <= report.passed.keys()


def test_the_example_node_has_an_answer_to_every_request() -> None:
    node = example_node.DictNode(Identity.generate(), LightningId(public_key(SECRET)), "", "regtest")
    assert node.answers.keys() == set(get_args(Request))


def test_the_example_node_is_a_program(tmp_path: Path) -> None:
    """It says what to sign, and given the signature prints its address and listens."""
    lightning_id = public_key(SECRET)
    files = [str(EXAMPLES / "node.py"), "--key", str(tmp_path / "node.key")]
    words = [sys.executable, *files, "--lightning-id", lightning_id.hex()]
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    text = asked.stderr.strip().partition(": ")[2]
    options = ["--lightning-signature", sign_message(SECRET, text), "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*words, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = NodeAddress.parse(process.stdout.readline())
            assert check_node(address, only="M-W11|M-R18").failed == {}
        finally:
            process.terminate()
