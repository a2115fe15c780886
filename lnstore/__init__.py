"""lnstore: storage nodes that keep and serve your data only while you pay them.

`lnstore.Client` is the library for trio programs (lnstore.api).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lnstore.api import Client, Item, Stored

__all__ = ["Client", "Item", "Stored"]


def __getattr__(name: str) -> Any:
    """Imported when first asked for: the command line starts without it."""
    if name in __all__:
        from lnstore import api  # noqa: PLC0415

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
