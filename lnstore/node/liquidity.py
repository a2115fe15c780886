"""What a node's channels can still receive, against the rent its accounts owe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lnstore.lightning.supply import PERIODS_WATCHED, Phase, Supply, phase, receivable_msat, spendable_msat, supply
from lnstore.ports import Account, Channel
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountState
from lnstore_protocol.terms import rent_msat


@dataclass(frozen=True, slots=True, kw_only=True)
class Liquidity:
    """A node's channels and what they are good for.

    `rent_msat` is what all accounts together owe for `period_seconds`; `periods_left` is how often that can still be
    received, None while nothing is rented. `warning` is a sentence with what to do, or empty.
    """

    channels: tuple[Channel, ...]
    spendable_msat: Msat
    inbound_msat: Msat
    rent_msat: Msat
    period_seconds: int
    periods_left: int | None
    supply: Supply
    warning: str


def liquidity(channels: Sequence[Channel], accounts: Sequence[Account], *, period_seconds: int) -> Liquidity:
    """What the channels can receive against the rent of all accounts that are not lapsed.

    Which account pays over which channel is not known, so all are taken together: a client whose own channel is used up
    runs out earlier than this says.
    """
    rent = Msat(
        sum(
            rent_msat(account.capacity_bytes, period_seconds, _price(account))
            for account in accounts
            if account.state is not AccountState.LAPSED
        )
    )
    inbound = receivable_msat(channels)
    verdict = supply(inbound, [rent] * PERIODS_WATCHED)
    return Liquidity(
        channels=tuple(channels),
        spendable_msat=spendable_msat(channels),
        inbound_msat=inbound,
        rent_msat=rent,
        period_seconds=period_seconds,
        periods_left=inbound // rent if rent else None,
        supply=verdict,
        warning=_warning(channels, inbound, rent, verdict),
    )


def _price(account: Account) -> Msat:
    return account.prices.agreed_last(account.next_period).price_msat_per_gib_month


def _warning(channels: Sequence[Channel], inbound: Msat, rent: Msat, verdict: Supply) -> str:
    if verdict is Supply.FINE:
        return ""
    if not any(phase(channel.state) is Phase.OPEN for channel in channels):
        return (
            f"there is no open channel, so that the rent of {rent:,} msat per period cannot be received; have clients "
            "open channels to you (channel_policy in node.toml), or open one yourself with: lnstore node channel open "
            "DIRECTORY PEER --push-msat …"
        )
    remedy = (
        "move what was earned out of the channels with: lnstore node sweep DIRECTORY --to ADDRESS; or have clients "
        "open channels to you (channel_policy in node.toml)"
    )
    if verdict is Supply.TOP_UP:
        return f"your channels can receive {inbound:,} msat, and the next period's rent is {rent:,}; {remedy}"
    return f"your channels can receive the rent of only {inbound // rent} more periods; {remedy}"
