"""Frozen configuration of a node and of a client profile, read from TOML and validated once.

The commented files that `lnstore node init` and `lnstore init` write come from the same tables that reading uses, so
they name every setting. ConfigError says which setting is wrong, and what it takes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, Self

from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol.terms import CURRENCY, FIAT_AMOUNT, WHOLE_PERMILLE, ChannelPolicy

NODE_FILE = "node.toml"
CLIENT_FILE = "client.toml"


class ConfigError(LnstoreError):
    """The configuration cannot be used; the text says what to change."""

    exit_code = ExitCode.CONFIGURATION


class Admission(Enum):
    """Who may open an account: anybody, or whoever has an invitation, was allowed, or had an account before."""

    OPEN = "open"
    INVITED = "invited"


# --- values as people write them -----------------------------------------------------------------------------------

_BYTE_UNITS = {"": 1, "B": 1, **{f"{p}iB": 1 << 10 * (i + 1) for i, p in enumerate("KMGT")}}
_BYTE_UNITS |= {f"{p}B": 1000 ** (i + 1) for i, p in enumerate(["k", "M", "G", "T"])}
_SECOND_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_bytes(value: str | int) -> int:
    """`20GiB`, `1.5 TB`, `4096` as bytes; ValueError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(value))
    if match is None or match[2] not in _BYTE_UNITS:
        raise ValueError(f"{value!r} is not a size; write for example 512MiB or 20GiB")
    return int(float(match[1]) * _BYTE_UNITS[match[2]]) if "." in match[1] else int(match[1]) * _BYTE_UNITS[match[2]]


def parse_seconds(value: str | int) -> int:
    """`30d`, `12h`, `90m`, `45s` or whole seconds; ValueError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+)\s*([smhd]?)\s*", str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a length of time; write for example 30d, 12h or 45s")
    return int(match[1]) * _SECOND_UNITS[match[2] or "s"]


def _natural(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a whole number of 0 or more")
    return value


def _budget(value: Any) -> int | None:
    try:
        return None if value == "none" else _natural(value)
    except ValueError:
        raise ValueError(f'{value!r} is neither a whole number of msat nor "none"') from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text in quotes")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{value!r} is not a list of texts")
    return tuple(value)


def _policy(value: Any) -> ChannelPolicy:
    try:
        return ChannelPolicy[str(value).upper()]
    except KeyError:
        raise ValueError(f"{value!r} is not one of any, preferred, required") from None


def _admission(value: Any) -> Admission:
    try:
        return Admission(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not one of open, invited") from None


def _decimal(value: Any) -> str:
    if value and (not isinstance(value, str) or not FIAT_AMOUNT.fullmatch(value) or not float(value)):
        raise ValueError(f'{value!r} is not an amount above 0 in quotes, such as "1.50"')
    return str(value)


def _optional_path(value: Any) -> Path | None:
    return Path(_text(value)).expanduser() if value else None


def _setting(parse: Callable[[Any], Any], default: Any, comment: str) -> Any:
    """A field that reads with `parse`; `default` is written as in TOML, `comment` explains it in the file."""
    return field(default=parse(default), metadata={"parse": parse, "written": default, "comment": comment})


def _table(of: type[Any], comment: str) -> Any:
    """A field whose settings are a table of their own in the file; the last ones of a class."""
    return field(default_factory=of, metadata={"table": of, "comment": comment})


def _read_settings(of: type[Any], table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of a class's settings in a table; ConfigError names the first that is unknown or wrong."""
    settings = {f.name: f.metadata for f in fields(of) if f.metadata}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in settings:
            raise ConfigError(f"{where}: there is no setting {name!r}; known are {', '.join(sorted(settings))}")
        if (inner := settings[name].get("table")) is not None:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {name} is a table; write its settings below a line [{name}]")
            values[name] = inner(**_read_settings(inner, value, f"{where}: [{name}]"))
            continue
        try:
            values[name] = settings[name]["parse"](value)
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"{where}: {name}: {exc}") from exc
    return values


def _written_settings(of: type[Any], values: Mapping[str, Any]) -> list[str]:
    """The lines of a commented TOML file, with `values` in place of defaults; tables come last."""
    lines: list[str] = []
    for f in fields(of):
        if not f.metadata:
            continue
        lines += [f"# {line}" for line in f.metadata["comment"].splitlines()]
        if "table" in f.metadata:
            lines += [f"[{f.name}]", *_written_settings(f.metadata["table"], values.get(f.name, {}))]
        else:
            lines += [f"{f.name} = {_toml(values.get(f.name, f.metadata['written']))}", ""]
    return lines


@dataclass(frozen=True, slots=True)
class _Config:
    directory: Path

    @classmethod
    def _read(cls, path: Path, missing: str) -> Self:
        try:
            table = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise ConfigError(f"there is no {path}; {missing}") from None
        except OSError as exc:
            raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{path} is not valid TOML: {exc}") from exc
        return cls._from_table(path, table)

    @classmethod
    def _from_table(cls, path: Path, table: Mapping[str, Any]) -> Self:
        values = _read_settings(cls, table, str(path))
        return cls(directory=path.parent, **values)

    @classmethod
    def template(cls, **values: Any) -> str:
        """The commented TOML file, with `values` in place of defaults."""
        return "\n".join(_written_settings(cls, values))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- the node ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeConfig(_Config):
    """A storage node's settings; `directory` holds the file, the key, the books and the shares."""

    listen_host: str = _setting(
        _text, "127.0.0.1", "Where clients connect. Listen on 0.0.0.0 to be reached from outside."
    )
    listen_port: int = _setting(_natural, 7460, "0 lets the system choose; the address is printed at start.")
    announce_host: str = _setting(_text, "", "The host that clients are told; empty: listen_host.")
    lightning_rpc: Path = _setting(
        lambda v: Path(_text(v)).expanduser(),
        "~/.lightning/bitcoin/lightning-rpc",
        "The JSON-RPC socket of this node's Core Lightning daemon.",
    )
    capacity: int = _setting(parse_bytes, "100GiB", "How much may be rented out in all.")
    minimum_account: int = _setting(parse_bytes, "1MiB", "The least and the most one account may rent.")
    maximum_account: int = _setting(parse_bytes, "10TiB", "")
    price_msat_per_gib_month: int = _setting(_natural, 2000, "Rent per GiB and 30 days, in msat.")
    egress_msat_per_gib: int = _setting(_natural, 1000, "Reading, per GiB, paid from an account's deposit.")
    ingress_msat_per_gib: int = _setting(_natural, 0, "Writing, per GiB, paid from an account's deposit.")
    fiat_currency: str = _setting(
        _text,
        "",
        "A currency, such as EUR, that new agreements' rent is pinned to in place of price_msat_per_gib_month: the\n"
        "price is computed from the rate when terms are made. Agreements that there are never change by a rate.",
    )
    fiat_per_tib_month: str = _setting(_decimal, "", 'Rent for 1 TiB and 30 days in that currency, such as "1.50".')
    fiat_per_bitcoin: str = _setting(_decimal, "", 'The rate, if you set it yourself: what 1 bitcoin costs, "95000".')
    fiat_rate_command: tuple[str, ...] = _setting(
        _texts, [], "Or a command, word for word, that prints such a number and nothing else; 30 seconds are its limit."
    )
    fiat_rate_every: int = _setting(parse_seconds, "1h", "The command is run at most this often.")
    fiat_rate_too_old: int = _setting(
        parse_seconds, "2d", "With no rate for so long no new terms are offered; what was agreed goes on."
    )
    fiat_rate_maximum_change_percent: int = _setting(
        _natural, 20, "A rate that jumps by more is not taken, and the log says so."
    )
    fiat_announce_percent: int = _setting(
        _natural, 10, "Pinned prices are announced to change when they differ by more than this from what was agreed."
    )
    price_periods: int = _setting(
        _natural,
        12,
        "For how many periods an agreement's prices hold. A change is announced a whole period ahead, never for a\n"
        "period before their end, and every client has to sign it (docs/guides/node.md).",
    )
    period: int = _setting(parse_seconds, "30d", "One rent payment per period.")
    grace: int = _setting(parse_seconds, "7d", "How long after a missed payment shares are kept; no writes meanwhile.")
    refund_permille: int = _setting(
        _natural,
        0,
        "How many thousandths of what a client has paid ahead it gets back, to its deposit, when it leaves early.",
    )
    channel_policy: ChannelPolicy = _setting(
        _policy,
        "preferred",
        "Which way rent is to come. any: over whatever route. preferred: clients whose rent would fill a channel of\n"
        "minimum_channel_sat open one to you, small ones pay over routes. required: only over a direct channel.",
    )
    minimum_channel_sat: int = _setting(_natural, 100_000, "The smallest Lightning channel you want opened to you.")
    accounts: Admission = _setting(
        _admission,
        "open",
        "Who may open an account. open: anybody. invited: who has an invitation (lnstore node invite) or was allowed\n"
        "(lnstore node accounts allow). Accounts that are there go on either way.",
    )
    terms_valid: int = _setting(parse_seconds, "7d", "For how long a client may take up the terms it was told.")
    maximum_connections: int = _setting(_natural, 1000, "Connections at once; further ones are refused.")
    maximum_connections_per_address: int = _setting(
        _natural, 200, "The same for one address (IPv6: one /64). Clients behind one router share an address."
    )
    rate_limit_percent: int = _setting(
        _natural,
        100,
        "How often a client may ask for what it does not pay for, in percent of the built-in limits, which no honest\n"
        "client meets (docs/guides/node.md). 0: as often as it likes.",
    )
    unpaid_accounts: int = _setting(
        _natural,
        1000,
        "How many accounts that never paid anything are kept, in all and opened from one address, for how long, and\n"
        "what percentage of the free capacity they may reserve by asking for it, half of it from one address\n"
        "(200: no bound).",
    )
    unpaid_accounts_per_address: int = _setting(_natural, 50, "")
    unpaid_account_time: int = _setting(parse_seconds, "1d", "")
    unpaid_growth_percent: int = _setting(_natural, 80, "")
    memory_budget: int = _setting(
        parse_bytes, "128MiB", "For requests in flight; reading from clients waits beyond it."
    )
    peers: tuple[str, ...] = _setting(_texts, [], "Other nodes to recommend to clients (lnstore://…).")
    log_level: str = _setting(_text, "info", "debug, info, warning or error.")
    clock_file: Path | None = _setting(
        _optional_path, "", "Only for development networks: a file that steers the clock. Leave empty."
    )

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The configuration in `directory`; ConfigError names the first thing that is wrong."""
        config = cls._read(directory / NODE_FILE, f"make one with: lnstore node init {directory}")
        if config.period < 1 or config.price_periods < 1 or config.minimum_account > config.maximum_account:
            raise ConfigError(
                f"{directory / NODE_FILE}: period must be at least 1s, price_periods at least 1, and minimum_account "
                "at most maximum_account"
            )
        if config.refund_permille > WHOLE_PERMILLE:
            raise ConfigError(f"{directory / NODE_FILE}: refund_permille is at most {WHOLE_PERMILLE}")
        _check_pin(config, directory / NODE_FILE)
        return config


def _check_pin(config: NodeConfig, path: Path) -> None:
    """ConfigError unless the settings of a pinned price are all there, or none is."""
    rates = bool(config.fiat_per_bitcoin) + bool(config.fiat_rate_command)
    if not config.fiat_currency and not config.fiat_per_tib_month and not rates:
        return
    if not CURRENCY.fullmatch(config.fiat_currency) or not config.fiat_per_tib_month or rates != 1:
        raise ConfigError(
            f"{path}: a pinned price needs fiat_currency (3 to 8 letters A-Z), fiat_per_tib_month, and either "
            "fiat_per_bitcoin or fiat_rate_command"
        )


# --- the client -------------------------------------------------------------------------------------------------


def _interval(value: Any) -> int:
    seconds = parse_seconds(value)
    if not seconds:
        raise ValueError(f"{value!r} is no time at all; write for example 12h")
    return seconds


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """How the agent of a profile works (docs/guides/agent.md)."""

    rent_every: int = _setting(
        _interval, "12h", "How often rent is looked after; oftener where a node's periods are short."
    )
    audit_every: int = _setting(
        _interval, "1d", "How often each node has to show so many shares, drawn at random, and of how many it is read."
    )
    audit_shares: int = _setting(_natural, 32, "")
    audit_reads: int = _setting(_natural, 2, "")
    repair_every: int = _setting(_interval, "1d", "How often repair is tried again; a new loss is seen to at once.")
    repair_below: int = _setting(
        _natural,
        3,
        "A file is repaired once fewer than so many more shares of one of its segments may be lost, and once any is\n"
        "lost of a file that cannot spare so many when it is whole.",
    )
    gone_after: int = _setting(
        parse_seconds,
        "14d",
        "What a node holds counts as lost once it has not answered for so long while others did. 0: never.",
    )
    backup_every: int = _setting(_interval, "1d", "How often the catalog is stored on the nodes.")
    hook: tuple[str, ...] = _setting(
        _texts,
        [],
        "A command, word for word, that is run when something needs you and when it does not any more: JSON on its\n"
        "standard input, LNSTORE_ALERT_… in its environment, 30 seconds.",
    )


@dataclass(frozen=True, slots=True)
class ClientConfig(_Config):
    """A client profile's settings; `directory` holds the file, the account key and the catalog."""

    lightning_rpc: Path = _setting(
        lambda v: Path(_text(v)).expanduser(),
        "~/.lightning/bitcoin/lightning-rpc",
        "The JSON-RPC socket of your Core Lightning daemon.",
    )
    needed: int = _setting(
        _natural,
        3,
        "Any `needed` of `total` shares give the file back; a put succeeds once each\n"
        "segment lies on at least `happy` different nodes.",
    )
    total: int = _setting(_natural, 5, "")
    happy: int = _setting(_natural, 4, "")
    maximum_msat_per_gib_month: int = _setting(_natural, 20_000, "Never pay more rent than this.")
    maximum_msat_per_gib_read: int = _setting(_natural, 10_000, "Never pay more for reading than this, per GiB.")
    maximum_msat_per_gib_written: int = _setting(_natural, 0, "Never pay more for writing than this, per GiB.")
    budget_msat_per_node_month: int | None = _setting(
        _budget,
        "none",
        "Budgets, in msat, that all payments together never exceed, fees included: for each node and calendar month\n"
        "(UTC), for all nodes and a month, and ever. 0: nothing may be paid.",
    )
    budget_msat_per_month: int | None = _setting(_budget, "none", "")
    budget_msat_total: int | None = _setting(_budget, "none", "")
    maximum_fee_percent: int = _setting(
        _natural, 1, "Routing fees, in percent of a payment (at least 1 sat is allowed)."
    )
    channel_periods: int = _setting(_natural, 6, "Channels are opened with room for this many periods of rent.")
    maximum_opening_percent: int = _setting(
        _natural, 5, "Never open or enlarge a channel while the on-chain fee is more than this percentage of it."
    )
    automatic_top_up: bool = _setting(
        _switch,
        False,  # noqa: FBT003 - the value of a setting
        "Whether `lnstore rent pay` and the agent add to a channel that cannot pay the next rent, or only say so.",
    )
    zero_conf: bool = _setting(
        _switch,
        False,  # noqa: FBT003 - the value of a setting
        "Ask for channels that are usable before their funding has a block. Without effect at a node whose Lightning\n"
        "daemon does not allow that to yours (docs/guides/node.md).",
    )
    clock_file: Path | None = _setting(
        _optional_path, "", "Only for development networks: a file that steers the clock. Leave empty."
    )

    agent: AgentConfig = _table(AgentConfig, "What `lnstore agent` does.")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The profile in `directory`; ConfigError names the first thing that is wrong."""
        config = cls._read(directory / CLIENT_FILE, f"make one with: lnstore init --profile {directory}")
        if not 1 <= config.needed <= config.happy <= config.total <= 256:
            raise ConfigError(f"{directory / CLIENT_FILE}: 1 ≤ needed ≤ happy ≤ total ≤ 256 must hold")
        return config
