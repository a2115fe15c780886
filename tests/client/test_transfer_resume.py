"""A put that ended early is continued: same key, nothing sent twice, nothing in the catalog that no node has."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
import trio
import trio.testing
from transfer_fixtures import Bed, bed_of, content, read_back

from lnstore.client.segments import full_share_bytes
from lnstore.client.source import SourceChanged
from lnstore.client.upload import PutFailed
from lnstore_protocol import proofs
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import TOKENS_PER_SHARE, HaveShares, HaveSharesReply, PutShare, Request

SEGMENT = full_share_bytes(1, 3)


def puts(bed: Bed) -> Counter[tuple[int, bytes]]:
    return Counter(
        (node.port, bytes(r.share_id)) for node in bed.nodes for r in node.requests if isinstance(r, PutShare)
    )


def assert_catalog_is_a_subset(bed: Bed, client: object) -> None:
    for node in bed.nodes:
        ids = client.catalog.share_ids_at(NodeId(node.identity.public_key))  # type: ignore[attr-defined]
        assert {ids[i : i + 32] for i in range(0, len(ids), 32)} <= node.shares.keys()


@pytest.mark.parametrize("forget", [False, True])
async def test_a_killed_put_is_continued_and_no_share_sent_twice(  # MB-R7
    tmp_path: Path, nursery: trio.Nursery, forget: bool
) -> None:
    """Also when the process died before it wrote down what was acknowledged (`forget`)."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=1)
    data = content(5 * SEGMENT)
    path = bed.file(data)
    scope = trio.CancelScope()

    def kill_after_two(request: Request) -> str | None:
        if isinstance(request, PutShare) and bed.nodes[0].count(PutShare) >= 2:
            scope.cancel()
            return "stall"
        return None

    bed.nodes[0].fault = kill_after_two
    async with bed.client() as client:
        with scope:
            await client.put(path)
        assert scope.cancelled_caught
        [begun] = client.ls()
        assert not begun.complete
        assert_catalog_is_a_subset(bed, client)
        assert client.catalog.shares_of(begun.file_id)
        if forget:
            with client.catalog.transaction() as db:
                db.execute("DELETE FROM shares")
    bed.nodes[0].fault = lambda _: None
    await trio.testing.wait_all_tasks_blocked()  # until the nodes have dealt with what was on its way
    for node in bed.nodes:
        node.requests[:] = [r for r in node.requests if not isinstance(r, PutShare) or bytes(r.share_id) in node.shares]
    async with bed.client() as client:
        result = await client.put(path)
        assert set(puts(bed).values()) == {1}
        assert result.missing_shares == 0
        assert sum(t.found_shares for t in result.nodes.values()) >= 2
        assert [(f.file_id, f.file_key) for f in client.ls()] == [(begun.file_id, begun.file_key)]
        assert_catalog_is_a_subset(bed, client)
        assert len(client.catalog.shares_of(begun.file_id)) == 3 * len({s for _, s in puts(bed)})
        assert await read_back(client, result.cap) == data


async def test_a_failed_put_says_what_is_stored_and_goes_on_when_nodes_are_back(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2, happy=3)
    bed.nodes[2].fault = lambda r: "die" if isinstance(r, PutShare) else None
    path = bed.file(b"hello")
    async with bed.client() as client:
        with pytest.raises(PutFailed, match=r"(segment 1|the manifest) reached 2 nodes, 3 are needed") as failed:
            await client.put(path)
    assert "n0: 2 shares stored" in str(failed.value)
    assert "n2: 0 shares stored; closed the connection" in str(failed.value)
    assert "the same command continues" in str(failed.value)
    bed.nodes[2].fault = lambda _: None
    async with bed.client() as client:
        result = await client.put(path)
        assert set(puts(bed).values()) == {1}
        assert await read_back(client, result.cap) == b"hello"


async def test_a_node_that_answers_with_too_few_bits_is_named_and_given_up(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """MB-R14: when a put is continued, such an answer is the node's fault and not an error of the client."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2, happy=3)
    bed.nodes[2].fault = lambda r: "die" if isinstance(r, PutShare) else None
    path = bed.file(b"hello")
    async with bed.client() as client:
        with pytest.raises(PutFailed):
            await client.put(path)
    true_answer = bed.nodes[0].answer
    bed.nodes[0].answer = lambda r: HaveSharesReply(held=b"") if isinstance(r, HaveShares) else true_answer(r)
    async with bed.client() as client:
        with pytest.raises(PutFailed, match=r"n0: .* broke the protocol"):
            await client.put(path)


async def test_a_fresh_put_asks_nobody_what_they_have(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    async with bed.client() as client:
        await client.put(bed.file(b"hello"))
    assert sum(node.count(HaveShares) for node in bed.nodes) == 0


async def test_a_file_that_changes_while_it_is_read_is_refused_and_gets_a_new_key(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """The old shares are given back at the next put of that name, and the key never meets a second content."""
    bed = bed_of(tmp_path, nursery, nodes=2, needed=1)
    path = bed.file(content(8 * SEGMENT))

    def grow(request: Request) -> None:
        if isinstance(request, PutShare):
            with path.open("ab") as file:
                file.write(b"more")

    bed.nodes[0].fault = grow
    async with bed.client() as client:
        with pytest.raises(SourceChanged, match="changed while it was read"):
            await client.put(path)
        [spoilt] = client.ls()
        bed.nodes[0].fault = lambda _: None
        path.write_bytes(b"quiet now")
        result = await client.put(path)
        [stored] = client.ls()
        assert stored.file_key != spoilt.file_key
        assert await read_back(client, result.cap) == b"quiet now"
    assert [len(node.shares) for node in bed.nodes] == [2, 2]


async def test_a_stream_is_not_continued_but_put_anew_and_its_rests_given_back(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=2, needed=1, happy=2)
    bed.nodes[1].fault = lambda r: "die" if isinstance(r, PutShare) else None
    async with bed.client() as client:
        with pytest.raises(PutFailed, match="cannot be read twice"):
            await client.put(BytesIO(b"stream"), name="s")
        bed.nodes[1].fault = lambda _: None
        result = await client.put(BytesIO(b"stream"), name="s")
        assert await read_back(client, result.cap) == b"stream"
    assert [len(node.shares) for node in bed.nodes] == [2, 2]


async def test_tokens_begin_at_the_accounts_next_rent_and_answer_for_their_own_node(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Each node gets tokens that unmask to its own answers, from the index that it is paid for next."""
    bed = bed_of(tmp_path, nursery, nodes=2, needed=1)
    bed.nodes[1].token_index = 7
    async with bed.client() as client:
        await client.put(bed.file(b"hello"))
        secret = client.profile.account_secret
        ends = {s.node_id: s.token_end for s in client.catalog.shares_of(1)}
    for node, start in zip(bed.nodes, (0, 7), strict=True):
        node_id = NodeId(node.identity.public_key)
        assert ends[node_id] == start + TOKENS_PER_SHARE
        for share_id, share in node.shares.items():
            first, tokens = node.tokens[share_id]
            assert first == start
            nonce = proofs.audit_nonce(proofs.audit_key(secret), node_id, start)
            answer = proofs.unmask(tokens[:16], proofs.token_key(secret), node_id, ShareId(share_id), start)
            assert answer == proofs.answer(nonce, ShareId(share_id), share)
