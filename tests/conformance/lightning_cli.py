"""lightning-cli for the tests: `lightning_cli.py SOCKET COMMAND ARGUMENT…` prints the result as JSON."""

from __future__ import annotations

import json
import socket
import sys


def main() -> int:
    path, method, *params = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as rpc:
        rpc.connect(path)
        rpc.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
        received = b""
        while not received.endswith(b"\n\n"):
            received += rpc.recv(65536)
    answer = json.loads(received)
    sys.stdout.write(json.dumps(answer.get("result", answer.get("error"))))
    return 0 if "result" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
