"""The run against a node: every check, and what no check can try."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lnstore_protocol.conformance import (
    accounts,
    growths,
    leases,
    messages,
    periods,
    reading,
    receipts,
    records,
    rent,
    states,
    structures,
    transport,
    versions,
    writing,
)
from lnstore_protocol.conformance.coverage import NODE_UNCHECKED
from lnstore_protocol.conformance.link import PeerClosed, PeerSilent
from lnstore_protocol.conformance.report import Outcome, Report, Result
from lnstore_protocol.conformance.trial import Bench, Check, NodeTools, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.ids import NodeAddress

CHECKS: tuple[Check, ...] = tuple(
    check
    for module in (
        transport,
        messages,
        versions,
        structures,
        records,
        accounts,
        growths,
        leases,
        reading,
        writing,
        receipts,
        rent,
        periods,
        states,
    )
    for check in module.CHECKS.rows
)
"""Every check of a node, in the order they run: what needs nothing first, what moves the clock last."""


def check_node(
    address: NodeAddress,
    tools: NodeTools | None = None,
    *,
    only: str = "",
    tell: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Run the checks whose name, or one of whose requirements, the regular expression `only` matches in full.

    Blocking. Unreachable when nothing listens at the address (any more).
    """
    bench = Bench(address, tools or NodeTools())
    results = []
    for check in selected(only):
        result = run_check(bench, check)
        tell(result)
        results.append(result)
    return Report(str(address), results, {} if only else NODE_UNCHECKED)


def selected(only: str) -> Iterator[Check]:
    """The checks that `only` names; all for an empty one."""
    for check in CHECKS:
        if not only or any(re.fullmatch(only, name) for name in (check.name, *check.requirements)):
            yield check


def run_check(bench: Bench, check: Check) -> Result:
    """One check on connections of its own."""
    trial = Trial(bench, check.requirements[0])
    outcome, broken, text = Outcome.PASSED, None, ""
    try:
        check.run(trial)
    except Failed as exc:
        outcome, broken, text = Outcome.FAILED, exc.requirement, exc.text
    except Skipped as exc:
        outcome, text = Outcome.NOT_APPLICABLE, str(exc)
    except PeerClosed:
        outcome, broken, text = Outcome.FAILED, check.requirements[0], "the node closed the connection"
    except PeerSilent:
        outcome, broken, text = Outcome.FAILED, check.requirements[0], "the node did not answer in time"
    finally:
        entries = tuple(trial.trace.entries)
        trial.close()
    return Result(
        name=check.name,
        title=check.title,
        requirements=check.requirements,
        outcome=outcome,
        broken=broken,
        reached=trial.reached.after,
        text=text,
        entries=entries,
    )
