"""What every Lightning daemon must do: who it is, how it refuses, what it signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pyln.proto import zbase32

from lnstore.ports import LightningRefused

if TYPE_CHECKING:
    from tests.contract.conftest import Pair


async def test_info_says_who_and_where(pair: Pair) -> None:
    """Getinfo gives a regtest node with a version, a height and a place where peers reach it."""
    info = await pair.a.info()
    assert info.network == "regtest"
    assert info.block_height > 100
    assert info.alias == "alice"
    assert info.simulated is pair.simulated
    assert info.synced
    assert info.addresses[0][0] == "127.0.0.1"
    assert info.lightning_id == pair.a_id != pair.b_id


@pytest.mark.parametrize(
    ("method", "params", "code", "words"),
    [
        ("nosuch", {}, -32601, "Unknown command"),
        ("invoice", {"label": "x", "description": "x"}, -32602, "missing required parameter: amount_msat"),
        ("invoice", {"amount_msat": 1, "label": "x", "description": "x", "zzz": 1}, -32602, "unknown parameter: zzz"),
        ("invoice", {"amount_msat": -1, "label": "x", "description": "x"}, -32602, "amount_msat: should be positive"),
        ("invoice", {"amount_msat": 0, "label": "x", "description": "x"}, -32602, "amount_msat: should be positive"),
        (
            "invoice",
            {"amount_msat": 1, "label": [1], "description": "x"},
            -32602,
            "label: should be a string or number",
        ),
        ("invoice", {"amount_msat": 1, "label": "x", "description": "d" * 700}, -32602, "greater than 639 bytes"),
        (
            "invoice",
            {"amount_msat": 1, "label": "x", "description": "x", "preimage": "00"},
            -32602,
            "preimage: should be 64 hex digits",
        ),
        ("invoice", {"amount_msat": 1, "label": "x", "description": "x", "expiry": "x"}, -32602, "expiry: should be"),
        ("listinvoices", {"payment_hash": "00"}, -32602, "payment_hash: should be a 32 byte hex value"),
        ("listinvoices", {"label": "x", "payment_hash": "00" * 32}, -32602, "Can only specify one of"),
        ("connect", {"id": "02" + "11" * 32}, -32602, "id: should be a node id"),
        ("listpeerchannels", {"id": "00"}, -32602, "id: should be a node id"),
        ("decode", {"string": "garbage"}, -32602, "Unparsable string"),
        ("xpay", {"invstring": "lnbcrtgarbage"}, -32602, "Invalid bolt11 invoice: Bad bech32 string"),
        ("pay", {"bolt11": "lnbcrtgarbage"}, -32602, "Invalid bolt11 invoice: Bad bech32 string"),
        ("listpays", {"bolt11": "garbage"}, -32602, "Invalid invstring"),
        ("newaddr", {"addresstype": "zzz"}, -32602, "addresstype"),
        ("close", {"id": "11" * 32}, -32602, "Channel id not found"),
        ("waitblockheight", {"blockheight": 10_000_000, "timeout": 0}, 2000, "Timed out"),
    ],
)
async def test_refusals(pair: Pair, method: str, params: dict[str, Any], code: int, words: str) -> None:
    """Wrong commands and parameters are refused with Core Lightning's code and words."""
    with pytest.raises(LightningRefused) as caught:
        await pair.a.call(method, **params)
    assert caught.value.code == code
    assert words in caught.value.message


async def test_help_knows_what_we_use(pair: Pair) -> None:
    """`help command=` answers for a command that exists and refuses one that does not."""
    assert (await pair.a.call("help", command="xpay"))["help"][0]["command"].startswith("xpay invstring")
    with pytest.raises(LightningRefused) as caught:
        await pair.a.call("help", command="nosuch")
    assert caught.value.code == -32601


async def test_signed_messages(pair: Pair) -> None:
    """What A signs is A's and nobody else's, for this text and no other."""
    zbase = await pair.a.sign_message("the node's terms")
    assert await pair.b.check_message("the node's terms", zbase, pair.a_id)
    assert not await pair.b.check_message("other terms", zbase, pair.a_id)
    assert not await pair.b.check_message("the node's terms", zbase, pair.b_id)
    for claimed, verified in ((pair.a_id, True), (pair.b_id, False)):
        reply = await pair.b.call("checkmessage", message="the node's terms", zbase=zbase, pubkey=claimed.hex())
        assert reply == {"pubkey": pair.a_id.hex(), "verified": verified}  # the key it names is the real signer's


async def test_signature_garbage_is_refused(pair: Pair) -> None:
    """Text that is not a signature is refused by the daemon, and is no signature to the adapter."""
    with pytest.raises(LightningRefused) as caught:
        await pair.a.call("checkmessage", message="x", zbase="!!", pubkey=pair.a_id.hex())
    assert (caught.value.code, caught.value.message) == (-32602, "zbase is not valid zbase32")
    assert not await pair.a.check_message("x", "!!", pair.a_id)


@pytest.mark.parametrize("raw", [bytes(65), b"\x1f" + bytes(64), b"\x1f" + b"\xff" * 64, b"\xff" * 65])
async def test_impossible_signatures_do_not_reach_the_daemon(pair: Pair, raw: bytes) -> None:
    """A text of the right form that no key can have signed is no signature, and the daemon stays up."""
    assert not await pair.a.check_message("x", zbase32.encode(raw).decode(), pair.a_id)
    assert (await pair.a.info()).lightning_id == pair.a_id


async def test_unknown_signer_without_pubkey(pair: Pair) -> None:
    """Without pubkey= a key that gossip does not know is 1301, which is why the adapter does not ask so."""
    stranger = await pair.network.add_node("carol")
    zbase = await stranger.sign_message("hello")
    with pytest.raises(LightningRefused) as caught:
        await pair.a.call("checkmessage", message="hello", zbase=zbase)
    assert caught.value.code == 1301


async def test_waitblockheight(pair: Pair) -> None:
    """A height that is reached is answered at once; a later one when it is mined."""
    height = (await pair.a.info()).block_height
    assert (await pair.a.call("waitblockheight", blockheight=height))["blockheight"] >= height
    mined = await pair.network.mine(1)
    assert (await pair.a.call("waitblockheight", blockheight=mined, timeout=30))["blockheight"] >= mined
