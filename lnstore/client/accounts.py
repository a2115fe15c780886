"""Accounts: under which terms we rent, and what a node says of our standing there."""

from __future__ import annotations

from collections.abc import Callable

import trio

from lnstore.client.agreements import CLOCK_TOLERANCE_SECONDS, agreements_of, check_agreement, held_from, learn
from lnstore.client.capacity import find_out
from lnstore.client.catalog import NodeEntry
from lnstore.client.delegation_store import delegation_for
from lnstore.client.money_errors import AccountMissing, NodeUntrusted, NotCredited, TermsRefused
from lnstore.client.node_errors import NodeError, NodeRefused
from lnstore.client.purse import Purse
from lnstore.client.wallet_entries import PaymentEntry
from lnstore.config import ClientConfig
from lnstore.lightning.supply import Phase, phase
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError, Retry
from lnstore_protocol.ids import LightningId, NodeId
from lnstore_protocol.invitations import Invitation
from lnstore_protocol.messages import (
    AccountState,
    AccountStatus,
    AccountStatusReply,
    GetTerms,
    OpenAccount,
    OpenAccountReply,
    TermsReply,
)
from lnstore_protocol.terms import Agreement, SignedTerms, Terms, period_at

CREDIT_SECONDS = 30.0
"""How long a node may take to credit a payment that settled."""

FIRST_RETRY_SECONDS = 1.0
CREDIT_POLL_SECONDS = 0.1


# --- what terms and agreements must be ------------------------------------------------------------------------------


def check_prices(terms: Terms, config: ClientConfig, petname: str) -> None:  # R-R5, R-R6
    """TermsRefused, naming the setting, when the prices are beyond the profile's limits."""
    for what, price, setting, limit in (
        (
            "rent per GiB and month",
            terms.price_msat_per_gib_month,
            "maximum_msat_per_gib_month",
            config.maximum_msat_per_gib_month,
        ),
        ("reading a GiB", terms.egress_msat_per_gib, "maximum_msat_per_gib_read", config.maximum_msat_per_gib_read),
        (
            "writing a GiB",
            terms.ingress_msat_per_gib,
            "maximum_msat_per_gib_written",
            config.maximum_msat_per_gib_written,
        ),
    ):
        if price > limit:
            raise TermsRefused(
                f"{petname} asks {price} msat for {what}, you allow {limit}; nothing was paid. To go on raise "
                f"{setting} in client.toml, or use another node"
            )


def check_terms(  # MA-R2, R-R3, R-R4
    encoded: bytes,
    *,
    node_id: NodeId,
    lightning_id: LightningId | None,
    network: str,
    now: int,
    petname: str,
    invitation: Invitation | None = None,
) -> SignedTerms:
    """The node's current terms, verified; NodeUntrusted or TermsRefused says what is wrong with them."""
    try:
        signed = SignedTerms.decode(encoded)
    except RemoteProtocolError as exc:
        raise NodeUntrusted(f"the terms of {petname} cannot be used: {exc}; use another node") from exc
    terms = signed.terms
    if (terms.node_id, terms.lightning_id) != (node_id, lightning_id):
        raise NodeUntrusted(
            f"{petname} sent terms of another node or for another Lightning key than it has proven; "
            "use another node, or run `lnstore nodes add` with its address again"
        )
    if terms.network != network:
        raise NodeUntrusted(f"{petname} is paid on {terms.network}, your Lightning daemon is on {network}")
    if not terms.valid_from_at - CLOCK_TOLERANCE_SECONDS <= now <= terms.valid_until_at:
        raise TermsRefused(
            f"the terms of {petname} are not valid now: check that this machine's clock is right, else ask its operator"
        )
    _check_invited(terms, invitation, petname)
    return signed


def _check_invited(terms: Terms, invitation: Invitation | None, petname: str) -> None:  # RA-R6
    if terms.invitation != (None if invitation is None else invitation.invitation_id):
        raise NodeUntrusted(f"{petname} sent terms for another invitation than yours; ask its operator")
    if invitation is None:
        return
    price, egress = invitation.price_msat_per_gib_month, invitation.egress_msat_per_gib
    ingress = invitation.ingress_msat_per_gib
    most = invitation.maximum_capacity_bytes
    if (
        (price is not None and terms.price_msat_per_gib_month > price)
        or (egress is not None and terms.egress_msat_per_gib > egress)
        or (ingress is not None and terms.ingress_msat_per_gib > ingress)
        or (most is not None and terms.maximum_capacity_bytes < most)
        or (invitation.price_periods or 0) > terms.price_periods
    ):
        raise NodeUntrusted(f"the terms of {petname} are worse than its invitation says; ask its operator")


# --- asking the node ------------------------------------------------------------------------------------------------


async def fetch_terms(purse: Purse, node: NodeEntry) -> SignedTerms:
    """The node's current terms, verified and remembered in the catalog."""
    invitation = None if node.invitation is None else Invitation.decode(node.invitation)
    reply = await purse.ask(node, GetTerms(invitation=None if invitation is None else invitation.secret), TermsReply)
    signed = check_terms(
        reply.terms,
        node_id=node.node_id,
        lightning_id=node.lightning_id,
        network=(await purse.daemon()).network,
        now=purse.clock.now(),
        petname=node.petname,
        invitation=invitation,
    )
    await purse.write(lambda: purse.catalog.set_agreement(node.node_id, terms=signed.encoded, agreement=None))
    return signed


async def account_status(purse: Purse, node: NodeEntry) -> AccountStatusReply | None:
    """What the node says of our account; None when there is none."""
    try:
        return await purse.ask(node, AccountStatus(), AccountStatusReply)
    except NodeRefused as refused:
        if refused.code is ErrorCode.NO_ACCOUNT:
            return None
        raise


def agreement_of(purse: Purse, node: NodeEntry) -> Agreement:
    """Our agreement with this node, from the catalog; AccountMissing when there is none."""
    if node.agreement is None:
        raise AccountMissing(
            f"there is no account at {node.petname}; open one with: lnstore rent buy {node.petname} SIZE"
        )
    return check_agreement(node.agreement, node_id=node.node_id, account_id=purse.account_id, petname=node.petname)


async def standing(purse: Purse, node: NodeEntry) -> tuple[Agreement, AccountStatusReply]:
    """Our agreement with the node and how the account stands; AccountMissing when there is none or it lapsed."""
    agreement = agreement_of(purse, node)
    status = await account_status(purse, node)
    if status is None or status.state is AccountState.LAPSED:
        raise AccountMissing(
            f"the account at {node.petname} {'has lapsed' if status else 'is not known there'}, and the shares there "
            f"are gone; rent anew with: lnstore rent buy {node.petname} SIZE"
        )
    await purse.write(find_out, purse.catalog, node.node_id, agreement, status)
    await learn(purse, node, agreement, status)
    return agreement, status


async def open_account(purse: Purse, node: NodeEntry) -> tuple[Agreement, AccountStatusReply, bool]:  # MA-W2
    """Our agreement with the node, how the account stands, and whether it was opened just now.

    TermsRefused names the setting when the prices are beyond the profile's limits; NodeUntrusted when the node's
    answers do not hold. Running it again after an interruption finds the account that was opened.
    """
    if delegation_for(purse.catalog, node.node_id) is not None:
        # What is stored there is leased by another account: a proof over this one's shares could not hold.
        raise AccountMissing(
            f"this profile acts at {node.petname} by a delegation; for an account of your own make another profile: "
            "lnstore init --profile DIRECTORY"
        )
    status = await account_status(purse, node)
    if status is not None and status.state is not AccountState.LAPSED:
        agreement = check_agreement(
            status.agreement, node_id=node.node_id, account_id=purse.account_id, petname=node.petname
        )
        ours = None if node.agreement is None else agreement_of(purse, node)
        if ours is None or ours.anchor_at != agreement.anchor_at:
            await purse.write(_remember, purse, node, agreement)
        else:
            agreement = ours
        await learn(purse, node, agreement, status)
        period = period_at(agreement.anchor_at, agreement.terms.terms.period_seconds, purse.clock.now())
        for held in held_from(agreements_of(purse, node, agreement), max(period, 0)):
            check_prices(held.terms.terms, purse.config, node.petname)
        return agreement, status, False
    terms = await fetch_terms(purse, node)
    check_prices(terms.terms, purse.config, node.petname)
    now = purse.clock.now()
    proposal = Agreement.propose(terms, purse.identity, anchor_at=now)
    secret = None if node.invitation is None else Invitation.decode(node.invitation).secret
    opening = OpenAccount(
        agreement=proposal.encoded, invitation=secret, lightning_id=await _lightning_id_to_say(purse, node)
    )
    reply = await purse.ask(node, opening, OpenAccountReply)
    agreement = check_agreement(
        reply.agreement, node_id=node.node_id, account_id=purse.account_id, petname=node.petname
    )
    if (agreement.terms.encoded, agreement.anchor_at) != (terms.encoded, now):
        raise NodeUntrusted(f"{node.petname} signed another agreement than was proposed; use another node")
    await purse.write(_remember, purse, node, agreement)
    opened = await account_status(purse, node)
    if opened is None:
        raise NodeUntrusted(f"{node.petname} signed an agreement and does not know the account; use another node")
    return agreement, opened, True


async def _lightning_id_to_say(purse: Purse, node: NodeEntry) -> LightningId | None:  # V-W7
    """Ours, where a channel has shown it to the node already: for its operator to see which channel is whose."""
    channels = [] if node.lightning_id is None else await purse.lightning.channels(node.lightning_id)
    if not any(phase(channel.state) in {Phase.OPENING, Phase.OPEN} for channel in channels):
        return None
    return (await purse.daemon()).lightning_id


def _remember(purse: Purse, node: NodeEntry, agreement: Agreement) -> None:
    with purse.catalog.transaction() as db:
        if node.agreement is not None:
            # The account that these shares belonged to has lapsed, and they went with it.
            db.execute("DELETE FROM shares WHERE node_id = ?", (bytes(node.node_id),))
        purse.catalog.set_agreement(node.node_id, terms=agreement.terms.encoded, agreement=agreement.encoded)
        purse.catalog.set_invitation(node.node_id, None)


async def wait_until_credited(
    purse: Purse, node: NodeEntry, paid: PaymentEntry, credited: Callable[[AccountStatusReply], bool]
) -> AccountStatusReply:
    """How the account stands once the node has credited a settled payment; NotCredited when that takes too long.

    The node may be restarting meanwhile: a lost connection is dialled again until the time is up.
    """
    why = "it still shows the account as before"
    again = FIRST_RETRY_SECONDS  # E-R2: doubled each time that the node says "later"
    with trio.move_on_after(CREDIT_SECONDS):
        while True:
            try:
                status = await account_status(purse, node)
            except NodeError as exc:
                if isinstance(exc, NodeRefused) and exc.retry is not Retry.LATER:
                    raise  # E-R1
                why = str(exc)
                if isinstance(exc, NodeRefused):
                    await trio.sleep(again)
                    again *= 2
            else:
                if status is not None and credited(status):
                    return status
            await trio.sleep(CREDIT_POLL_SECONDS)
    raise NotCredited(
        f"the payment of {paid.amount_msat} msat to {node.petname} settled, and the node did not credit it within "
        f"{CREDIT_SECONDS:.0f} seconds ({why}). It is not paid again: run the command again later, and if that does "
        f"not help send the operator the payment hash {paid.payment_hash.hex()}"
    )
