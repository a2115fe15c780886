"""A payment that ends between two questions about it is never taken for lost: paying for it again would pay twice."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from lnstore.lightning.core import LOST_SECONDS, CoreLightning
from lnstore.lightning.simulated.server import listen
from lnstore.ports import Outcome, Payment
from lnstore_protocol.ids import Msat

HASH = "aa" * 32
PENDING = {"payment_hash": HASH, "status": "pending", "created_at": int(time.time() - LOST_SECONDS - 60)}
COMPLETE = PENDING | {"status": "complete", "preimage": "bb" * 32, "amount_msat": 5, "amount_sent_msat": 5}
FAILED = PENDING | {"status": "failed"}


async def asked(path: Path, lists: list[dict[str, Any]], ask: str) -> Payment:
    """What the adapter makes of a daemon whose payment is in no channel, and whose list says one thing after another.

    The last thing is what it goes on saying. `ask` is the method; paying is refused as lightningd refuses.
    """
    said = iter(lists)
    last = lists[-1]

    async def answer(stream: trio.SocketStream) -> None:
        async for data in stream:
            request = json.loads(data)
            reply: dict[str, Any]
            match request["method"]:
                case "listpays":
                    reply = {"result": {"pays": [next(said, last)]}}
                case "listpeerchannels":
                    reply = {"result": {"channels": [{"state": "CHANNELD_NORMAL", "htlcs": []}]}}
                case "help":
                    reply = {"result": {"help": []}}
                case _:
                    reply = {"error": {"code": 203, "message": "Destination said it doesn't know invoice"}}
            await stream.send_all(json.dumps({"jsonrpc": "2.0", "id": request["id"], **reply}).encode() + b"\n\n")
            break
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listen(path)])
        lightning = CoreLightning(path, listed_seconds=0.1)
        if ask == "pay":
            payment = await lightning.pay("lnbcrt1", max_fee_msat=Msat(0), retry_for_seconds=1)
        else:
            payment = await lightning.payment("lnbcrt1")
        nursery.cancel_scope.cancel()
    return payment


@pytest.mark.parametrize("ask", ["payment", "pay"])
async def test_settled_between_the_lists(home: Path, ask: str) -> None:
    """Pending in the list, gone from the channels as it was fulfilled meanwhile: settled, with its preimage."""
    payment = await asked(home / "s", [PENDING, COMPLETE], ask)
    assert (payment.outcome, payment.preimage) == (Outcome.SETTLED, b"\xbb" * 32)


async def test_failed_between_the_lists(home: Path) -> None:
    """Gone from the channels as it failed: FAILED, and it may be paid again."""
    payment = await asked(home / "s", [PENDING, FAILED], "payment")
    assert (payment.outcome, payment.unpayable) == (Outcome.FAILED, False)


async def test_refused_and_still_listed(home: Path) -> None:
    """A daemon answers a moment before its list does: the answer's reason, and it may be paid again."""
    payment = await asked(home / "s", [FAILED, PENDING, FAILED], "pay")
    assert (payment.outcome, payment.unpayable) == (Outcome.FAILED, False)
    assert "203" in payment.reason


async def test_pending_for_ever_in_no_channel(home: Path) -> None:
    """What stays as it is was lost."""
    payment = await asked(home / "s", [PENDING], "payment")
    assert (payment.outcome, payment.unpayable) == (Outcome.FAILED, True)
