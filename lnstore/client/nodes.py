"""The nodes a client knows: added after they proved who they are and where they are paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from lnstore.client.accounts import account_status, check_prices, check_terms
from lnstore.client.agreements import CLOCK_TOLERANCE_SECONDS
from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import NodeUntrusted, TermsRefused
from lnstore.client.price_history import note_prices
from lnstore.client.purse import Purse
from lnstore.client.tasks import open_tasks
from lnstore.errors import ExitCode, LnstoreError
from lnstore.ports import LightningRefused
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeAddress
from lnstore_protocol.invitations import Invitation
from lnstore_protocol.messages import AccountStatusReply, GetTerms, HelloReply, TermsReply
from lnstore_protocol.replies import printable
from lnstore_protocol.terms import SignedTerms, Terms, binding_text

PETNAME_DIGITS = 8
"""A node without a petname goes by this much of its id."""

MAX_PETNAME = 64
NODES_AT_ONCE = 8
REACH_SECONDS = 10.0
"""How long `list_nodes` waits for each node."""


class PetnameInvalid(LnstoreError):
    """A petname must be something a person can type."""

    exit_code = ExitCode.USAGE


class InvitationExpired(LnstoreError):
    """The invitation can not be used any more."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeListing:
    """A known node as it answered just now; `status` None: no account there; `problem` says why not, or warns."""

    node: NodeEntry
    reachable: bool
    problem: str = ""
    agent: str = ""
    terms: Terms | None = None
    affordable: bool = False
    status: AccountStatusReply | None = None
    latency_seconds: float | None = None
    """Of one question and its answer, on a connection that was there."""


def check_petname(petname: str) -> str:
    """The petname, if it is one; PetnameInvalid."""
    if not 0 < len(petname) <= MAX_PETNAME or not petname.isprintable() or any(c in petname for c in " /@"):
        raise PetnameInvalid(
            f"{petname!r} cannot be a node's name; use 1 to {MAX_PETNAME} printable characters without blanks, / and @"
        )
    return petname


async def add_invited(purse: Purse, invitation: Invitation, petname: str | None = None) -> NodeEntry:  # RA-R2
    """Get to know the node that invites, as `add_node`; the account that is opened there uses the invitation up.

    InvitationExpired before anything is asked.
    """
    if purse.clock.now() > invitation.expires_at:
        raise InvitationExpired("this invitation has expired; ask the node's operator for another one")
    return await add_node(purse, invitation.address, petname, invitation=invitation)


async def add_node(  # M-R15
    purse: Purse, address: NodeAddress, petname: str | None = None, *, invitation: Invitation | None = None
) -> NodeEntry:
    """Get to know the node at this address and remember it, or the new address of one that is known.

    An invitation that was not used yet is replaced by `invitation`, or forgotten when that is None.

    The connection proves the node's key; here its Lightning key is checked to be bound to it, its network to be ours,
    and its terms to be its own. NodeUnreachable, WrongNodeKey, NodeUntrusted, PetnameInvalid, CatalogError when another
    node has the petname.
    """
    if petname is not None:
        check_petname(petname)
    known = {node.node_id: node.petname for node in purse.catalog.nodes()}
    chosen = petname or known.get(address.node_id) or address.node_id.hex()[:PETNAME_DIGITS]
    conversation = await purse.dial(address)
    hello = conversation.hello
    info = await purse.daemon()
    if hello.network != info.network:
        raise NodeUntrusted(
            f"the node is paid on {hello.network}, your Lightning daemon is on {info.network}; it was not added"
        )
    await _check_binding(purse, address, hello)
    secret = None if invitation is None else invitation.secret
    reply = await conversation.request(GetTerms(invitation=secret), timeout_seconds=REACH_SECONDS)
    if not isinstance(reply, TermsReply):
        raise NodeUntrusted("the node did not send its terms when asked; it was not added")
    signed = check_terms(
        reply.terms,
        node_id=address.node_id,
        lightning_id=hello.lightning_id,
        network=info.network,
        now=purse.clock.now(),
        petname=chosen,
        invitation=invitation,
    )

    def remember() -> NodeEntry:
        with purse.catalog.transaction():
            purse.catalog.add_node(address, petname=chosen, lightning_id=hello.lightning_id, added_at=purse.clock.now())
            purse.catalog.set_agreement(address.node_id, terms=signed.encoded, agreement=None)
            purse.catalog.set_invitation(address.node_id, None if invitation is None else invitation.encoded)
            if invitation is None:  # an invitation's terms are nobody else's
                note_prices(purse.catalog, address.node_id, signed.terms, purse.clock.now())
        return purse.catalog.node(address.node_id)

    return await purse.write(remember)


async def list_nodes(purse: Purse, nodes: Sequence[NodeEntry] | None = None) -> list[NodeListing]:
    """All known nodes (or these), asked at once how they are; one that does not answer is listed with its problem."""
    chosen = list(purse.catalog.nodes() if nodes is None else nodes)
    listings: dict[bytes, NodeListing] = {}
    limiter = trio.CapacityLimiter(NODES_AT_ONCE)

    async def look(node: NodeEntry) -> None:
        async with limiter:
            listings[node.node_id] = await _look_at(purse, node)

    async with open_tasks() as nursery:
        for node in chosen:
            nursery.start_soon(look, node)
    return [listings[node.node_id] for node in chosen]


def clock_warning(node_at: int, now: int) -> str:  # M-R16
    """A sentence when the node's clock and ours are far apart, else empty."""
    apart = abs(node_at - now)
    if apart <= CLOCK_TOLERANCE_SECONDS:
        return ""
    return f"its clock and this machine's are {apart} seconds apart; set yours right, else tell its operator"


async def _look_at(purse: Purse, node: NodeEntry) -> NodeListing:
    problem = f"no answer within {REACH_SECONDS:.0f} seconds"
    with trio.move_on_after(REACH_SECONDS):
        try:
            conversation = await purse.dial(node.address)
            invited = None if node.invitation is None else Invitation.decode(node.invitation).secret
            asked = trio.current_time()
            reply = await purse.ask(node, GetTerms(invitation=invited), TermsReply)
            latency_seconds = trio.current_time() - asked
            terms = SignedTerms.decode(reply.terms).terms
            status = await account_status(purse, node)
        except LnstoreError as exc:
            problem = str(exc)
        except RemoteProtocolError as exc:
            problem = f"its terms cannot be read: {exc}"
        else:
            if invited is None:
                await purse.write(note_prices, purse.catalog, node.node_id, terms, purse.clock.now())
            return NodeListing(
                node=node,
                reachable=True,
                problem=clock_warning(conversation.hello.now_at, purse.clock.now()),
                agent=printable(conversation.hello.agent),  # M-R17
                terms=terms,
                affordable=_affordable(purse, terms, node.petname),
                status=status,
                latency_seconds=latency_seconds,
            )
    terms_known = None if node.terms is None else SignedTerms.decode(node.terms).terms
    return NodeListing(node=node, reachable=False, problem=problem, terms=terms_known)


def _affordable(purse: Purse, terms: Terms, petname: str) -> bool:
    try:
        check_prices(terms, purse.config, petname)
    except TermsRefused:
        return False
    return True


async def _check_binding(purse: Purse, address: NodeAddress, hello: HelloReply) -> None:  # M-R14
    text = binding_text(address.node_id, hello.lightning_id)
    try:
        bound = await purse.lightning.check_message(text, hello.lightning_signature, hello.lightning_id)
    except LightningRefused:
        bound = False  # what is not a signature at all is none of this key's
    if not bound:
        raise NodeUntrusted(
            f"the node names the Lightning key {hello.lightning_id.hex()} and does not prove that it is its own; "
            "it was not added. Ask its operator"
        )
