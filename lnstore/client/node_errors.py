"""What can go wrong between the client and one node. Every text names the node and says what to do."""

from __future__ import annotations

from typing import ClassVar, Self

from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol.errors import ERROR_RULES, ErrorCode, Retry
from lnstore_protocol.ids import NodeAddress
from lnstore_protocol.messages import ErrorReply
from lnstore_protocol.replies import printable


def name_of(address: NodeAddress) -> str:
    """How messages name a node."""
    return f"node {address.node_id.hex()[:12]} at {address.host}:{address.port}"


class NodeError(LnstoreError):
    """A node did not do what was asked. `reason` is the text without the node's name."""

    exit_code: ClassVar[ExitCode] = ExitCode.NODE

    def __init__(self, address: NodeAddress, reason: str) -> None:
        super().__init__(f"{name_of(address)} {reason}")
        self.address = address
        self.reason = reason

    def again(self) -> Self:
        """The same error, to be raised anew."""
        return type(self)(self.address, self.reason)


class NodeUnreachable(NodeError):
    """No connection came about."""


class WrongNodeKey(NodeUnreachable):
    """Something answers, but it does not prove to have the key that the address names."""


class ConnectionLost(NodeError):
    """The connection ended before the reply came; whether the request was carried out is not known."""


class NodeTimeout(NodeError):
    """The reply did not come in time; whether the request was carried out is not known."""


_HINTS = {
    ErrorCode.PAYMENT_REQUIRED: " Traffic is paid from a deposit: lnstore rent buy NODE SIZE --deposit MSAT",
}
"""What to type, where the registry's sentence cannot know it."""


class NodeRefused(NodeError):
    """The node answered with an error: its code, retry rule and message, and the invoice that may come with it."""

    def __init__(self, address: NodeAddress, error: ErrorReply) -> None:
        rule = ERROR_RULES[error.code]
        message = printable(error.message)  # M-R19
        detail = f" ({message})" if message and message != rule.sentence else ""
        super().__init__(address, f"refused: {rule.sentence}{detail}{_HINTS.get(error.code, '')}")
        self.error = error

    @property
    def code(self) -> ErrorCode:
        """Which error of the registry."""
        return self.error.code

    @property
    def retry(self) -> Retry:
        """What may be done about it."""
        return ERROR_RULES[self.error.code].retry

    def again(self) -> Self:
        """The same error, to be raised anew."""
        return type(self)(self.address, self.error)
