"""How a command says no."""

from __future__ import annotations

from typing import Any


class RpcFailure(Exception):
    """A JSON-RPC error reply: Core Lightning's code, message and data."""

    def __init__(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, Any]:
        """The `error` member of the reply."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        return body if self.data is None else {**body, "data": self.data}


class LostDaemonError(Exception):
    """The virtual daemon died while it worked on a command: its caller gets no reply."""
