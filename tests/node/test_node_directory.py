"""The node's directory: what init writes, what run refuses, and that one process at a time runs on it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import structlog
import trio
from node_world import HELLO, Client, World

from lnstore import logs
from lnstore.config import ConfigError, NodeConfig
from lnstore.node import init_node, run_node
from lnstore.node.directory import Binding, last_seen, load_identity, locked, write_seen
from lnstore.node.errors import NodeSetupError
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, NodeAddress, NodeId, ShareId
from lnstore_protocol.messages import ChannelInfo, HelloReply


def test_init_writes_settings_and_a_key_that_only_the_owner_reads(tmp_path: Path) -> None:  # S-R2
    node_id = init_node(tmp_path / "new" / "node", capacity="5GiB", listen_port=0)
    directory = tmp_path / "new" / "node"
    config = NodeConfig.load(directory)
    assert (config.capacity, config.listen_port) == (5 << 30, 0)
    assert (directory / "node.key").stat().st_mode & 0o777 == 0o600
    assert load_identity(directory).public_key == node_id
    assert "# " in (directory / "node.toml").read_text()


@pytest.mark.parametrize("left", ["node.toml", "node.key"])
def test_init_never_overwrites(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("precious")
    with pytest.raises(NodeSetupError, match="already holds a node"):
        init_node(tmp_path)
    assert (tmp_path / left).read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("settings", [{"capasity": "1GiB"}, {"capacity": "much"}])
def test_init_with_wrong_settings_leaves_nothing(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        init_node(tmp_path / "node", **settings)
    assert not list(tmp_path.glob("node/*"))


def test_a_key_that_is_missing_damaged_or_readable_by_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeSetupError, match="lnstore node init"):
        load_identity(tmp_path)
    init_node(tmp_path)
    key = tmp_path / "node.key"
    key.chmod(0o640)
    with pytest.raises(NodeSetupError, match="chmod 600"):
        load_identity(tmp_path)
    key.chmod(0o600)
    key.write_text("not a key")
    with pytest.raises(NodeSetupError, match="backup"):
        load_identity(tmp_path)


def test_a_directory_is_locked_once(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(NodeSetupError, match="another process"), locked(tmp_path):
        raise AssertionError("locked twice")
    with locked(tmp_path):
        pass
    with pytest.raises(NodeSetupError, match="cannot be written"), locked(tmp_path / "missing"):
        raise AssertionError("locked nothing")


def test_the_binding_and_the_last_sign_of_life_are_remembered(tmp_path: Path) -> None:
    assert Binding.load(tmp_path) is None
    binding = Binding(LightningId(b"\x02" * 33), "regtest", "signature")
    binding.save(tmp_path)
    assert Binding.load(tmp_path) == binding
    (tmp_path / "lightning.json").write_text("{}")
    with pytest.raises(NodeSetupError, match="remove it"):
        Binding.load(tmp_path)
    assert last_seen(tmp_path) is None
    write_seen(tmp_path, 1234)
    assert last_seen(tmp_path) == 1234


async def test_the_address_is_in_its_file_while_the_node_runs(world: World) -> None:
    async with world.running() as node:
        assert NodeAddress.parse((world.directory / "address").read_text()) == node.address
        assert node.address.node_id == NodeId(load_identity(world.directory).public_key)
    assert not (world.directory / "address").exists()


async def test_a_port_that_is_taken_is_a_clear_error(world: World) -> None:
    async with world.running() as node:
        toml = world.directory / "node.toml"
        toml.write_text(toml.read_text().replace("listen_port = 0", f"listen_port = {node.address.port}"))
        with pytest.RaisesGroup(pytest.RaisesExc(NodeSetupError, match="cannot listen")):
            await world.running().__aenter__()


@pytest.mark.parametrize(("setting", "wrong"), [("log_level", '"loud"'), ("peers", '["nowhere"]')])
async def test_settings_that_no_node_can_run_with_are_refused(world: World, setting: str, wrong: str) -> None:
    toml = world.directory / "node.toml"
    lines = [f"{setting} = {wrong}" if line.startswith(setting) else line for line in toml.read_text().splitlines()]
    toml.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=setting):
        await run_node(NodeConfig.load(world.directory))


async def test_run_node_starts_without_a_daemon_that_it_met_before_and_ends_with_its_event(world: World) -> None:
    async with world.running():
        pass
    toml = world.directory / "node.toml"
    toml.write_text(toml.read_text().replace("~/.lightning/bitcoin/lightning-rpc", str(world.directory / "missing")))
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(_run_node, NodeConfig.load(world.directory), stop)
        async with await Client.connect(address, Identity.generate()) as client:
            await client.ask(HELLO, HelloReply)
            await client.terms()
            assert await client.refused(ChannelInfo()) is ErrorCode.LIGHTNING_UNAVAILABLE
        with pytest.raises(NodeSetupError, match="another process"):
            await run_node(NodeConfig.load(world.directory))
        stop.set()


async def _run_node(config: NodeConfig, stop: trio.Event, *, task_status: trio.TaskStatus[NodeAddress]) -> None:
    await run_node(config, stop=stop, task_status=task_status)


@pytest.mark.parametrize("name", ["books.db", "shares"])
async def test_books_or_shares_that_cannot_be_used_are_a_clear_error(world: World, name: str) -> None:
    shutil.rmtree(world.directory / "shares")
    (world.directory / name).write_bytes(b"not what is expected" * 100)
    with pytest.raises(NodeSetupError, match=name):
        await run_node(NodeConfig.load(world.directory))


def test_logs_off_a_terminal_are_json_and_never_hold_bytes() -> None:  # S-R1
    out = io.StringIO()
    logs.configure("info", out)
    try:
        log = structlog.get_logger("test")
        log.debug("not shown")
        log.info("shown", share=ShareId(b"\x01" * 32), secret=b"preimage")
        try:
            int("inner")
        except ValueError:
            log.exception("failed")
    finally:
        structlog.reset_defaults()
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["event"], first["level"], first["share"]) == ("shown", "info", "01" * 32)
    assert first["secret"] == "(8 bytes)"
    assert "ValueError: invalid literal" in second["exception"]
    with pytest.raises(ValueError, match="debug"):
        logs.configure("loud", out)
