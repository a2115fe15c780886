"""Channels at the command line, from both sides: open, watch, top up, close, sweep."""

from __future__ import annotations

import json
from typing import Any

import trio
from cli_world import RunningNet, last_json, lnstore

from lnstore.errors import ExitCode
from lnstore.lightning.core import CoreLightning

ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


def client_place(net: RunningNet) -> str:
    """The client's Lightning daemon as its peers write it."""
    info = trio.run(CoreLightning(net.lightning_rpc).info)
    host, port = info.addresses[0]
    return f"{info.lightning_id.hex()}@{host}:{port}"


def test_a_channel_from_its_opening_to_its_end(own_net: RunningNet) -> None:
    """The client opens, tops up and closes; the node sees room, earns, and opens one itself; each says what it did."""
    home = own_net.profile("channels")
    directory = str(own_net.directory / "nodes" / "node1")
    address = (own_net.directory / "nodes" / "node1" / "address").read_text().strip()

    def client(*words: str) -> Any:
        return last_json(lnstore(*words, "--json", home=home))

    client("nodes", "add", address, "--petname", "five")
    opened = client("channel", "open", "five", "--sat", "200000", "--push-msat", "50000000")
    assert (opened["phase"], opened["capacity_msat"]) == ("open", 250_000_000)
    client("rent", "buy", "five", "4GiB")
    assert client("channel", "top-up", "five")["added"] is False
    grown = client("channel", "top-up", "five", "--sat", "100000")
    assert (grown["channel_id"], grown["capacity_msat"]) == (opened["channel_id"], 350_000_000)

    shown = [json.loads(line) for line in lnstore("channel", "ls", "--json", home=home).stdout.splitlines()]
    (one,) = [row for row in shown if row["node"] == "five"]
    assert (one["state"], one["supply"], one["warning"]) == ("CHANNELD_NORMAL", "fine", "")
    assert one["periods_left"] == one["spendable_msat"] // 8000
    table = lnstore("channel", "ls", home=home).stdout.decode()
    assert table.splitlines()[0].rstrip().endswith("channel  periods of rent")
    assert "350,000 sat" in table

    state = last_json(lnstore("node", "channels", directory, "--json"))
    assert (state["rent_msat_per_period"], state["supply"]) == (8000, "fine")
    assert state["inbound_msat"] == one["spendable_msat"]
    account = last_json(lnstore("node", "accounts", directory, "--json"))
    assert (account["channel"], account["channel_capacity_msat"]) == ("open", 350_000_000)
    assert account["channel_receivable_msat"] == one["spendable_msat"]
    seen = lnstore("node", "accounts", "show", directory, account["account_id"]).stdout.decode()
    assert account["lightning_id"] in client_place(own_net)
    assert f"Lightning id, as it says: {account['lightning_id']}" in seen
    assert "open, 350,000 sat" in seen
    plan = last_json(lnstore("node", "sweep", directory, "--to", ADDRESS, "--dry-run", "--json"))
    assert [step["way"] for step in plan["channels"]] == ["splice out"]
    assert 20_000 < plan["arriving_sat"] < 50_000
    swept = last_json(lnstore("node", "sweep", directory, "--to", ADDRESS, "--json"))
    assert len(swept["withdrawal_txid"]) == 64
    again = lnstore("node", "sweep", directory, "--to", ADDRESS)
    assert (again.returncode, again.stdout) == (ExitCode.PAYMENT, b"")
    assert "nothing to sweep" in again.stderr.decode()

    closed = client("channel", "close", "five")
    assert (closed["mutual"], len(closed["txid"])) == (True, 64)
    status = lnstore("rent", "status", home=home)
    assert "the channel to five" in status.stderr.decode()
    assert "closed by you" in status.stderr.decode()
    theirs = last_json(
        lnstore(
            "node",
            "channel",
            "open",
            directory,
            client_place(own_net),
            "--sat",
            "300000",
            "--push-msat",
            "1000",
            "--json",
        )
    )
    assert (theirs["capacity_msat"], theirs["to_us_msat"]) == (300_000_000, 299_999_000)
    assert "can be received" in lnstore("node", "channels", directory).stdout.decode()


def test_faults_on_demand(net: RunningNet) -> None:
    """The simulated network fails as it is told to, and says what it was told."""
    where = ["--dir", str(net.directory)]
    home = net.profile("faults")
    node = (net.directory / "nodes" / "node4" / "address").read_text().strip()
    assert lnstore("nodes", "add", node, "--petname", "four", home=home).returncode == 0
    armed = last_json(
        lnstore("devnet", "control", "fault", "kind=peer_down", "node=client", "peer=node4", *where, "--json")
    )
    assert armed["fault"] > 0
    apart = lnstore("channel", "open", "four", "--sat", "100000", home=home)
    assert (apart.returncode, "does not answer" in apart.stderr.decode()) == (ExitCode.PAYMENT, True)
    assert json.loads(lnstore("devnet", "control", "clear_faults", *where).stdout) == {"cleared": 1}
    assert lnstore("channel", "open", "four", "--sat", "100000", home=home).returncode == 0
    for words, said in [
        (["fault", "kind=nosuch"], "there is no fault 'nosuch'"),
        (["nosuch"], "Unknown command"),
        (["mine", "blocks"], "NAME=VALUE"),
        (["mine", "blocks=0"], "from 1 to 10000"),
    ]:
        done = lnstore("devnet", "control", *words, *where)
        assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
        assert said in done.stderr.decode()


def test_what_cannot_be_understood(net: RunningNet) -> None:
    """A time, a peer and an address that are none: one sentence, the documented exit code."""
    home = net.profile("misread")
    directory = str(net.directory / "nodes" / "node5")
    for words, code, said in [
        (["channel", "close", "five", "--unilateral-after", "soon"], ExitCode.USAGE, "30d"),
        (["node", "channel", "open", directory, "02ab@nowhere", "--sat", "100000"], ExitCode.USAGE, "host:port"),
        (["node", "sweep", directory, "--to", "nowhere", "--dry-run"], ExitCode.PAYMENT, "valid address"),
        (["devnet", "control", "status", "--dir", str(home)], ExitCode.PAYMENT, "start it"),
    ]:
        done = lnstore(*words, home=home)
        assert (done.returncode, done.stdout) == (code, b""), (words, done)
        assert said in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()
