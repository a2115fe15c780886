"""What renting would cost, computed from the nodes' terms before anything is asked or paid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lnstore.client.catalog import NodeEntry
from lnstore.client.segments import full_share_bytes, manifest_bytes, segment_size
from lnstore.lightning.supply import channel_size_sat
from lnstore_protocol import content
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.terms import GIB, MONTH_SECONDS, Terms, rent_msat

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRow:
    """One node's price for the capacity asked for. `fits`: within what its terms rent out to one account."""

    node_id: NodeId
    petname: str
    price_msat_per_gib_month: Msat
    egress_msat_per_gib: Msat
    period_seconds: int
    rent_msat_per_period: Msat
    periods: int
    rent_msat: Msat
    channel_sat: int
    fits: bool
    price_periods: int
    fiat_currency: str
    fiat_per_tib_month: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What `capacity_bytes` at each of the nodes costs for `months` of 30 days; reading it all once is on top."""

    capacity_bytes: int
    months: int
    rows: tuple[QuoteRow, ...]
    total_msat: Msat
    read_once_msat: Msat


def capacity_for(file_bytes: int, needed: int, total: int) -> int:
    """The capacity, in whole MiB, that one share of every segment of such a file takes at a node, manifest included."""
    full_share = full_share_bytes(needed, total)
    segments, rest = divmod(content.ciphertext_bytes(file_bytes), full_share * needed)
    shares = segments * full_share + segment_size(rest, needed).share_bytes
    return -(-(shares + manifest_bytes(segments + 1, total)) // MIB) * MIB


def quote(capacity_bytes: int, months: int, nodes: Iterable[tuple[NodeEntry, Terms]], *, channel_periods: int) -> Quote:
    """The cost of renting `capacity_bytes` at each of these nodes for `months`; ValueError for negative numbers."""
    rows = tuple(_row(capacity_bytes, months, node, terms, channel_periods) for node, terms in nodes)
    return Quote(
        capacity_bytes=capacity_bytes,
        months=months,
        rows=rows,
        total_msat=Msat(sum(row.rent_msat for row in rows)),
        read_once_msat=Msat(sum(-(-capacity_bytes * row.egress_msat_per_gib // GIB) for row in rows)),
    )


def _row(capacity_bytes: int, months: int, node: NodeEntry, terms: Terms, channel_periods: int) -> QuoteRow:
    per_period = rent_msat(capacity_bytes, terms.period_seconds, terms.price_msat_per_gib_month)
    periods = -(-months * MONTH_SECONDS // terms.period_seconds)
    return QuoteRow(
        node_id=node.node_id,
        petname=node.petname,
        price_msat_per_gib_month=terms.price_msat_per_gib_month,
        egress_msat_per_gib=terms.egress_msat_per_gib,
        period_seconds=terms.period_seconds,
        rent_msat_per_period=per_period,
        periods=periods,
        rent_msat=Msat(periods * per_period),
        channel_sat=channel_size_sat(per_period, channel_periods, terms.minimum_channel_sat),
        fits=terms.minimum_capacity_bytes <= capacity_bytes <= terms.maximum_capacity_bytes,
        price_periods=terms.price_periods,
        fiat_currency=terms.fiat_currency,
        fiat_per_tib_month=terms.fiat_per_tib_month,
    )
