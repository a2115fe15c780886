"""What renting would cost, computed from the nodes' terms before anything is asked or paid. Pure; comparing.py asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lnstore.client.budgets import BudgetUse, BudgetVerdict, verdicts
from lnstore.client.catalog import NodeEntry
from lnstore.client.segments import full_share_bytes, manifest_bytes, segment_size
from lnstore.lightning.supply import channel_size_sat
from lnstore.sizes import human_bytes
from lnstore_protocol import content
from lnstore_protocol.ids import LightningId, Msat, NodeId
from lnstore_protocol.terms import MONTH_SECONDS, Terms, rent_msat, traffic_msat

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A node as it answered just now, and what it asks. `out` says why nothing would be stored there; empty: it would.

    `channel` is the phase of the best channel to it, empty without any; `free_bytes` is rented there and unused.
    """

    node: NodeEntry
    terms: Terms
    score: int = 100
    doubtful: bool = False
    channel: str = ""
    free_bytes: int | None = None
    latency_seconds: float | None = None
    out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRow:
    """One node's price for the capacity asked for. `chosen`: among the nodes that the sums are about."""

    node_id: NodeId
    petname: str
    lightning_id: LightningId
    host: str
    price_msat_per_gib_month: Msat
    egress_msat_per_gib: Msat
    ingress_msat_per_gib: Msat
    period_seconds: int
    rent_msat_per_period: Msat
    rent_msat_per_month: Msat
    periods: int
    rent_msat: Msat
    read_once_msat: Msat
    write_once_msat: Msat
    channel_sat: int
    channel: str
    free_bytes: int | None
    latency_seconds: float | None
    score: int
    price_periods: int
    terms_valid_until_at: int
    fiat_currency: str
    fiat_per_tib_month: str
    out: str
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What `capacity_bytes` at each of the chosen nodes costs for `months` of 30 days.

    The rows are in the order in which nodes would be chosen. With `needed` of `total` the capacity is what one share
    of every segment of `data_bytes` takes, and reading it once goes to the `needed` cheapest. `wanted`: how many
    nodes there should be, more than are chosen where too few will do.
    """

    capacity_bytes: int
    months: int
    data_bytes: int | None
    needed: int | None
    total: int | None
    wanted: int
    rows: tuple[QuoteRow, ...]
    total_msat: Msat
    month_msat: Msat
    read_once_msat: Msat
    write_once_msat: Msat
    same: tuple[str, ...]
    """What keeps the chosen from being independent of each other, a sentence each."""

    @property
    def chosen(self) -> tuple[QuoteRow, ...]:
        """The rows that the sums are about."""
        return tuple(row for row in self.rows if row.chosen)


def capacity_for(file_bytes: int, needed: int, total: int) -> int:
    """The capacity, in whole MiB, that one share of every segment of such a file takes at a node, manifest included."""
    full_share = full_share_bytes(needed, total)
    segments, rest = divmod(content.ciphertext_bytes(file_bytes), full_share * needed)
    shares = segments * full_share + segment_size(rest, needed).share_bytes
    return -(-(shares + manifest_bytes(segments + 1, total)) // MIB) * MIB


def quote(
    size_bytes: int, months: int, offers: Iterable[Offered], *, channel_periods: int, coding: tuple[int, int] | None
) -> Quote:
    """The cost of `size_bytes` at each node, or of data of that size coded `coding` (needed, total); see Quote."""
    capacity_bytes = size_bytes if coding is None else capacity_for(size_bytes, *coding)
    # As placement does it: by trust first; where that is equal the price is what a person chooses by.
    ordered = sorted((replace(o, out=o.out or _unfit(capacity_bytes, o.terms)) for o in offers), key=_preference)
    usable = sum(not offer.out for offer in ordered)
    wanted = usable if coding is None else coding[1]
    rows = tuple(
        _row(capacity_bytes, months, offer, channel_periods, chosen=not offer.out and at < wanted)
        for at, offer in enumerate(ordered)
    )
    chosen = [row for row in rows if row.chosen]
    readers = sorted(row.read_once_msat for row in chosen)[: None if coding is None else coding[0]]
    return Quote(
        capacity_bytes=capacity_bytes,
        months=months,
        data_bytes=None if coding is None else size_bytes,
        needed=None if coding is None else coding[0],
        total=None if coding is None else coding[1],
        wanted=wanted,
        rows=rows,
        total_msat=Msat(sum(row.rent_msat for row in chosen)),
        month_msat=Msat(sum(row.rent_msat_per_month for row in chosen)),
        read_once_msat=Msat(sum(readers)),
        write_once_msat=Msat(sum(row.write_once_msat for row in chosen)),
        same=_same(chosen),
    )


def budget_verdicts(quoted: Quote, uses: Iterable[BudgetUse]) -> list[BudgetVerdict]:
    """What the budgets say to the quote: monthly ones to a month of rent and the writing, the total to all months."""
    by_node = {row.node_id: (row.petname, row.rent_msat_per_month + row.write_once_msat) for row in quoted.chosen}
    return verdicts(uses, by_node, quoted.total_msat + quoted.write_once_msat)


def _row(capacity_bytes: int, months: int, offer: Offered, channel_periods: int, *, chosen: bool) -> QuoteRow:
    node, terms = offer.node, offer.terms
    per_period = rent_msat(capacity_bytes, terms.period_seconds, terms.price_msat_per_gib_month)
    periods = -(-months * MONTH_SECONDS // terms.period_seconds)
    return QuoteRow(
        node_id=node.node_id,
        petname=node.petname,
        lightning_id=terms.lightning_id,
        host=node.address.host,
        price_msat_per_gib_month=terms.price_msat_per_gib_month,
        egress_msat_per_gib=terms.egress_msat_per_gib,
        ingress_msat_per_gib=terms.ingress_msat_per_gib,
        period_seconds=terms.period_seconds,
        rent_msat_per_period=per_period,
        rent_msat_per_month=rent_msat(capacity_bytes, MONTH_SECONDS, terms.price_msat_per_gib_month),
        periods=periods,
        rent_msat=Msat(periods * per_period),
        read_once_msat=traffic_msat(capacity_bytes, terms.egress_msat_per_gib),
        write_once_msat=traffic_msat(capacity_bytes, terms.ingress_msat_per_gib),
        channel_sat=channel_size_sat(per_period, channel_periods, terms.minimum_channel_sat),
        channel=offer.channel,
        free_bytes=offer.free_bytes,
        latency_seconds=offer.latency_seconds,
        score=offer.score,
        price_periods=terms.price_periods,
        terms_valid_until_at=terms.valid_until_at,
        fiat_currency=terms.fiat_currency,
        fiat_per_tib_month=terms.fiat_per_tib_month,
        out=offer.out,
        chosen=chosen,
    )


def _preference(offer: Offered) -> tuple[bool, bool, int, float, str]:
    price = offer.terms.price_msat_per_gib_month
    return bool(offer.out), offer.doubtful, price, offer.latency_seconds or 0.0, offer.node.petname


def _unfit(capacity_bytes: int, terms: Terms) -> str:
    if terms.minimum_capacity_bytes <= capacity_bytes <= terms.maximum_capacity_bytes:
        return ""
    least, most = human_bytes(terms.minimum_capacity_bytes), human_bytes(terms.maximum_capacity_bytes)
    return f"no room: it rents out {least} to {most} to an account"


def _same(chosen: Sequence[QuoteRow]) -> tuple[str, ...]:
    """Node ids are all different, since a catalog has each once; this is about what else nodes may share."""
    found = []
    for what, key in (("are paid under one Lightning key", "lightning_id"), ("answer at one host", "host")):
        by_key: dict[object, list[str]] = {}
        for row in chosen:
            by_key.setdefault(getattr(row, key), []).append(row.petname)
        found += [f"{', '.join(names)} {what} and may fail together" for names in by_key.values() if len(names) > 1]
    return tuple(found)
