"""The tables of the documents say what the code does."""

from __future__ import annotations

import dataclasses
import re
from enum import IntEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from spec_documents import MessageTable, Row, documents, message_tables, prose, structure_tables, tables_with

from lnstore_protocol import codec, delegation, invitations, receipts, structures, terms, usages
from lnstore_protocol.errors import ERROR_RULES, ErrorCode
from lnstore_protocol.ids import FixedBytes
from lnstore_protocol.messages import UNKNOWN_LIMIT, AccountStage, AccountState, InvoicePurpose, Reply, Request

_ENUMS = {
    "AccountState": "account_state",
    "AccountStage": "account_stage",
    "InvoicePurpose": "invoice_purpose",
    "ErrorCode": "error_code",
}
_PLAIN = {int: "integer", bytes: "bytes", str: "text"}


def wire_name(cls: type[Any]) -> str:
    """A message's name in the documents: its class in snake case, but for the error."""
    return "error" if cls.__name__ == "ErrorReply" else re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def _bare(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        kind = next(arm for arm in get_args(kind) if arm is not type(None))
    return getattr(kind, "__supertype__", kind)


def _row(field: dataclasses.Field[Any], kind: Any) -> Row:
    kind, most = _bare(kind), field.metadata["max_len"]
    presence = "required" if field.default is dataclasses.MISSING else "optional"
    length = f"≤ {most}" if most else ""
    if get_origin(kind) is list:
        name = "list of text"
    elif issubclass(kind, FixedBytes):
        name, length = "bytes", f"= {kind.SIZE}"
    elif issubclass(kind, IntEnum):
        name = _ENUMS[kind.__name__]
    else:
        name = _PLAIN[kind]
    return Row(field.metadata["key"], field.name, name, length, presence)


def _table(cls: type[Any]) -> MessageTable:
    hints, limit = get_type_hints(cls), codec.size_limit(cls.TYPE)
    rows = sorted(
        (_row(f, hints[f.name]) for f in dataclasses.fields(cls) if "key" in f.metadata), key=lambda r: r.key or 0
    )
    if any(f.name == "payload" for f in dataclasses.fields(cls)):
        rows.append(Row(None, "payload", "bytes", f"≤ {limit.payload_bytes}", "required"))
    direction = "request" if cls in get_args(Request) else "reply"
    return MessageTable(wire_name(cls), cls.TYPE, direction, limit.head_bytes, limit.payload_bytes, tuple(rows))


CLASSES = {wire_name(cls): cls for cls in (*get_args(Request), *get_args(Reply))}


def test_exactly_the_messages_of_the_code_are_documented() -> None:
    assert set(message_tables()) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_message_table_is_that_of_the_code(name: str) -> None:
    """Type, direction, size limits; key, name, type, length and presence of each field."""
    assert message_tables()[name] == _table(CLASSES[name])


@pytest.mark.parametrize("name", CLASSES)
def test_required_fields_have_even_keys_and_optional_ones_odd_keys(name: str) -> None:
    for row in message_tables()[name].rows:
        if row.key is not None:
            assert (row.key % 2 == 0) is (row.presence == "required")


@pytest.mark.parametrize("enum", [AccountState, AccountStage, InvoicePurpose])
def test_enumerations_are_those_of_the_code(enum: type[IntEnum]) -> None:
    listed = ", ".join(f"{member.value} {member.name}" for member in enum)
    assert f"| {_ENUMS[enum.__name__]} | unsigned integer | {listed} |" in prose("02")


def test_channel_policies_are_those_of_the_code() -> None:
    assert ", ".join(f"{member.value} {member.name}" for member in terms.ChannelPolicy) in prose("05")


def test_limits_of_unknown_types_and_of_list_elements_are_those_of_the_code() -> None:
    assert (
        f"the limits {UNKNOWN_LIMIT.head_bytes:,} bytes of head and {UNKNOWN_LIMIT.payload_bytes} of payload"
        in prose("01")
    )
    assert f"each element at most {codec.MAX_ELEMENT_BYTES} bytes" in prose("02")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("terms", terms._TERMS),
        ("agreement", terms._AGREEMENT),
        ("record", terms._RECORD),
        ("certificate", delegation._CERTIFICATE),
        ("receipt", receipts._RECEIPT),
        ("acknowledgement", receipts._ACKNOWLEDGEMENT),
        ("invitation", invitations._INVITATION),
    ],
)
def test_structure_table_is_that_of_the_code(name: str, table: structures.Table) -> None:
    rows = {row.key: row for row in structure_tables()[name]}
    signatures = {64: "signature"} | ({66: "node_signature"} if name == "agreement" else {})
    assert {key: row.name for key, row in rows.items()} == {
        key: field for key, (field, _) in table.items()
    } | signatures
    for key, (_, kind) in table.items():
        base = next(plain for plain in _PLAIN if issubclass(kind, plain))
        assert rows[key].type == _PLAIN[base]
        assert rows[key].presence == ("optional" if key % 2 else "required")
        if issubclass(kind, FixedBytes):
            assert rows[key].length == f"= {kind.SIZE}"


def test_table_of_usages_is_that_of_the_code() -> None:
    rows = {row.key: (row.name, row.presence) for row in structure_tables()["usage"]}
    required = {key: (name, "required") for key, (name, _) in usages._USAGE.items()}
    assert rows == required | {key: (name, "optional") for key, (name, _) in usages._USAGE_OPTIONAL.items()}


def test_rights_are_those_of_the_code() -> None:
    assert ", ".join(f"{right.value} {right.name}" for right in delegation.Rights) in prose("05a")


def test_error_registry_is_that_of_the_code() -> None:
    (rows,) = tables_with("| code | name | retry | sentence |", documents()["06"])
    assert rows == [
        [str(code.value), code.name, ERROR_RULES[code].retry.value, ERROR_RULES[code].sentence] for code in ErrorCode
    ]


def test_every_error_says_who_sends_it() -> None:
    (rows,) = tables_with("| name | sent for | by rule |", documents()["06"])
    assert [row[0] for row in rows] == [code.name for code in ErrorCode]
