"""hello and get_terms: who the node is and what it takes."""

from __future__ import annotations

from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import GetTerms, Hello, HelloReply, TermsReply, demands_a_feature

VERSION_MAJOR = 1
VERSION_MINOR = 0
FEATURES = b""
AGENT = "lnstore"


def is_understood(message: Hello) -> bool:
    """Whether the two sides can speak: same major version, and no feature required that this node lacks."""
    return message.version_major == VERSION_MAJOR and not demands_a_feature(message.features)


async def hello(request: RequestContext, message: Hello) -> HelloReply:  # M-R10, M-R11, M-R18, M-W11
    """Who the node is, and the proof that its Lightning daemon belongs to it."""
    if message.version_major != VERSION_MAJOR:
        raise Refusal(
            ErrorCode.UNSUPPORTED_VERSION,
            f"this node speaks version {VERSION_MAJOR}, the request is of {message.version_major}",
        )
    if not is_understood(message):
        # The even/odd rule of Lightning: an even feature bit is a demand.
        raise Refusal(ErrorCode.UNKNOWN_FEATURE, "a feature is required that this node does not have")
    node = request.node
    binding = node.binding.require()
    return HelloReply(
        version_major=VERSION_MAJOR,
        version_minor=VERSION_MINOR,
        features=FEATURES,
        network=binding.network,
        lightning_id=binding.lightning_id,
        lightning_signature=binding.signature,
        now_at=node.clock.now(),
        agent=AGENT,
    )


async def get_terms(request: RequestContext, message: GetTerms) -> TermsReply:  # MA-R1, RA-R3, RA-R4
    """The node's current terms, or those that an invitation gives its bearer."""
    node = request.node
    now = node.clock.now()
    if message.invitation is None:
        return TermsReply(terms=node.prices.current(node.binding.require(), now).encoded)
    invitation = await node.books.invitation(message.invitation.invitation_id)
    why = "this invitation is not known here" if invitation is None else invitation.refusal(now)
    if invitation is None or why:
        raise Refusal(ErrorCode.INVITATION_REQUIRED, why)
    return TermsReply(terms=node.prices.invited(node.binding.require(), invitation, now).encoded)
