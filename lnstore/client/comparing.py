"""Known nodes side by side: what each asks, whether it may be stored on, how it is reached and paid."""

from __future__ import annotations

from lnstore.client.accounts import check_prices
from lnstore.client.agreements import CLOCK_TOLERANCE_SECONDS, agreement_at, agreements_of
from lnstore.client.channel_watch import list_channels, supplies
from lnstore.client.money_errors import TermsRefused
from lnstore.client.nodes import NodeListing, list_nodes
from lnstore.client.purse import Purse
from lnstore.client.quote import Offered
from lnstore.client.scores import Score, Scores
from lnstore.ports import LightningError
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import AccountState
from lnstore_protocol.terms import Terms


async def offers(purse: Purse) -> list[Offered]:
    """What every known node asks, all asked at once. Where there is an account the prices are those agreed on.

    A node that was never heard of is not among them.
    """
    listings = await list_nodes(purse)
    scores = Scores(purse.catalog).all([one.node.node_id for one in listings], purse.clock.now())
    phases = await _phases(purse)
    found = []
    for one in listings:
        if (terms := _terms(purse, one)) is None:
            continue
        score, status = scores[one.node.node_id], one.status
        found.append(
            Offered(
                node=one.node,
                terms=terms,
                score=score.value,
                doubtful=score.doubtful,
                channel=phases.get(one.node.node_id, ""),
                free_bytes=None if status is None else max(0, status.capacity_bytes - status.used_bytes),
                latency_seconds=one.latency_seconds,
                out=_why_out(purse, one, terms, score),
            )
        )
    return found


async def _phases(purse: Purse) -> dict[NodeId, str]:
    """The phase of the best channel to each node; none when the daemon is away: then nothing is known of channels."""
    try:
        listed = await list_channels(purse)
    except LightningError:
        return {}
    return {one.node.node_id: one.phase.value for one in supplies(purse, listed) if one.phase is not None}


def _terms(purse: Purse, one: NodeListing) -> Terms | None:
    agreed = agreement_at(one.node)
    if agreed is None or one.status is None or one.status.state is AccountState.LAPSED:
        return one.terms
    return agreements_of(purse, one.node, agreed)[-1].terms.terms


def _why_out(purse: Purse, one: NodeListing, terms: Terms, score: Score) -> str:
    """Why nothing would be stored there, empty when it would."""
    now = purse.clock.now()
    if not one.reachable:
        return f"unreachable: {one.problem}"
    if one.terms is not None and one.terms.lightning_id != one.node.lightning_id:
        return "its terms name another Lightning key than it has proven"
    if score.suspended:
        return "suspended"
    if one.node.retiring:
        return "retiring"
    if one.status is not None and one.status.blocked:
        return "its operator has blocked your account"
    if terms is one.terms and not terms.valid_from_at - CLOCK_TOLERANCE_SECONDS <= now <= terms.valid_until_at:
        return "its terms are not valid now"
    try:
        check_prices(terms, purse.config, one.node.petname)
    except TermsRefused as refused:
        return f"over your limit: {str(refused).partition(';')[0]}"
    return ""
