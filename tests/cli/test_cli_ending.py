"""`rent shrink` and `rent leave`, and what `rent status` says of them."""

from __future__ import annotations

import json

from cli_world import RunningNet, last_json, lnstore

from lnstore.errors import ExitCode


def test_renting_less_and_leaving(net: RunningNet) -> None:
    home = net.profile("leaver")
    for words in (
        ["nodes", "add", net.addresses[0], "--petname", "n0"],
        ["rent", "buy", "n0", "4MiB", "--open-channel"],
    ):
        last_json(lnstore(*words, "--json", home=home))
    done = last_json(lnstore("rent", "shrink", "n0", "2MiB", "--json", home=home))
    assert (done["capacity_bytes"], done["next_capacity_bytes"], done["from_period"]) == (4 << 20, 2 << 20, 1)
    too_small = lnstore("rent", "shrink", "n0", "1KiB", home=home)
    assert (too_small.returncode, b"rent leave n0" in too_small.stderr) == (ExitCode.USAGE, True)
    shown = [json.loads(line) for line in lnstore("rent", "status", "--json", home=home).stdout.splitlines()]
    (row,) = [row for row in shown if row.get("node") == "n0"]
    assert (row["stage"], row["next_stage"], row["warning"]) == ("active", "due", "")
    assert (row["shrink_to_bytes"], row["shrink_period"], row["agrees"]) == (2 << 20, 1, True)
    assert row["warning_at"] < row["next_stage_at"]
    said_no = lnstore("rent", "leave", "n0", home=home, stdin=b"n\n")
    assert said_no.returncode == ExitCode.INTERRUPTED
    assert b"come back to the deposit" in said_no.stderr
    left = last_json(lnstore("rent", "leave", "n0", "--json", home=home, stdin=b"y\n"))
    assert (left["ok"], left["refund_msat"], left["deposit_msat"]) == (True, 0, 0)
    assert last_json(lnstore("rent", "buy", "n0", "1MiB", "--json", home=home))["opened"]
