"""The node's signed terms: made when needed, accepted back while they are valid."""

from __future__ import annotations

from dataclasses import replace

from lnstore.config import NodeConfig
from lnstore.node.directory import Binding
from lnstore.node.errors import Refusal
from lnstore.node.fiat import FiatRate
from lnstore.ports import Invitation
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.terms import SignedTerms, Terms


class PriceSheet:
    """Signs the configured prices, and signs them anew when half of their validity is over."""

    def __init__(self, config: NodeConfig, identity: Identity, rate: FiatRate) -> None:
        self._rate = rate
        self._config = config
        self._identity = identity
        self._current: SignedTerms | None = None

    def current(self, binding: Binding, now: int) -> SignedTerms:  # MA-W1
        """Terms to tell a client now."""
        config, kept = self._config, self._current
        if (
            kept is not None
            and kept.terms.price_msat_per_gib_month == self._rent_price(now)
            and kept.terms.lightning_id == binding.lightning_id
            and kept.terms.valid_from_at <= now <= kept.terms.valid_until_at - config.terms_valid // 2
        ):
            return kept
        self._current = self._terms(binding, now).sign(self._identity)
        return self._current

    def invited(self, binding: Binding, invitation: Invitation, now: int) -> SignedTerms:  # RA-R3
        """Terms for the bearer of this invitation, who alone may accept them."""
        terms = self._terms(binding, now)
        price, egress = invitation.price_msat_per_gib_month, invitation.egress_msat_per_gib
        ingress = invitation.ingress_msat_per_gib
        most = invitation.maximum_capacity_bytes or terms.maximum_capacity_bytes
        return replace(
            terms,
            invitation=invitation.invitation_id,
            price_msat_per_gib_month=terms.price_msat_per_gib_month if price is None else price,
            egress_msat_per_gib=terms.egress_msat_per_gib if egress is None else egress,
            ingress_msat_per_gib=terms.ingress_msat_per_gib if ingress is None else ingress,
            fiat_currency=terms.fiat_currency if price is None else "",
            fiat_per_tib_month=terms.fiat_per_tib_month if price is None else "",
            price_periods=invitation.price_periods or terms.price_periods,
            minimum_capacity_bytes=min(terms.minimum_capacity_bytes, most),
            maximum_capacity_bytes=most,
        ).sign(self._identity)

    def _terms(self, binding: Binding, now: int) -> Terms:
        config = self._config
        return Terms(
            node_id=NodeId(self._identity.public_key),
            lightning_id=binding.lightning_id,
            network=binding.network,
            price_msat_per_gib_month=self._rent_price(now),
            egress_msat_per_gib=Msat(config.egress_msat_per_gib),
            ingress_msat_per_gib=Msat(config.ingress_msat_per_gib),
            period_seconds=config.period,
            grace_seconds=config.grace,
            minimum_capacity_bytes=config.minimum_account,
            maximum_capacity_bytes=config.maximum_account,
            channel_policy=config.channel_policy,
            minimum_channel_sat=config.minimum_channel_sat,
            valid_from_at=now,
            valid_until_at=now + config.terms_valid,
            price_periods=config.price_periods,
            refund_permille=config.refund_permille,
            fiat_currency=config.fiat_currency,
            fiat_per_tib_month=config.fiat_per_tib_month,
        )

    def _rent_price(self, now: int) -> Msat:
        if not self._config.fiat_currency:
            return Msat(self._config.price_msat_per_gib_month)
        price = self._rate.price_msat(now)
        if price is None:
            raise Refusal(
                ErrorCode.PRICE_UNAVAILABLE,
                f"this node has no rate of bitcoin in {self._config.fiat_currency} now, and no new terms; ask later",
            )
        return price

    @property
    def tolerance_percent(self) -> int:
        """By how much a price may differ from an agreed one before the change is worth a signature."""
        return self._config.fiat_announce_percent if self._config.fiat_currency else 0

    def check(self, signed: SignedTerms, binding: Binding, now: int) -> None:
        """Refuse terms that are not ours or no longer valid. Their signature was verified when they were decoded."""
        terms = signed.terms
        if terms.node_id != self._identity.public_key or terms.lightning_id != binding.lightning_id:
            raise Refusal(ErrorCode.TERMS_CHANGED, "these are not this node's terms")
        if terms.valid_until_at < now:
            raise Refusal(ErrorCode.TERMS_CHANGED, "these terms have expired; get the current ones")
