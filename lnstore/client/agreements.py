"""Our agreements with a node: which prices hold for which period, and what the node announces to change.

The first agreement of an account is the node's in the catalog; those that took its place later are kept beside it. Each
is signed by us and the node, and a period is paid at the price of one of them or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import NodeUntrusted, PriceUnsigned
from lnstore.client.purse import Purse
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import AccountId, NodeId
from lnstore_protocol.messages import AccountStatusReply
from lnstore_protocol.prices import PriceNotAgreed, Prices, PriceStep, change_fault
from lnstore_protocol.terms import Agreement, SignedTerms, period_start

CLOCK_TOLERANCE_SECONDS = 600
"""How far our clock and a node's may be apart."""

AGREEMENTS_KEPT = 256


@lru_cache(maxsize=AGREEMENTS_KEPT)
def decode_agreement(encoded: bytes) -> Agreement:
    """Agreement.decode, whose signatures are checked once for each encoding; RemoteProtocolError."""
    return Agreement.decode(encoded)


def agreement_at(node: NodeEntry) -> Agreement | None:
    """Our agreement with the node, as the catalog has it."""
    return None if node.agreement is None else decode_agreement(node.agreement)


def check_agreement(  # MA-R7
    encoded: bytes, *, node_id: NodeId, account_id: AccountId, petname: str
) -> Agreement:
    """An agreement between us and this node, signed by both; NodeUntrusted says what is wrong with it.

    Nobody else can sign for our account, so what holds here is something that we once proposed.
    """
    try:
        agreement = decode_agreement(encoded)
    except RemoteProtocolError as exc:
        raise NodeUntrusted(f"the agreement that {petname} sent cannot be used: {exc}; use another node") from exc
    if agreement.account_id != account_id or agreement.terms.terms.node_id != node_id or not agreement.countersigned:
        raise NodeUntrusted(f"the agreement that {petname} sent is not one between us and it; use another node")
    return agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of prices that a node announced and we have not signed.

    `from_at` is when `from_period` begins. `fault` says why it cannot be signed, empty when it can.
    """

    node: NodeEntry
    before: Agreement
    after: SignedTerms
    from_period: int
    from_at: int
    announced_at: int
    fault: str

    @property
    def sign_by_at(self) -> int:
        """Until when it can be signed; from `from_at` on nothing can be written meanwhile."""
        return self.after.terms.valid_until_at


def agreements_of(purse: Purse, node: NodeEntry, first: Agreement) -> list[Agreement]:
    """All our agreements for this account, by first period. `first` is the one in the catalog's node."""
    kept = purse.catalog.kept_agreements(node.node_id, first.anchor_at)
    later = [
        check_agreement(encoded, node_id=node.node_id, account_id=purse.account_id, petname=node.petname)
        for encoded in kept
    ]
    by_period = {agreement.from_period: agreement for agreement in [*later, first]}
    return [by_period[period] for period in sorted(by_period)]


def held_from(agreements: Sequence[Agreement], period: int) -> list[Agreement]:
    """The agreement that holds for a period, and those after it."""
    begun = [agreement for agreement in agreements if agreement.from_period <= period]
    return [*begun[-1:], *(agreement for agreement in agreements if agreement.from_period > period)]


def prices_of(purse: Purse, node: NodeEntry, first: Agreement, status: AccountStatusReply | None = None) -> Prices:
    """What we signed for each period; with `status`, none for those from an announced change on."""
    unsigned = status.announced_period if status is not None and status.announced_terms is not None else None
    return Prices.of(agreements_of(purse, node, first), unsigned_period=unsigned)


def price_for(prices: Prices, period: int, petname: str) -> PriceStep:  # R-R29
    """The prices of a period; PriceUnsigned says what to do when it has none."""
    try:
        return prices.for_period(period)
    except PriceNotAgreed as exc:
        raise unsigned(exc, petname) from exc


def unsigned(exc: PriceNotAgreed, petname: str) -> PriceUnsigned:
    """The same for the person who has to sign."""
    return PriceUnsigned(
        f"{petname} has announced other prices from period {exc.period} on, and you have not signed them; nothing was "
        f"paid. Look at them and sign with: lnstore rent agree {petname}"
    )


async def learn(purse: Purse, node: NodeEntry, first: Agreement, status: AccountStatusReply) -> None:  # MA-R26
    """Keep the agreements that the node has of this account: the answer to a signature of ours may have been lost.

    NodeUntrusted when they are not ours, or of another account than the present one.
    """
    told = [status.agreement] + ([] if status.renewed_agreement is None else [status.renewed_agreement])
    known = {first.encoded, *purse.catalog.kept_agreements(node.node_id, first.anchor_at)}
    for encoded in told:
        if encoded in known:
            continue
        agreement = check_agreement(encoded, node_id=node.node_id, account_id=purse.account_id, petname=node.petname)
        if agreement.anchor_at != first.anchor_at:
            raise NodeUntrusted(
                f"{node.petname} shows an agreement of another beginning than yours there; nothing was paid. Ask its "
                "operator"
            )
        await purse.write(purse.catalog.keep_agreement, node.node_id, agreement)


def announced_change(  # R-R27
    purse: Purse, node: NodeEntry, first: Agreement, status: AccountStatusReply
) -> Change | None:
    """The change that the node announces in this status; None when it announces none."""
    encoded, from_period, announced_at = status.announced_terms, status.announced_period, status.announced_at
    if encoded is None or from_period is None or announced_at is None:
        return None
    before = agreements_of(purse, node, first)[-1]
    try:
        after = SignedTerms.decode(encoded)
    except RemoteProtocolError as exc:
        raise NodeUntrusted(
            f"the change of prices that {node.petname} announces cannot be read: {exc}; ask its operator"
        ) from exc
    now = purse.clock.now()
    fault = change_fault(before, after.terms, from_period=from_period, announced_at=announced_at)
    if not fault and announced_at > now + CLOCK_TOLERANCE_SECONDS:
        fault = "it was announced in the future"
    if not fault and after.terms.valid_until_at < now:
        fault = "its time is over"
    if not fault and after.terms.lightning_id != node.lightning_id:
        fault = "it names another Lightning key than the node has proven"
    return Change(
        node=node,
        before=before,
        after=after,
        from_period=from_period,
        from_at=period_start(first.anchor_at, before.terms.terms.period_seconds, from_period),
        announced_at=announced_at,
        fault=fault,
    )
