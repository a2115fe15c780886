"""lnstore's own node passes everything."""

from __future__ import annotations

from conformance_world import NodeWorld


async def test_the_node_conforms(world: NodeWorld) -> None:
    report = await world.check()
    for r in report.results:
        if r.outcome.name != "PASSED": print(r.name, r.outcome, r.broken, r.text)
    print(report.as_text().splitlines()[-1])
    print(report.not_applicable)
    assert report.failed == {}
