"""The examples of protocol/ as modules, and the example node running in this process."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from lnstore_protocol.conformance.curve import public_key, sign_message
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, NodeAddress, NodeId
from lnstore_protocol.terms import binding_text

EXAMPLES = Path(__file__).parents[2] / "protocol" / "examples"
SECRET = 0xA11CE
"""Whose Lightning key the example node names."""


def load(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


example_node = load("node")
example_client = load("client")


@contextmanager
def running_example() -> Iterator[NodeAddress]:
    """The example node on a free port."""
    identity = Identity.generate()
    lightning_id = LightningId(public_key(SECRET))
    signature = sign_message(SECRET, binding_text(NodeId(identity.public_key), lightning_id))
    node = example_node.DictNode(identity, lightning_id, signature, "regtest")
    with example_node.Server(("127.0.0.1", 0), node) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.address
        finally:
            server.shutdown()
            thread.join()
