"""Configuration: what is written can be read; what is wrong is named."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore.config import AgentConfig, ClientConfig, ConfigError, NodeConfig, parse_bytes, parse_seconds


def test_template_reads_back_as_the_defaults(tmp_path: Path) -> None:
    """The commented file that init writes means what the defaults mean."""
    (tmp_path / "node.toml").write_text(NodeConfig.template())
    (tmp_path / "client.toml").write_text(ClientConfig.template())
    assert NodeConfig.load(tmp_path) == NodeConfig(directory=tmp_path)
    assert ClientConfig.load(tmp_path) == ClientConfig(directory=tmp_path)


def test_template_takes_values(tmp_path: Path) -> None:
    """Values given to the template are what is read."""
    (tmp_path / "node.toml").write_text(NodeConfig.template(listen_port=0, capacity="2GiB", peers=['a"\\b']))
    config = NodeConfig.load(tmp_path)
    assert (config.listen_port, config.capacity, config.peers) == (0, 2 << 30, ('a"\\b',))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("nonsense = 1", "nonsense"),
        ('capacity = "lots"', "capacity"),
        ("listen_port = true", "listen_port"),
        ("listen_port = -1", "listen_port"),
        ("listen_host = 3", "listen_host"),
        ('period = "0s"', "period"),
        ('channel_policy = "maybe"', "channel_policy"),
        ("peers = [1]", "peers"),
        ("ingress_msat_per_gib = -1", "ingress"),
        ("a b c", "TOML"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, line: str, named: str) -> None:
    """A wrong setting gives an error that names it and the file."""
    (tmp_path / "node.toml").write_text(line)
    with pytest.raises(ConfigError, match=named) as caught:
        NodeConfig.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_table_reads_back_takes_values_and_keeps_its_defaults(tmp_path: Path) -> None:
    """What is not set in it is as if there were none."""
    (tmp_path / "client.toml").write_text(
        ClientConfig.template(needed=2, agent={"rent_every": "6h", "hook": ["a", "b"]})
    )
    config = ClientConfig.load(tmp_path)
    assert (config.needed, config.agent.rent_every, config.agent.hook) == (2, 6 * 3600, ("a", "b"))
    (tmp_path / "client.toml").write_text("[agent]\naudit_reads = 0")
    assert ClientConfig.load(tmp_path).agent == replace(AgentConfig(), audit_reads=0)
    (tmp_path / "client.toml").write_text("")
    assert ClientConfig.load(tmp_path).agent == AgentConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent = 1", r"agent is a table; write its settings below a line \[agent\]"),
        ("[agent]\nnonsense = 1", r"\[agent\]: there is no setting 'nonsense'; known are audit_every"),
        ('[agent]\nrent_every = "0s"', r"\[agent\]: rent_every: '0s' is no time at all"),
        ('[agent]\nhook = "a command"', r"\[agent\]: hook: 'a command' is not a list of texts"),
    ],
)
def test_wrong_settings_of_a_table_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "client.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        ClientConfig.load(tmp_path)


def test_missing_files_say_how_to_make_them(tmp_path: Path) -> None:
    """A directory without configuration says which command makes one."""
    with pytest.raises(ConfigError, match="lnstore node init"):
        NodeConfig.load(tmp_path)
    with pytest.raises(ConfigError, match="lnstore init"):
        ClientConfig.load(tmp_path)


def test_impossible_coding_is_refused(tmp_path: Path) -> None:
    """That needed ≤ happy ≤ total is checked when the profile is read."""
    (tmp_path / "client.toml").write_text("needed = 5\ntotal = 4\nhappy = 4")
    with pytest.raises(ConfigError, match="needed"):
        ClientConfig.load(tmp_path)


@given(st.integers(0, 1 << 40))
def test_sizes_in_units(count: int) -> None:
    """Binary and decimal units mean what they say."""
    assert parse_bytes(str(count)) == parse_bytes(count) == count
    assert parse_bytes(f"{count}MiB") == count << 20
    assert parse_bytes(f"{count} kB") == count * 1000


def test_fractions_and_times() -> None:
    """Fractions of a unit, and lengths of time."""
    assert parse_bytes("1.5GiB") == 3 << 29
    assert [parse_seconds(t) for t in ("30d", "12h", "90m", "45s", "7", 8)] == [2_592_000, 43_200, 5_400, 45, 7, 8]


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 GiBs", "1e9", "0x10"])
def test_nonsense_is_no_size_and_no_time(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="is not a"):
        parse_bytes(text)
    with pytest.raises(ValueError, match="is not a"):
        parse_seconds(text)
