"""The simulated replies fit Core Lightning's own schemas, and have what recorded replies of a real one have.

The schemas and recordings are not part of this repository; where they are not beside it (or where LNSTORE_CLN says),
this is skipped.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import trio

from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.commands import LIGHTNINGD, load
from lnstore.ports import LightningRefused
from tests.unit.lightning.conftest import Alice, eventually

MATERIAL = Path(os.environ.get("LNSTORE_CLN", Path(__file__).resolve().parents[4] / "shared" / "cln"))
pytestmark = pytest.mark.skipif(not MATERIAL.is_dir(), reason=f"no Core Lightning schemas at {MATERIAL}")


ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


def hex_of(size: int) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * size}}}$"}


def unsigned(bits: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": 2**bits - 1}


TYPES: dict[str, dict[str, Any]] = {
    "hex": {"type": "string", "pattern": "^([0-9a-f]{2})*$"},
    "hash": hex_of(32),
    "txid": hex_of(32),
    "secret": hex_of(32),
    "pubkey": {"type": "string", "pattern": "^0[23][0-9a-f]{64}$"},
    "signature": {"type": "string", "pattern": "^30[0-9a-f]+$"},
    "bip340sig": hex_of(64),
    "point": {"type": "string", "pattern": "^0[23][0-9a-f]{64}$"},
    "short_channel_id": {"type": "string", "pattern": "^[0-9]+x[0-9]+x[0-9]+$"},
    "msat": unsigned(64),
    "u8": unsigned(8),
    "u16": unsigned(16),
    "u32": unsigned(32),
    "u64": unsigned(64),
}
PLAIN = {"string", "boolean", "integer", "number", "object", "array"}
LIGHTNINGD_ONLY = {"added", "deprecated", "pre_return_value_notes", "post_return_value_notes", "description"}


def convert(schema: Any) -> Any:
    """Lightningd's schema dialect as JSON Schema."""
    if isinstance(schema, list):
        return [convert(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    converted: dict[str, Any] = {}
    for key, value in schema.items():
        if key in {"properties", "patternProperties"}:
            converted[key] = {name: convert(entry) for name, entry in value.items()}
        elif key not in LIGHTNINGD_ONLY and key != "type":
            converted[key] = convert(value)
    if isinstance(kind, str):
        if kind in TYPES:
            return {"allOf": [TYPES[kind], *([converted] if converted else [])]}
        assert kind in PLAIN, f"a type of lightningd's that is not converted: {kind}"
        converted["type"] = kind
    return converted


def check(command: str, reply: dict[str, Any]) -> None:
    schema = json.loads((MATERIAL / "schemas" / f"{command}.json").read_text())["response"]
    jsonschema.validate(reply, convert(schema))


def keys(value: Any, prefix: str = "") -> set[str]:
    """All keys of a reply, with where they are; the entries of a list count as one."""
    if isinstance(value, dict):
        return {name for key, entry in value.items() for name in ({prefix + key} | keys(entry, f"{prefix}{key}."))}
    if isinstance(value, list):
        return {name for entry in value for name in keys(entry, prefix)}
    return set()


def recorded(name: str) -> Any:
    return json.loads((MATERIAL / "recorded" / f"{name}.json").read_text())


NOT_SHOWN = {
    "channels.funding.psbt",  # there is no partially signed transaction behind a simulated channel
    "channels.last_stable_connection",
}


async def test_replies_fit_the_schemas(alice: Alice) -> None:
    """Every command we answer answers as Core Lightning's schema of it says."""
    preimage = os.urandom(32)
    label = preimage.hex()
    a, b = alice.a, alice.b
    place = (await b.info()).addresses[0]

    asked: set[str] = set()

    async def ask(daemon: Any, command: str, **params: Any) -> dict[str, Any]:
        reply: dict[str, Any] = await daemon.call(command, **params)
        check(command, reply)
        asked.add(command)
        return reply

    await ask(a, "getinfo")
    await ask(a, "connect", id=alice.b_id.hex(), host=place[0], port=place[1])
    await ask(a, "newaddr")
    await ask(a, "newaddr", addresstype="p2tr")
    await ask(a, "listpeers")
    funded = await ask(a, "fundchannel", id=alice.b_id.hex(), amount=200_000, push_msat=1_000_000, announce=False)
    await ask(a, "listfunds")
    await ask(a, "listpeerchannels")
    await ask(a, "waitblockheight", blockheight=1)
    bolt11 = (await ask(b, "invoice", amount_msat=2500, label=label, description="rent", preimage=preimage.hex()))[
        "bolt11"
    ]
    await ask(b, "invoice", amount_msat="any", label=label + "any", description="x" * 700, deschashonly=True)
    await ask(b, "listinvoices")
    await ask(a, "decode", string=bolt11)
    await alice.network.fault("hold_payment", alice.a_name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ask(a, "xpay", invstring=bolt11))

        async def sent() -> bool:
            return bool((await ask(a, "listpays", bolt11=bolt11))["pays"])

        await eventually(sent)
        await ask(a, "listpeerchannels")
        await ask(b, "listpeerchannels")
        await alice.network.release(alice.a_name)
    await ask(a, "listpays", bolt11=bolt11)
    await ask(a, "pay", bolt11=bolt11)
    await ask(b, "waitanyinvoice", lastpay_index=0)
    await ask(b, "waitinvoice", label=label)
    await ask(b, "listinvoices", label=label)
    await ask(b, "delinvoice", label=label, status="paid", desconly=True)
    await ask(b, "delinvoice", label=label, status="paid")
    await ask(b, "delinvoice", label=label + "any", status="unpaid")
    await alice.network.fault("fail_payment", alice.a_name)
    refused = (await ask(b, "invoice", amount_msat=1, label=label + "no", description="x"))["bolt11"]
    with pytest.raises(LightningRefused):
        await a.call("xpay", invstring=refused)
    assert (await ask(a, "listpays", bolt11=refused))["pays"][0]["status"] == "failed"
    zbase = (await ask(a, "signmessage", message="x"))["zbase"]
    signer = (await a.info()).lightning_id.hex()
    await ask(b, "checkmessage", message="x", zbase=zbase, pubkey=signer)  # for `false` the schema has no room
    await ask(a, "listpeerchannels")
    await ask(a, "feerates", style="perkw")
    await ask(a, "feerates", style="perkb")
    await alice.network.allow_zero_conf(alice.b_name)
    await ask(a, "fundchannel", id=alice.b_id.hex(), amount=100_000, mindepth=0)
    await ask(a, "listpeerchannels")
    await ask(a, "splicein", channel=funded["channel_id"], amount="50000")
    await ask(a, "listpeerchannels")
    await ask(b, "listpeerchannels")

    async def in_force() -> bool:
        return all(not entry.get("inflight") for entry in (await ask(a, "listpeerchannels"))["channels"])

    await eventually(in_force)
    await ask(a, "close", id=funded["channel_id"], unilateraltimeout=5)
    await ask(a, "listpeerchannels")
    await ask(a, "listfunds", spent=True)
    await ask(a, "disconnect", id=alice.b_id.hex(), force=True)
    await ask(a, "listpeers")
    load()
    assert asked == {name for name in LIGHTNINGD if (MATERIAL / "schemas" / f"{name}.json").exists()}


async def test_replies_have_what_recorded_ones_have(alice: Alice) -> None:
    """No key of a recorded reply is missing in the simulated one (but for a few that need real transactions)."""
    a, b = alice.a, alice.b
    invoice = await b.call("invoice", amount_msat=2500, label="recorded", description="rent")
    held = await b.call("invoice", amount_msat=2600, label="held", description="rent")
    pairs = [
        ("getinfo", await a.call("getinfo")),
        ("invoice", invoice),
        ("listpeerchannels_normal", await a.call("listpeerchannels")),
        ("xpay_ok", await a.call("xpay", invstring=invoice["bolt11"])),
        ("pay_ok", await a.call("pay", bolt11=invoice["bolt11"])),
        ("ok_pay_default_second_time", await a.call("pay", bolt11=invoice["bolt11"])),
        ("listpays_complete", await a.call("listpays", bolt11=invoice["bolt11"])),
        ("listinvoices_paid", await b.call("listinvoices", label="recorded")),
        ("waitanyinvoice", await b.call("waitanyinvoice", lastpay_index=0)),
        ("signmessage", await a.call("signmessage", message="x")),
    ]
    await alice.network.fault("hold_payment", alice.a_name)
    with trio.move_on_after(0.1):
        await a.call("xpay", invstring=held["bolt11"])
    pairs += [
        ("e_xpay_listpays_pending", await a.call("listpays", bolt11=held["bolt11"])),
        ("listpeerchannels_with_htlc", await a.call("listpeerchannels")),
    ]
    await alice.network.release(alice.a_name)
    await alice.network.fund(alice.a_name, 1_000_000)
    pairs.append(("fundchannel", await a.call("fundchannel", id=alice.b_id.hex(), amount=100_000)))
    for name, reply in pairs:
        assert keys(recorded(name)) - keys(reply) <= NOT_SHOWN, name


async def refusal(socket: Path, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The error object of a command that is refused."""
    async with await trio.open_unix_socket(str(socket)) as stream:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        await stream.send_all(json.dumps(request).encode())
        answer = b""
        while not answer.endswith(b"\n\n"):
            answer += await stream.receive_some()
    error: dict[str, Any] = json.loads(answer)["error"]
    return error


async def same_refusal(name: str, socket: Path, method: str, params: dict[str, Any]) -> None:
    theirs, simulated = recorded(f"err_{name}"), await refusal(socket, method, params)
    assert simulated["code"] == theirs["code"], (name, simulated)
    assert keys(simulated.get("data")) == keys(theirs.get("data")), (name, simulated)
    assert wording(simulated["message"]) == wording(theirs["message"]), (name, simulated)


def wording(message: str) -> str:
    """A message without what differs from case to case: numbers, keys, quoted tokens, and what comes after a comma."""
    return re.sub(r"'[^']*'|[0-9a-f]{64,}|[0-9.]+", "#", message).partition(", ")[0].strip()


async def test_errors_have_what_recorded_ones_have(alice: Alice) -> None:
    """Code, words and the keys of the data of recorded errors."""
    a, b, ours = (
        alice.network.socket(alice.a_name),
        alice.network.socket(alice.b_name),
        (await alice.a.info()).lightning_id.hex(),
    )
    peer = alice.b_id.hex()
    stranger = "0341e8aef083a2f49650597f2ff96cfcc004437b63f024eb238fe359ec8a6f752c"
    port = (await alice.b.info()).addresses[0][1]
    invoice: dict[str, Any] = {"amount_msat": 1000, "description": "x"}
    preimage = "11" * 32
    bolt11 = (await alice.b.call("invoice", label="taken", preimage=preimage, **invoice))["bolt11"]
    gift = (await alice.b.call("invoice", label="any", amount_msat="any", description="x"))["bolt11"]
    large = (await alice.b.call("invoice", label="large", amount_msat=1_500_000_001, description="x"))["bolt11"]
    above = (await alice.b.call("invoice", label="above", amount_msat=990_000_000, description="x"))["bolt11"]
    lonely = await alice.network.add_node(f"lonely-{alice.a_name}")
    unknown = (await CoreLightning(lonely).call("invoice", label="unknown", **invoice))["bolt11"]
    late = (await alice.b.call("invoice", label="late", expiry=0, **invoice))["bolt11"]
    forgotten = (await alice.b.call("invoice", label="forgotten", **invoice))["bolt11"]
    await alice.b.call("delinvoice", label="forgotten", status="unpaid")
    await trio.sleep(1.01)  # invoices expire by whole seconds
    zbase = (await CoreLightning(lonely).call("signmessage", message="x"))["zbase"]
    cases: dict[str, tuple[Path, str, dict[str, Any]]] = {
        "amount_given_for_fixed": (a, "xpay", {"invstring": bolt11, "amount_msat": 2000}),
        "amount_missing_any_invoice": (a, "xpay", {"invstring": gift}),
        "bad_bolt11": (a, "xpay", {"invstring": "lnbcrtgarbage"}),
        "bad_bolt11_pay": (a, "pay", {"bolt11": "lnbcrtgarbage"}),
        "checkmessage_garbage": (a, "checkmessage", {"message": "x", "zbase": "!!", "pubkey": ours}),
        "checkmessage_unknown_node": (a, "checkmessage", {"message": "x", "zbase": zbase}),
        "close_unknown": (a, "close", {"id": "11" * 32}),
        "connect_refused": (a, "connect", {"id": stranger, "host": "127.0.0.1", "port": 1}),
        "connect_unknown": (a, "connect", {"id": "02" + "11" * 32}),
        "connect_unknown_valid_id": (a, "connect", {"id": stranger}),
        "connect_wrong_id": (a, "connect", {"id": stranger, "host": "127.0.0.1", "port": port}),
        "delinvoice_unknown": (b, "delinvoice", {"label": "nobody", "status": "unpaid"}),
        "delinvoice_wrong_status": (b, "delinvoice", {"label": "taken", "status": "paid"}),
        "disconnect_unknown": (a, "disconnect", {"id": stranger}),
        "fundchannel_all_used": (a, "fundchannel", {"id": peer, "amount": 500_000_000}),
        "fundchannel_no_funds": (lonely, "fundchannel", {"id": peer, "amount": 100_000}),
        "fundchannel_tiny": (a, "fundchannel", {"id": peer, "amount": 1000}),
        "fundchannel_unknown_peer": (a, "fundchannel", {"id": stranger, "amount": 100_000}),
        "invoice_bad_preimage": (b, "invoice", {"label": "p", "preimage": "00", **invoice}),
        "invoice_dup_label": (b, "invoice", {"label": "taken", **invoice}),
        "invoice_dup_preimage": (b, "invoice", {"label": "q", "preimage": preimage, **invoice}),
        "invoice_negative": (b, "invoice", {"label": "r", **invoice, "amount_msat": -1}),
        "missing_param": (b, "invoice", {"label": "s", "description": "x"}),
        "pay_above_spendable_below_capacity": (a, "pay", {"bolt11": above}),
        "pay_expired": (a, "pay", {"bolt11": late}),
        "pay_no_route": (a, "pay", {"bolt11": unknown}),
        "unknown_command": (a, "nosuch", {}),
        "unknown_param": (b, "invoice", {"label": "t", "zzz": 1, **invoice}),
        "waitanyinvoice_timeout": (b, "waitanyinvoice", {"lastpay_index": 0, "timeout": 0}),
        "waitinvoice_expired": (b, "waitinvoice", {"label": "late"}),
        "waitinvoice_unknown": (b, "waitinvoice", {"label": "nobody"}),
        "withdraw_too_much": (a, "withdraw", {"destination": ADDRESS, "satoshi": "10000000000"}),
        "xpay_above_spendable_below_capacity": (a, "xpay", {"invstring": above}),
        "xpay_expired": (a, "xpay", {"invstring": late}),
        "xpay_maxdelay": (a, "xpay", {"invstring": bolt11, "maxdelay": 1}),
        "xpay_no_route": (a, "xpay", {"invstring": unknown}),
        "xpay_payment_hash_only_after_delinvoice": (a, "xpay", {"invstring": forgotten}),
    }
    for name, case in cases.items():
        await same_refusal(name, *case)
    await alice.a.call("fundchannel", id=peer, amount=500_000)

    async def two_channels() -> bool:
        return sum(channel.usable for channel in await alice.a.channels()) == 2

    await eventually(two_channels)
    await same_refusal("xpay_insufficient_outbound", a, "xpay", {"invstring": large})
    await same_refusal("pay_insufficient_outbound", a, "pay", {"bolt11": large})


def test_recorded_invoices_decode() -> None:
    """The invoices of a real Core Lightning decode to what it said of them."""
    from lnstore.lightning.simulated import bolt11  # noqa: PLC0415  slow to import, and only needed here

    for name in ("invoice", "ok_invoice_exceeds_inbound", "ok_invoice_no_capacity"):
        reply = recorded(name)
        decoded = bolt11.decode(reply["bolt11"])
        assert decoded.payment_hash == reply["payment_hash"]
        assert decoded.payment_secret == reply["payment_secret"]
        assert decoded.expires_at == reply["expires_at"]
    (entry,) = recorded("listpays_complete")["pays"]
    decoded = bolt11.decode(entry["bolt11"])
    assert (decoded.payee, decoded.amount_msat) == (entry["destination"], entry["amount_msat"])


def test_recorded_signature() -> None:
    """The zbase32 text of a real signature is its recovery byte and its 64 bytes."""
    from pyln.proto import zbase32  # noqa: PLC0415

    reply = recorded("signmessage")
    assert zbase32.decode(reply["zbase"]).hex() == f"{31 + int(reply['recid'], 16):02x}{reply['signature']}"
