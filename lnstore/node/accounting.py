"""What an operator sees of the accounts and decides about them, from a node's directory, also while the node runs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lnstore.clock import clock_for
from lnstore.config import NodeConfig
from lnstore.errors import ExitCode, LnstoreError
from lnstore.node.account_channels import AccountChannels, account_channels
from lnstore.node.directory import ADDRESS_FILE, load_identity
from lnstore.ports import Account, Books, Channels, Figures
from lnstore.ports import Invitation as Invited
from lnstore_protocol.ids import AccountId, InvitationId, InvitationSecret, NodeAddress, NodeId
from lnstore_protocol.invitations import Invitation

MAX_PETNAME = 64
SHORTEST_PREFIX = 4
"""So many digits of an id at least name an account or an invitation."""


class AccountUnknown(LnstoreError):
    """No account, or no invitation, goes by that name, or several do."""

    exit_code = ExitCode.USAGE


class AccountUnfit(LnstoreError):
    """What was asked for cannot be done to this account; the text says why."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Overview:
    """One account with all that is known of it."""

    account: Account
    figures: Figures
    channels: AccountChannels | None = None
    """None where the daemon was not to be asked."""

    @property
    def name(self) -> str:
        """What the operator calls it."""
        return self.account.petname or self.account.account_id.hex()[:8]

    @property
    def at_no_price(self) -> bool:
        """Whether it pays no rent, for whichever reason."""
        return self.account.price_msat_per_gib_month == 0

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs and exports."""
        account, figures = self.account, self.figures
        return {
            "account_id": account.account_id.hex(),
            "petname": account.petname,
            "state": account.state.name.lower(),
            "blocked": account.blocked,
            "free": self.at_no_price,
            "capacity_bytes": account.capacity_bytes,
            "quota_bytes": account.quota_bytes,
            "used_bytes": account.used_bytes,
            "shares": account.shares,
            "ingress_bytes": account.ingress_bytes,
            "egress_bytes": account.egress_bytes,
            "deposit_msat": account.deposit_msat,
            "paid_until_at": account.paid_until_at,
            "price_msat_per_gib_month": account.price_msat_per_gib_month,
            "income_msat": figures.income_msat,
            "proofs_passed": figures.proofs_passed,
            "proofs_failed": figures.proofs_failed,
            **({} if self.channels is None else self.channels.as_json()),
        }


async def overviews(books: Books, lightning: Channels) -> list[Overview]:
    """All accounts, oldest first, with their channels if the daemon answers."""
    accounts = await books.accounts()
    figures = await books.figures()  # later, so that every account is among them, but for one removed meanwhile
    channels = await account_channels(accounts, lightning)
    return [
        Overview(account, figures[account.account_id], held)
        for account, held in zip(accounts, channels, strict=True)
        if account.account_id in figures
    ]


async def overview(books: Books, text: str, lightning: Channels | None = None) -> Overview:
    """The account that the text names; with its channels, if a daemon to ask is given and answers."""
    account = find(await books.accounts(), text)
    figures = (await books.figures(account.account_id))[account.account_id]
    held = None if lightning is None else (await account_channels([account], lightning))[0]
    return Overview(account, figures, held)


def find(accounts: Sequence[Account], text: str) -> Account:
    """The account of this petname, or whose id begins so; AccountUnknown when there is not exactly one."""
    named = [account for account in accounts if account.petname == text]
    if not named and len(text) >= SHORTEST_PREFIX:
        named = [account for account in accounts if account.account_id.hex().startswith(text.lower())]
    match named:
        case [account]:
            return account
        case []:
            raise AccountUnknown(
                f"there is no account {text!r}; name it by its petname or by {SHORTEST_PREFIX} or more digits of its "
                "id, as lnstore node accounts lists them"
            )
        case _:
            raise AccountUnknown(f"{len(named)} accounts have ids that begin with {text}; write more of it")


def check_petname(petname: str) -> str:
    """The petname, if it is one; AccountUnfit."""
    if not 0 < len(petname) <= MAX_PETNAME or not petname.isprintable() or any(c in petname for c in " /@"):
        raise AccountUnfit(
            f"{petname!r} cannot be a name; use 1 to {MAX_PETNAME} printable characters without blanks, / and @"
        )
    return petname


# --- invitations ------------------------------------------------------------------------------------------------------


async def invite(config: NodeConfig, books: Books, *, valid_seconds: int, **conditions: Any) -> tuple[Invited, str]:
    """A new invitation, in the books, and its text: a secret that is kept nowhere. `conditions` as in ports.Invitation.

    AccountUnfit when the node has no address to invite to.
    """
    identity = load_identity(config.directory)
    now = clock_for(config.clock_file).now()
    address = _address(config, NodeId(identity.public_key))
    secret = InvitationSecret(secrets.token_bytes(InvitationSecret.SIZE))
    entered = Invited(invitation_id=secret.invitation_id, created_at=now, expires_at=now + valid_seconds, **conditions)
    text = (
        Invitation(
            node_id=address.node_id,
            place=str(address).partition("@")[2],
            secret=secret,
            expires_at=entered.expires_at,
            maximum_capacity_bytes=entered.maximum_capacity_bytes,
            price_msat_per_gib_month=entered.price_msat_per_gib_month,
            egress_msat_per_gib=entered.egress_msat_per_gib,
            ingress_msat_per_gib=entered.ingress_msat_per_gib,
            price_periods=entered.price_periods,
        )
        .sign(identity)
        .to_text()
    )
    await books.add_invitation(entered)
    return entered, text


async def revoke(books: Books, text: str, now: int) -> Invited:
    """Take back the invitation whose id begins so; as it is then. AccountUnknown, AccountUnfit when it was used."""
    found = [one for one in await books.invitations() if one.invitation_id.hex().startswith(text.lower())]
    if len(text) < SHORTEST_PREFIX or len(found) != 1:
        raise AccountUnknown(
            f"{len(found) or 'no'} invitations have ids that begin with {text!r}; write {SHORTEST_PREFIX} or more "
            "digits of one, as lnstore node invitations lists them"
        )
    invitation = await books.revoke_invitation(InvitationId(found[0].invitation_id), now)
    if invitation.used_by is not None:
        raise AccountUnfit(
            f"this invitation was used by account {invitation.used_by.hex()[:8]}; block that account instead"
        )
    return invitation


def account_id(text: str) -> AccountId:
    """The account id in the text; AccountUnfit."""
    try:
        return AccountId.from_hex(text)
    except ValueError as exc:
        raise AccountUnfit(str(exc)) from None


def _address(config: NodeConfig, node_id: NodeId) -> NodeAddress:
    """Where clients reach the node: what it wrote down when it started, else what its settings say."""
    try:
        return NodeAddress.parse((config.directory / ADDRESS_FILE).read_text())
    except FileNotFoundError:
        pass
    if not config.listen_port:
        raise AccountUnfit("the node's port is chosen when it starts: start it first, or set listen_port in node.toml")
    return NodeAddress(node_id, config.announce_host or config.listen_host, config.listen_port)
