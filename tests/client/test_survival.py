"""Which nodes files hang on: held against trying out every set of nodes."""

from __future__ import annotations

from itertools import combinations

from hypothesis import example, given
from hypothesis import strategies as st

from lnstore.client.survival import SETS_NAMED, Layout, Layouts, impacts, weakest
from lnstore_protocol.ids import NodeId

NODES = [NodeId(bytes([number]) * 32) for number in range(1, 6)]
TWENTY = [NodeId(bytes([number]) * 32) for number in range(1, 21)]


def layout(needed: int, *holders: set[int], total: int | None = None) -> Layout:
    given = {number: {NODES[at] for at in nodes} for number, nodes in enumerate(holders)}
    return Layout.of(needed, total or len(holders), given)


layouts = st.builds(
    lambda needed, holders: layout(min(needed, len(holders)), *holders),
    st.integers(1, 4),
    st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=1, max_size=5),
)


def loses(file: Layouts, gone: tuple[NodeId, ...]) -> bool:
    return any(one.is_lost(gone) for one in file)


@given(st.frozensets(layouts, min_size=1, max_size=3))
@example(frozenset({layout(2, {0, 1}, {0}, {2})}))
@example(frozenset({layout(1, {0, 1, 2, 3, 4})}))
def test_the_sets_named_are_the_smallest_that_lose_the_file(file: Layouts) -> None:
    found = weakest(file)
    smallest = next(
        [nodes for nodes in combinations(NODES, size) if loses(file, nodes)]
        for size in range(len(NODES) + 1)
        if any(loses(file, nodes) for nodes in combinations(NODES, size))
    )
    assert found.exact
    assert found.size == len(smallest[0])
    assert set(found.sets) <= set(smallest)
    assert len(found.sets) == len(set(found.sets)) == min(len(smallest), SETS_NAMED)


@given(st.frozensets(layouts, min_size=1, max_size=3))
def test_when_tries_run_out_a_set_that_loses_the_file_is_named_all_the_same(file: Layouts) -> None:
    found = weakest(file, tries=1)
    assert all(loses(file, nodes) and len(nodes) == found.size for nodes in found.sets)
    if found.exact:
        assert found.size == weakest(file).size


def test_a_wide_code_takes_no_search() -> None:
    """10 of 20 at 20 nodes, and a manifest at each: eleven nodes must go; every eleven will do."""
    wide = Layout.of(10, 20, {number: {node} for number, node in enumerate(TWENTY)})
    manifest = Layout.of(1, 1, {0: TWENTY})
    found = weakest(frozenset({wide, manifest}), tries=SETS_NAMED)
    assert (found.size, found.exact, len(found.sets)) == (11, True, SETS_NAMED)


def test_what_a_node_takes_with_it_is_summed_over_all_files() -> None:
    whole = frozenset({layout(2, {0}, {1}, {2})})
    thin = frozenset({layout(2, {0}, {1}, total=3)})
    gone = frozenset({layout(2, {0})})
    files = {"whole": whole, "alike": whole, "thin": thin, "gone": gone}
    first, third, fourth, pair = impacts(files, [[NODES[0]], [NODES[2]], [NODES[3]], NODES[1:3]])
    assert (first.lost, first.below) == (("thin",), ("whole", "alike"))
    assert (third.lost, set(third.below)) == ((), {"whole", "alike", "thin"})
    assert (fourth.lost, fourth.below) == ((), ("thin",))  # it is below already
    assert (set(pair.lost), pair.nodes) == ({"whole", "alike", "thin"}, tuple(NODES[1:3]))
    assert weakest(gone).size == weakest(frozenset()).size == 0
