"""What a person lends to a run: a way to pay, to restart the node, to set its clock ahead."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

PAY_SECONDS = 60.0
COMMAND_SECONDS = 120.0
REPLY_BYTES = 16 << 20
"""The longest answer of a Lightning daemon that is read."""

_BOLT11 = re.compile(r"[0-9a-zA-Z]{1,4096}")
_UNKNOWN_COMMAND = -32601


class Payer(Protocol):
    """Somebody who pays invoices."""

    def pay(self, bolt11: str) -> bool:
        """Pay it; whether it was paid."""
        ...


class Command:
    """A command line with {names} in it, run without a shell; quote as in one, or call `sh -c '…'`."""

    def __init__(self, template: str) -> None:
        self._words = shlex.split(template)
        if not self._words:
            raise ValueError("an empty command")

    def run(self, **values: str) -> bool:
        """Whether it ended with exit code 0 in time."""
        words = self._words
        for name, value in values.items():
            words = [word.replace(f"{{{name}}}", value) for word in words]
        try:
            ended = subprocess.run(words, check=False, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return ended.returncode == 0


class CommandPayer:
    """Pays with a command such as `lightning-cli pay {bolt11}`: exit code 0 means paid."""

    def __init__(self, template: str) -> None:
        if "{bolt11}" not in template:
            raise ValueError("--pay-command needs {bolt11} in it, as in: lightning-cli pay {bolt11}")
        self._command = Command(template)

    def pay(self, bolt11: str) -> bool:
        """Pay it; whether it was paid."""
        # It comes from the node under test and goes into a command line.
        return _BOLT11.fullmatch(bolt11) is not None and self._command.run(bolt11=bolt11)


class RpcPayer:
    """Pays through a lightningd's JSON-RPC socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pay(self, bolt11: str) -> bool:
        """Pay it with xpay (pay, where there is no xpay); whether it was paid."""
        answer = self._call("xpay", {"invstring": bolt11})
        if answer.get("error", {}).get("code") == _UNKNOWN_COMMAND:
            answer = self._call("pay", {"bolt11": bolt11})
        if "result" in answer:
            return True
        # An error says nothing about the outcome; the daemon's list of payments does.
        listed = self._call("listpays", {"bolt11": bolt11}).get("result", {})
        return any(payment.get("status") == "complete" for payment in listed.get("pays", []))

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": "conformance", "method": method, "params": params}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as rpc:
            rpc.settimeout(PAY_SECONDS)
            rpc.connect(str(self._path))
            rpc.sendall(json.dumps(request).encode())
            received = bytearray()
            while not received.endswith(b"\n\n"):
                data = rpc.recv(65536)
                if not data or len(received) > REPLY_BYTES:
                    raise OSError(f"the daemon at {self._path} hung up within an answer")
                received += data
        answer: dict[str, Any] = json.loads(received)
        return answer


Restart = Callable[[], bool]
"""Ends the node as a crash would and starts it again on the same address; whether it answers again."""

Advance = Callable[[int], bool]
"""Sets the node's clock ahead by so many seconds; whether it did."""
