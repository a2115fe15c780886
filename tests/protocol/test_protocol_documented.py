"""Every public name of the package says what it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest

import lnstore_protocol

MODULES = [info.name for info in pkgutil.iter_modules(lnstore_protocol.__path__) if not info.ispkg]


@pytest.mark.parametrize("name", MODULES)
def test_module_names_its_section_and_documents_what_it_offers(name: str) -> None:
    """The module its document of the specification; functions, classes and their methods what they take and raise."""
    module = importlib.import_module(f"lnstore_protocol.{name}")
    assert re.search(r"spec 0\d", module.__doc__ or "")
    for public, value in vars(module).items():
        if public.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(value):
            assert value.__doc__, public
            for method, member in vars(value).items():
                if inspect.isfunction(member) and not method.startswith("_"):
                    assert member.__doc__, f"{public}.{method}"
        elif inspect.isfunction(value):
            assert value.__doc__, public


def test_no_module_does_io() -> None:
    """Sans-I/O: nothing of the package but its conformance program imports sockets, files, clocks or threads."""
    for name in MODULES:
        source = inspect.getsource(importlib.import_module(f"lnstore_protocol.{name}"))
        imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
        assert not imported & {"socket", "asyncio", "trio", "threading", "time", "os", "pathlib", "subprocess", "ssl"}
