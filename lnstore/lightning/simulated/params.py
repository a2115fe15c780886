"""Parameters of commands: named or positional, checked as lightningd checks them, refused in its words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lnstore.lightning.simulated import crypto
from lnstore.lightning.simulated.failure import RpcFailure

INVALID_PARAMS = -32602
Parser = Callable[[Any], Any]
"""From the JSON value to the handler's; ValueError says what it should have been."""

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")
_MSAT_UNITS = {"msat": 1, "sat": 1000, "btc": 10**11, "": 1}


class _Required:
    """The default of a parameter that has none."""


REQUIRED = _Required()


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a command."""

    name: str
    parse: Parser
    default: Any = REQUIRED


def bind(params: tuple[Param, ...], given: Any) -> dict[str, Any]:
    """The parsed parameters by name; null counts as absent. RpcFailure -32602."""
    if given is None:
        given = {}
    if isinstance(given, list):
        if len(given) > len(params):
            raise RpcFailure(INVALID_PARAMS, f"too many parameters: got {len(given)}, expected {len(params)}")
        given = {param.name: value for param, value in zip(params, given, strict=False)}
    if not isinstance(given, dict):
        raise RpcFailure(INVALID_PARAMS, "Expected array or object for params")
    for name in given.keys() - {param.name for param in params}:
        raise RpcFailure(
            INVALID_PARAMS,
            f"unknown parameter: {name}, this may be caused by a failure to autodetect key=value-style parameters. "
            "Please try using the -k flag and explicit key=value pairs of parameters.",
        )
    bound = {}
    for param in params:
        value = given.get(param.name)
        if value is None:
            if param.default is REQUIRED:
                raise RpcFailure(INVALID_PARAMS, f"missing required parameter: {param.name}")
            bound[param.name] = param.default
            continue
        try:
            bound[param.name] = param.parse(value)
        except ValueError as exc:
            token = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            raise RpcFailure(INVALID_PARAMS, f"{param.name}: {exc}: invalid token '{token}'") from None
    return bound


def string(value: Any) -> str:
    """Any JSON string."""
    if not isinstance(value, str):
        raise ValueError("should be a string")
    return value


def label(value: Any) -> str:
    """A string or a number, kept as text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("should be a string or number")
    return str(value)


def integer(value: Any) -> int:
    """A whole number from 0, as JSON number or as digits."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("should be an integer")
    return value


def number(value: Any) -> float:
    """A number from 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not _NUMBER.fullmatch(str(value)):
        raise ValueError("should be a positive number")
    return float(value)


def boolean(value: Any) -> bool:
    """True or false, as JSON or as text."""
    known = {True: True, False: False, "true": True, "false": False}
    if not isinstance(value, bool | str) or value not in known:
        raise ValueError("should be 'true' or 'false'")
    return known[value]


def msat(value: Any) -> int:
    """An amount: a number of msat, or text with a unit."""
    found = None
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)(msat|sat|)", value)
        found = int(match[1]) * _MSAT_UNITS[match[2]] if match else None
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        found = value
    if found is None:
        raise ValueError("should be a millisatoshi amount")
    return found


def msat_or_any(value: Any) -> int | None:
    """A positive amount, or None for `any`."""
    if value == "any":
        return None
    try:
        amount = msat(value)
    except ValueError:
        amount = 0
    if amount == 0:
        raise ValueError("should be positive msat or 'any'")
    return amount


def sat_or_all(value: Any) -> int | None:
    """An amount in sat, or None for `all`."""
    if value == "all":
        return None
    if isinstance(value, str) and value.endswith("msat") and value[:-4].isdecimal() and int(value[:-4]) % 1000 == 0:
        return int(value[:-4]) // 1000
    text = value.removesuffix("sat") if isinstance(value, str) else value
    try:
        return integer(text)
    except ValueError:
        raise ValueError("should be a satoshi amount") from None


def hex_of(size: int, what: str) -> Parser:
    """Exactly `size` bytes as hex digits."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(f"[0-9a-fA-F]{{{2 * size}}}", value):
            raise ValueError(f"should be {what}")
        return value.lower()

    return parse


preimage = hex_of(32, "64 hex digits")
payment_hash = hex_of(32, "a 32 byte hex value")


def node_id(value: Any) -> str:
    """A public key of a node."""
    if not isinstance(value, str) or not crypto.is_public_key(value):
        raise ValueError("should be a node id")
    return value.lower()


def address(value: Any) -> str:
    """The script (hex) behind an address. RpcFailure -1, which is what lightningd says here."""
    try:
        return crypto.script_of_address(string(value))
    except ValueError:
        raise RpcFailure(-1, "Could not parse destination address, destination should be a valid address") from None


def outpoints(value: Any) -> list[tuple[str, int]]:
    """A list of `txid:output`."""
    found = [re.fullmatch(r"([0-9a-f]{64}):([0-9]+)", str(text)) for text in value] if isinstance(value, list) else []
    if not found or None in found:
        raise ValueError("should be an array of 'txid:output_index'")
    return [(match[1], int(match[2])) for match in found if match is not None]


def one_of(*choices: str | int) -> Parser:
    """One of a few words or numbers."""

    def parse(value: Any) -> str | int:
        if isinstance(value, bool) or value not in choices:
            raise ValueError(f"unknown value, known are {', '.join(map(str, choices))}")
        found: str | int = value
        return found

    return parse


def unsupported(_value: Any) -> Any:
    """A parameter of the real command that the simulated one does not act on, and therefore refuses."""
    raise ValueError("is not supported by the simulated Lightning network")
