"""lnstore's own node passes everything that can be tried, and everything is said of every requirement."""

from __future__ import annotations

import json
from pathlib import Path

from conformance_world import NodeWorld, run_program

from lnstore.node.limits import Deadlines
from lnstore_protocol.conformance.coverage import NODE_UNCHECKED
from lnstore_protocol.conformance.node_run import CHECKS

SPEC = Path(__file__).parents[2] / "spec"
ALL_WAITS_SECONDS = 1000.0
WAITS = {"T-R6", "T-R22"}
"""What can only be tried by waiting for a deadline of the node's."""


async def test_the_node_conforms(world: NodeWorld) -> None:
    """With a payer, a restart and a clock to set ahead nothing is left out that a check could try, but for waits."""
    report = await world.check()
    assert report.failed == {}
    left_out = report.not_applicable
    assert left_out.keys() - NODE_UNCHECKED.keys() == WAITS
    assert {requirement: left_out[requirement] for requirement in NODE_UNCHECKED} == NODE_UNCHECKED


async def test_the_node_closes_connections_on_which_nothing_happens(world: NodeWorld) -> None:
    """Deadlines as short as a test can wait for would cut off the other checks whenever the machine is busy."""
    world.deadlines = Deadlines(handshake=1.5, idle=0.5)
    report = await world.check("|".join(sorted(WAITS)), wait_seconds=ALL_WAITS_SECONDS)
    assert report.passed.keys() == WAITS
    assert report.failed == {}


def test_something_is_said_of_every_requirement() -> None:
    """Each that spec/ states is tried by a check or has a reason why not, never both; none is made up."""
    stated = set()
    for document in SPEC.glob("0*.md"):
        stated |= {line[4:].partition("**")[0] for line in document.read_text().splitlines() if line.startswith("- **")}
    tried = {requirement for check in CHECKS for requirement in check.requirements}
    assert not tried & NODE_UNCHECKED.keys()
    assert (tried | NODE_UNCHECKED.keys()) - stated == set()
    assert stated - tried - NODE_UNCHECKED.keys() == set()


def test_checks_have_names_and_sentences() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(check.title.endswith(".") for check in CHECKS)


# --- the program ------------------------------------------------------------------------------------------------------


async def test_the_program_checks_a_node(world: NodeWorld) -> None:
    """By number, with the bytes; with nothing of lnstore installed; exit code 0 as nothing fails."""
    payer = str(world.lightning.client)
    async with world.running() as address:
        code, output, _ = await run_program(str(address), "--only", "M-R5|MB-R3", "--lightning-rpc", payer)
        assert code == 0
        lines = output.splitlines()
        assert any(line.startswith("M-R5    passed") for line in lines)
        assert any(line.startswith("MB-R3   passed") for line in lines)
        assert any("frame" in line and "93" in line for line in lines)  # a head, as it came
        code, output, _ = await run_program(str(address), "--only", "M-R5|R-W15", "--json")
        assert code == 0
        report = json.loads(output)
    assert report["ok"] is True
    said = {line["requirement"]: line for line in report["requirements"]}
    assert said["M-R5"]["outcome"] == "passed"
    assert said["R-W15"]["outcome"] == "not applicable"
    assert "payer" in said["R-W15"]["text"]
    assert any(entry["hex"] for check in report["checks"] for entry in check["bytes"])


async def test_the_program_says_what_is_wrong() -> None:
    """Exit code 2 and a sentence when there is no node, or no sense in what was asked."""
    nobody = f"lnstore://{'02' * 32}@127.0.0.1:1"
    for arguments in ((nobody,), ("lnstore://nobody",), (nobody, "--pay-command", "pay")):
        code, _, errors = await run_program(*arguments)
        assert code == 2
        assert errors
        assert "Traceback" not in errors
