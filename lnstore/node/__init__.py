"""The storage node. The names that others need are imported when they are used: start-up time is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lnstore.node.app import node_accounts, node_balances, run_node
    from lnstore.node.directory import init_node

__all__ = ["init_node", "node_accounts", "node_balances", "run_node"]

_MODULES = {
    "init_node": "lnstore.node.directory",
    "node_accounts": "lnstore.node.app",
    "node_balances": "lnstore.node.app",
    "run_node": "lnstore.node.app",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when used, as all of this module

    return getattr(import_module(_MODULES[name]), name)
