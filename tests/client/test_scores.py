"""A node's score: a pure function of what it was found to do, and where its shares go by it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from money_world import SetClock
from transfer_fixtures import bed_of

from lnstore.client.catalog import Catalog
from lnstore.client.contacts import HOUR_SECONDS, LEAST_HOURS, WINDOW_SECONDS, Contacts, Uptime, uptime
from lnstore.client.faults import FAULTS, Fault
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused, PaymentFailed, ProofFailed
from lnstore.client.node_errors import NodeError, NodeTimeout
from lnstore.client.placement import Placement
from lnstore.client.price_history import note_prices, prices_seen, rises
from lnstore.client.scores import (
    EXCLUSION_SECONDS,
    HALF_LIFE_SECONDS,
    Happening,
    NodeEvent,
    Scores,
    fault_of,
    score_of,
)
from lnstore_protocol.ids import LightningId, Msat, NodeId
from lnstore_protocol.messages import AccountStatus
from lnstore_protocol.terms import ChannelPolicy, Terms

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


def test_a_point_for_each_percent_of_the_hours_without_an_answer_from_eight_hours_on() -> None:
    assert score_of([], NOW, Uptime(LEAST_HOURS - 1, 0.0)).value == 100
    away = score_of([], NOW, Uptime(40, 30.0))
    assert (away.value, away.stand) == (75, "doubtful")
    assert "answered in 75 % of 40 hours" in away.sentence
    assert score_of([], NOW, Uptime(LEAST_HOURS, 0.0)).suspended
    assert score_of([], NOW, Uptime(LEAST_HOURS, 8.0)).value == 100


def test_hours_are_counted_once_and_not_where_nobody_was_reached(tmp_path: Path) -> None:
    """Our own network being down is held against nobody; what is older than the window counts no more."""
    other = NodeId(b"o" * 32)
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        clock = SetClock()
        clock.at = NOW
        contacts = Contacts(catalog, clock)
        for _ in range(3):
            contacts.note(NODE, answered=False)
        contacts.note(other, answered=True)
        clock.at += HOUR_SECONDS
        contacts.note(NODE, answered=False)  # the hour before is written down now
        assert uptime(catalog, NODE, clock.at) == Uptime(1, 0.0)
        assert uptime(catalog, other, clock.at) == Uptime(1, 1.0)
        contacts.flush()  # nobody answered in this one
        assert uptime(catalog, NODE, clock.at) == Uptime(1, 0.0)
        for answered in (True, False):
            contacts.note(NODE, answered=answered)
            contacts.note(other, answered=True)
            contacts.flush()
        assert uptime(catalog, NODE, clock.at) == Uptime(2, 0.5)
        assert uptime(catalog, NODE, NOW + WINDOW_SECONDS + HOUR_SECONDS).hours == 0
        assert Scores(catalog).score(NODE, clock.at).uptime.percent == 25


def terms(rent: int) -> Terms:
    return Terms(
        node_id=NODE,
        lightning_id=LightningId(b"\x02" * 33),
        network="regtest",
        price_msat_per_gib_month=Msat(rent),
        egress_msat_per_gib=Msat(1000),
        ingress_msat_per_gib=Msat(0),
        period_seconds=86_400,
        grace_seconds=60,
        minimum_capacity_bytes=1,
        maximum_capacity_bytes=1 << 40,
        channel_policy=ChannelPolicy.ANY,
        minimum_channel_sat=1,
        valid_from_at=NOW,
        valid_until_at=NOW + 60,
        price_periods=12,
    )


def test_prices_are_remembered_by_change_and_rises_take_points_that_fade(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        for at, rent in enumerate((1000, 1000, 1500, 1500, 900)):
            note_prices(catalog, NODE, terms(rent), NOW + at)
        seen = prices_seen(catalog, NODE)
        assert [(one.seen_at - NOW, one.rent_msat_per_gib_month) for one in seen] == [(0, 1000), (2, 1500), (4, 900)]
        assert [(rise.percent, rise.points) for rise in rises(seen)] == [(50, 10)]
        score = Scores(catalog).score(NODE, NOW + 2)
        assert (score.value, score.sentence) == (90, "score 90, in use: it raised its rent by 50 %")
        assert Scores(catalog).score(NODE, NOW + 2 + HALF_LIFE_SECONDS).value == 95
        note_prices(catalog, NODE, terms(0), NOW + 5)
        note_prices(catalog, NODE, terms(1), NOW + 6)
        assert rises(prices_seen(catalog, NODE))[-1].points == 20


def test_who_deceives_again_a_week_after_suspension_is_excluded_until_readmitted(tmp_path: Path) -> None:
    """Suspension comes first; the same cause found again at once, or an honest loss, excludes nobody."""
    first = event(Fault.WRONG_ANSWERS)
    at_once = event(Fault.TOKENS_ALTERED, NOW + 100)
    week = NOW + EXCLUSION_SECONDS
    assert score_of([first, at_once], week).stand == "suspended"
    assert score_of([first, event(Fault.SHARE_GONE, week)], week).stand == "suspended"
    caught = score_of([first, event(Fault.REPLAYED, week)], week)
    assert (caught.stand, caught.excluded_at, caught.suspended, caught.doubtful) == ("excluded", week, True, True)
    years = 4 * 365 * 86_400
    assert score_of([first, event(Fault.REPLAYED, week)], week + years).stand == "excluded"
    lifted = score_of([first, event(Fault.REPLAYED, NOW + years)], NOW + years)  # suspended anew, for the first time
    assert lifted.stand == "suspended"
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        scores = Scores(catalog)
        for reference, one in (("1", first), ("2", event(Fault.REPLAYED, week))):
            scores.note(NODE, one.happening, reference, now=one.at, fault=one.fault, shares=1)
        assert scores.score(NODE, week).excluded
        scores.readmit(NODE, week + 1)
        again = scores.score(NODE, week + 1)
        assert (again.value, again.stand, again.last(Happening.READMITTED)) == (100, "trusted", week + 1)


async def test_a_client_remembers_who_answered_it(tmp_path: Path, nursery: trio.Nursery) -> None:
    """One node is down and one stalls; what was found out is written down when the client is closed."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=1)
    bed.nodes[1].down = True
    async with bed.client() as client:
        for node in bed.nodes[:2]:
            with suppress(NodeError):
                await client.pool.dial(node.address)
        await client.pool.dial(bed.nodes[2].address)
        bed.nodes[2].fault = lambda _: "stall"
        with pytest.raises(NodeTimeout):
            await client.pool.request(bed.nodes[2].address, AccountStatus(), timeout_seconds=0.01)
    with bed.profile.open_catalog() as catalog:
        now = bed.clock.now()
        assert [uptime(catalog, node.address.node_id, now) for node in bed.nodes] == [
            Uptime(1, 1.0),
            Uptime(1, 0.0),
            Uptime(1, 0.0),
        ]
