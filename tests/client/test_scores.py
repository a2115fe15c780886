"""A node's score: a pure function of what it was found to do, and where its shares go by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore.client.catalog import Catalog
from lnstore.client.faults import FAULTS, Fault
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused, PaymentFailed, ProofFailed
from lnstore.client.placement import Placement
from lnstore.client.scores import HALF_LIFE_SECONDS, Happening, NodeEvent, Scores, fault_of, score_of
from lnstore_protocol.ids import NodeId

NODE = NodeId(b"n" * 32)
NOW = 1_800_000_000


def event(fault: Fault | None, at: int = NOW) -> NodeEvent:
    return NodeEvent(at, Happening.PROOF_FAILED if fault else Happening.PROOF_PASSED, fault, 1)


def test_a_node_without_faults_has_the_full_score() -> None:
    assert score_of([], NOW).value == score_of([event(None)] * 9, NOW).value == 100
    assert "nothing is held against it" in score_of([], NOW).sentence


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_takes_its_penalty_and_half_of_it_fades_in_90_days(fault: Fault) -> None:
    penalty = FAULTS[fault].penalty
    assert score_of([event(fault)], NOW).value == 100 - penalty
    assert score_of([event(fault)], NOW + HALF_LIFE_SECONDS).value == round(100 - penalty / 2)
    assert FAULTS[fault].words in score_of([event(fault)], NOW).sentence


def test_one_proven_cheat_suspends_and_one_lost_share_makes_doubtful() -> None:
    assert score_of([event(Fault.REPLAYED)], NOW).suspended
    assert score_of([event(Fault.WRONG_ANSWERS)], NOW).suspended
    lost = score_of([event(Fault.SHARE_GONE)], NOW)
    assert (lost.doubtful, lost.suspended) == (True, False)


@given(st.lists(st.tuples(st.sampled_from(Fault), st.integers(0, 10**8))), st.integers(0, 10**8))
def test_the_score_stays_within_its_bounds_and_never_falls_with_time(faults: list[tuple[Fault, int]], ago: int) -> None:
    events = [event(fault, NOW - age) for fault, age in faults]
    before, after = score_of(events, NOW), score_of(events, NOW + ago)
    assert 0 <= before.value <= after.value <= 100


def test_the_same_finding_counts_once(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        scores = Scores(catalog)
        for at in (NOW, NOW + 5):
            scores.note(NODE, Happening.AUDIT_FAILED, "audit/1", now=at, fault=Fault.SHARE_GONE, shares=2)
        assert scores.score(NODE, NOW).value == 70
        scores.note(NODE, Happening.AUDIT_FAILED, "audit/2", now=NOW, fault=Fault.SHARE_GONE, shares=1)
        assert scores.all([NODE], NOW)[NODE].value == 40
        assert [one.shares for one in scores.events(NODE)] == [2, 1]
        assert scores.score(NODE, NOW).count(Happening.AUDIT_FAILED) == 2


def test_errors_that_are_not_the_nodes_fault_are_not_held_against_it() -> None:
    assert fault_of(InvoiceRefused(InvoiceFault.EXPIRED, "")) is None
    assert fault_of(PaymentFailed("no route")) is None
    assert fault_of(InvoiceRefused(InvoiceFault.NO_AMOUNT, "")) is Fault.WRONG_INVOICE
    assert fault_of(ProofFailed(Fault.LEFT_OUT, "")) is Fault.LEFT_OUT


def test_doubtful_nodes_are_chosen_when_no_other_has_room() -> None:
    nodes = [NodeId(bytes([number]) * 32) for number in range(4)]
    plain = Placement(b"s" * 32, dict.fromkeys(nodes, 10))
    first = plain.choose(0, 10, ())
    assert first is not None
    placement = Placement(b"s" * 32, dict.fromkeys(nodes, 10), doubtful=[first])
    chosen = [placement.choose(0, 10, ()) for _ in range(5)]
    assert chosen[3] == first
    assert set(chosen[:4]) == set(nodes)
    assert chosen[4] is None
