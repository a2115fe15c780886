"""Certificates and chains: what is signed, what a chain allows, and that no link widens. The vectors hold the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore_protocol.delegation import (
    MAX_NODES,
    MAX_TEXT_CHARACTERS,
    UNLIMITED,
    Certificate,
    Delegation,
    Rights,
    Serial,
    encode_chain,
    join_nodes,
    parse_delegation,
    verify_chain,
    widening,
)
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, NodeId

HOLDER, ALICE, BOB = (Identity(bytes([number]) * 32) for number in (1, 2, 3))
HERE, THERE = NodeId(b"\x01" * 32), NodeId(b"\x02" * 32)
NOW = 1_000


def certificate(issuer: Identity, subject: Identity, **changes: Any) -> Certificate:
    values: dict[str, Any] = {
        "account_id": AccountId(HOLDER.public_key),
        "issuer": AccountId(issuer.public_key),
        "subject": AccountId(subject.public_key),
        "serial": Serial(bytes(16)),
        "nodes": b"",
        "maximum_bytes": 100,
        "maximum_read_bytes": 100,
        "expires_at": NOW + 100,
        "rights": Rights.READ_WRITE,
        "levels": 0,
    }
    return Certificate(**values | changes)


@st.composite
def limits(draw: st.DrawFn) -> dict[str, Any]:
    """What a certificate may say, senseless combinations left out."""
    rights = draw(st.sampled_from(Rights))
    sizes = st.sampled_from([0, 1, 99, 100, 101, UNLIMITED])
    return {
        "rights": rights,
        "maximum_bytes": draw(sizes) if rights & Rights.WRITE else 0,
        "maximum_read_bytes": draw(sizes) if rights & Rights.READ else 0,
        "expires_at": draw(st.sampled_from([NOW, NOW + 1, NOW + 100, UNLIMITED])),
        "nodes": join_nodes(draw(st.lists(st.sampled_from([HERE, THERE])))),
    }


@given(limits(), limits(), st.integers(0, 1), st.integers(0, 1))
def test_what_a_chain_allows_is_never_more_than_any_link_says(
    upper: dict[str, Any], lower: dict[str, Any], upper_levels: int, lower_levels: int
) -> None:
    """D-R3, D-R4, D-R5: accepted exactly when each limit is within the one above, here and now."""
    first = certificate(HOLDER, ALICE, **upper, levels=upper_levels).sign(HOLDER)
    second = certificate(ALICE, BOB, **lower, levels=lower_levels).sign(ALICE)
    within = (
        lower["rights"] & upper["rights"] == lower["rights"]
        and lower["maximum_bytes"] <= upper["maximum_bytes"]
        and lower["maximum_read_bytes"] <= upper["maximum_read_bytes"]
        and lower["expires_at"] <= upper["expires_at"]
        and (not upper["nodes"] or (lower["nodes"] != b"" and lower["nodes"] in (upper["nodes"], HERE, THERE)))
        and (lower["nodes"] in (b"", upper["nodes"]) or not upper["nodes"] or len(upper["nodes"]) == 64)
        and (upper_levels, lower_levels) == (1, 0)
    )
    assert (widening(first.certificate, second.certificate) == "") is within
    chain = encode_chain((first, second))
    presenter = AccountId(BOB.public_key)
    here = all(not limit["nodes"] or HERE in (limit["nodes"][:32], limit["nodes"][32:]) for limit in (upper, lower))
    if not within or not here or lower["expires_at"] <= NOW:
        with pytest.raises(RemoteProtocolError) as refused:
            verify_chain(chain, presenter=presenter, node_id=HERE, now=NOW)
        ended = within and here
        assert refused.value.code is (ErrorCode.DELEGATION_ENDED if ended else ErrorCode.DELEGATION_REFUSED)
        return
    authority = verify_chain(chain, presenter=presenter, node_id=HERE, now=NOW)
    assert authority.certificate == second.certificate
    assert authority.account_id == HOLDER.public_key
    assert all(authority.allows(right) is (right & lower["rights"] == right) for right in Rights)


def test_the_same_content_has_one_id_whoever_signs_it_when() -> None:
    """The id is over what is signed, and another serial makes another certificate."""
    one = certificate(HOLDER, ALICE)
    assert one.sign(HOLDER).certificate_id == one.sign(HOLDER).certificate_id
    other = replace(one, serial=Serial(b"\x01" * 16))
    assert other.sign(HOLDER).certificate_id != one.sign(HOLDER).certificate_id


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": 2},
        {"nodes": bytes(31)},
        {"nodes": b"".join(bytes([number]) * 32 for number in range(MAX_NODES + 1))},
        {"subject": AccountId(HOLDER.public_key)},
        {"rights": Rights.READ},
        {"rights": Rights.WRITE},
    ],
)
def test_nothing_senseless_is_signed(changes: dict[str, Any]) -> None:
    """D-W1."""
    with pytest.raises(ValueError, match=r"."):
        replace(certificate(HOLDER, ALICE), **changes).sign(HOLDER)


def test_nobody_signs_for_another() -> None:
    with pytest.raises(ValueError, match="signed by its issuer"):
        certificate(HOLDER, ALICE).sign(ALICE)


def test_a_text_without_end_is_not_looked_at() -> None:
    """D-R19."""
    with pytest.raises(ValueError, match="at most"):
        parse_delegation("lnsd1" + "q" * MAX_TEXT_CHARACTERS)
    text = Delegation((certificate(HOLDER, ALICE).sign(HOLDER),), ()).to_text()
    assert parse_delegation(f"  {text}\n").to_text() == text
