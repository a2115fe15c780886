"""What goes wrong in a node: refusals that a peer is answered with, and errors that its operator meets."""

from __future__ import annotations

from typing import ClassVar

from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat


class NodeSetupError(LnstoreError):
    """The node's directory cannot be used; the text says what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


class Refusal(Exception):  # E-W1, E-W3
    """A request is refused: what the ErrorReply says, and for how long the connection is read no further."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        amount_msat: Msat | None = None,
        retry_after_seconds: int | None = None,
        pause_seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.amount_msat = amount_msat
        self.retry_after_seconds = retry_after_seconds
        self.pause_seconds = pause_seconds
