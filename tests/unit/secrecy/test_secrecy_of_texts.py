"""No text that a program makes of an object by itself (repr, str, a log line) shows a secret."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

import lnstore
import lnstore_protocol
from lnstore import logs
from lnstore.client.keyfile import AccountSeed
from lnstore_protocol.ids import FixedBytes, InvitationSecret, SecretBytes, ShareId

SECRET_NAMES = re.compile(
    r"secret|seed|passphrase|password|private|preimage|nonce|tokens?$|answers|psk|cap$|invitation$"
    r"|(file|verify|audit|token|pack|record|content|leaf|signing)_?key|^_?key$"
)
NO_SECRETS = {
    "lnstore.books.grants:Grant.key": "a column's number",
    "lnstore.node.context:Peer.key": "a public key",
    "lnstore_protocol.bundles:Series.preimages": "a count",
    "lnstore_protocol.terms:Terms.invitation": "the id of an invitation: a hash",
    "lnstore_protocol.conformance.scenarios:Scenario.wrong_key": "whether a scenario uses one",
}
"""Fields that are called like a secret, and what they are."""
CANARY = b"canary" * 6


def _classes() -> Iterator[type]:
    for package in (lnstore, lnstore_protocol):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith("__main__") or ".migrations" in module.name:
                continue  # they run when they are imported
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name:
                    yield value


CLASSES = sorted(set(_classes()), key=lambda cls: (cls.__module__, cls.__qualname__))
SHAPES = [cls for cls in CLASSES if dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")]


def _secret_fields(cls: Any) -> list[str]:
    names = [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else list(cls._fields)
    return [
        name
        for name in names
        if SECRET_NAMES.search(name) and f"{cls.__module__}:{cls.__qualname__}.{name}" not in NO_SECRETS
    ]


HOLDERS = [cls for cls in SHAPES if _secret_fields(cls)]


@pytest.mark.parametrize("cls", HOLDERS, ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_objects_with_secrets_do_not_print_them(cls: Any) -> None:
    """Every class of both packages that has a field called like a secret."""
    assert dataclasses.is_dataclass(cls), "a named tuple prints everything"
    made: Any = object.__new__(cast("type", cls))
    secret = set(_secret_fields(cls))
    for f in dataclasses.fields(cls):
        # Of a type that holds secrets itself the field is printed as that type prints itself.
        hides = any(re.search(rf"\b{holder.__name__}\b", str(f.type)) for holder in [*HOLDERS, *KINDS])
        object.__setattr__(made, f.name, CANARY if f.name in secret and not hides else None)
    for text in (repr(made), str(made), f"{made}", repr([made])):
        assert CANARY.decode() not in text


KINDS = [cls for cls in CLASSES if issubclass(cls, SecretBytes)]


def test_the_walk_finds_what_is_known_to_hold_secrets() -> None:
    """Lest the test above pass because nothing is found."""
    names = {cls.__name__ for cls in HOLDERS}
    assert {"ReadCap", "VerifyCap", "FileEntry", "PaymentEntry", "Invitation", "NodeEntry", "PutResult"} <= names
    assert {cls.__name__ for cls in KINDS} >= {"AccountSeed", "InvitationSecret"}
    for cls in CLASSES:
        if issubclass(cls, FixedBytes) and SECRET_NAMES.search(cls.__name__.lower()):
            assert cls in KINDS, f"{cls} is called like a secret and prints itself"
    stale = NO_SECRETS.keys() - {
        f"{cls.__module__}:{cls.__qualname__}.{name}"
        for cls in SHAPES
        for name in ([f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else cls._fields)
    }
    assert not stale


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_secret_bytes_are_not_printed_nor_told_in_an_error(kind: type[SecretBytes]) -> None:
    """Neither the value nor a text that was to be one."""
    secret = kind(CANARY[: kind.SIZE])
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>80}", repr({"key": secret})):
        assert "canary" not in text
        assert CANARY[:4].hex() not in text
    assert kind.from_hex(secret.hex()) == secret
    written = CANARY.hex() + "no"
    with pytest.raises(ValueError, match="hex digits are needed") as caught:
        kind.from_hex(written)
    assert caught.value.__cause__ is None
    assert written not in str(caught.value)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_line_shows_no_secret_and_no_bytes(as_json: bool) -> None:
    """Identifiers are hex; whatever else is bytes is told by its length, also inside of lists and dicts."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return not as_json

    stream = Stream()
    logs.configure("debug", stream)
    try:
        share_id = ShareId(b"\7" * 32)
        logs.get_logger("test").debug(
            "event",
            share=share_id,
            seed=AccountSeed(CANARY[:32]),
            inside=[share_id, {"secret": InvitationSecret(CANARY[:16])}, (CANARY, bytearray(CANARY))],
        )
    finally:
        logs.configure("info")
    text = stream.getvalue()
    assert text.count(share_id.hex()) == 2
    assert "canary" not in text
    assert CANARY[:6].hex() not in text
    if as_json:
        assert json.loads(text)["inside"] == [share_id.hex(), {"secret": "(16 bytes)"}, ["(36 bytes)", "(36 bytes)"]]
