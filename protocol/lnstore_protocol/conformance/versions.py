"""Checks of 02: versions, features, hello, and what a stranger may ask."""

from __future__ import annotations

import dataclasses
from typing import Final

from lnstore_protocol.conformance.curve import message_signer
from lnstore_protocol.conformance.link import name_of
from lnstore_protocol.conformance.messages import SAMPLES
from lnstore_protocol.conformance.node_link import HELLO
from lnstore_protocol.conformance.tenant import take_terms
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import LightningId, NodeAddress
from lnstore_protocol.messages import (
    ChannelInfo,
    ChannelInfoReply,
    ErrorReply,
    GetTerms,
    HelloReply,
    ListPeers,
    ListPeersReply,
    TermsReply,
)
from lnstore_protocol.terms import binding_text

CHECKS = Checks()


@CHECKS.on("M-R9")
def hello_comes_first(trial: Trial) -> None:
    """Any other request before hello is answered HELLO_REQUIRED, and hello still works then."""
    link = trial.link(hello=False)
    for message in (GetTerms(), ListPeers(), ChannelInfo()):
        trial.refusal("M-R9", link, message, ErrorCode.HELLO_REQUIRED)
    trial.goes_on("M-R9", link, "requests before hello")
    trial.reply(link, GetTerms(), TermsReply)


@CHECKS.on("M-R10")
def other_major_versions(trial: Trial) -> None:
    """A hello of another major version is answered UNSUPPORTED_VERSION and opens nothing."""
    for major in (0, 2, 1 << 40):
        link = trial.link(hello=False)
        hello = dataclasses.replace(HELLO, version_major=major)
        trial.refusal("M-R10", link, hello, ErrorCode.UNSUPPORTED_VERSION)
        trial.refusal("M-R9", link, GetTerms(), ErrorCode.HELLO_REQUIRED)


@CHECKS.on("M-W8")
def other_minor_versions(trial: Trial) -> None:
    """A client of a later minor version is served."""
    for minor in (1, 99):
        link = trial.link(hello=False)
        trial.reply(link, dataclasses.replace(HELLO, version_minor=minor), HelloReply)
        trial.reply(link, GetTerms(), TermsReply)
    trial.reached.add("M-W8")


@CHECKS.on("M-R11")
def unknown_even_features(trial: Trial) -> None:
    """A hello that demands a feature of this world's end is answered UNKNOWN_FEATURE."""
    for features in (b"\x40" + bytes(63), b"\x04" + bytes(7), b"\xff" * 8):
        link = trial.link(hello=False)
        trial.refusal("M-R11", link, dataclasses.replace(HELLO, features=features), ErrorCode.UNKNOWN_FEATURE)
        trial.refusal("M-R9", link, GetTerms(), ErrorCode.HELLO_REQUIRED)


@CHECKS.on("M-R13")
def unknown_odd_features(trial: Trial) -> None:
    """Features that a client merely knows are passed over, leading zero bytes too."""
    for features in (b"\x80" + bytes(63), b"\xaa" * 8, bytes(64)):
        link = trial.link(hello=False)
        trial.reply(link, dataclasses.replace(HELLO, features=features), HelloReply)
        trial.reply(link, GetTerms(), TermsReply)
    trial.reached.add("M-R13")


@CHECKS.on("M-R12", "M-W7")
def hello_reply(trial: Trial) -> None:
    """The reply to hello is of version 1 and demands nothing that version 1.0 lacks."""
    hello = trial.hello()
    trial.require("M-R12", hello.version_major == 1, f"the reply is of version {hello.version_major}")
    bits = int.from_bytes(hello.features, "big")
    even = int.from_bytes(b"\x55" * max(1, len(hello.features)), "big")
    trial.require("M-R12", not bits & even, f"the node demands features: {hello.features.hex()}")
    trial.require("M-W7", not bits & bits >> 1 & even, "both bits of a pair are set")


@CHECKS.on("M-W11", "M-R14")
def lightning_binding(trial: Trial) -> None:
    """The Lightning key signed that this node is paid there."""
    hello = trial.hello()
    text = binding_text(trial.bench.address.node_id, hello.lightning_id)
    try:
        signer = message_signer(text, hello.lightning_signature)
    except ValueError as exc:
        raise Failed("M-W11", f"lightning_signature is no signature: {exc}") from exc
    trial.require("M-W11", signer == hello.lightning_id, f"signed by {signer.hex()}, not by lightning_id")


@CHECKS.on("M-R16")
def clock(trial: Trial) -> None:
    """The node's clock is right to 600 seconds."""
    off = trial.hello().now_at - trial.bench.now()
    trial.require("M-R16", abs(off) <= 600, f"the node's clock is {off} s off")


@CHECKS.on("M-R18")
def a_second_hello(trial: Trial) -> None:
    """A further hello on the same connection is answered as the first."""
    link = trial.link()
    again = trial.reply(link, HELLO, HelloReply)
    first = dataclasses.replace(trial.hello(), now_at=again.now_at)
    trial.require("M-R18", again == first, "the second reply differs from the first")


@CHECKS.on("M-W10")
def requests_right_behind_hello(trial: Trial) -> None:
    """Requests sent before the reply to hello has come are answered."""
    link = trial.link(hello=False)
    ids = link.send_requests(HELLO, GetTerms(), ListPeers())
    for _ in ids:
        received = link.receive_reply()
        text = f"request {received.request_id} was answered {name_of(received.message)}"
        trial.require("M-W10", not isinstance(received.message, ErrorReply), text)


# --- strangers --------------------------------------------------------------------------------------------------------


@CHECKS.on("MA-R1", "MA-W1", "R-R1", "R-R2", "R-R3", "R-R4", "C-R6", "C-W3")
def terms_for_a_stranger(trial: Trial) -> None:
    """A peer without an account gets terms that a client may accept, valid for half of their validity or more."""
    terms = take_terms(trial).terms
    left, whole = terms.valid_until_at - trial.bench.now(), terms.valid_until_at - terms.valid_from_at
    trial.require("MA-W1", 2 * (left + 5) >= whole, f"the terms are valid for {left} of {whole} seconds")
    trial.reached.add("MA-R1")


@CHECKS.on("MA-R22", "MA-R23", "MA-R24", "MA-R30")
def channel_info_for_a_stranger(trial: Trial) -> None:
    """A peer without an account is told how to open a channel."""
    info = trial.reply(trial.link(), ChannelInfo(), ChannelInfoReply)
    trial.require("MA-R23", info.lightning_id == trial.hello().lightning_id, "another Lightning id than hello's")
    for address in info.addresses:
        host, separator, port = address.rpartition(":")
        good = separator and host and port.isdecimal() and 0 < int(port) < 65536
        trial.require("MA-R24", good, f"{address!r} is not host:port")
    said = LightningId(b"\x02" + bytes(32))
    again = trial.reply(trial.link(), ChannelInfo(lightning_id=said), ChannelInfoReply)
    same = (again.lightning_id, again.minimum_sat) == (info.lightning_id, info.minimum_sat)
    trial.require("MA-R30", same, "a stranger that says its Lightning id is told something else")
    trial.reached.update({"MA-R22", "MA-R24"})


@CHECKS.on("MB-R31", "C-W4", "MB-R33")
def peers_for_a_stranger(trial: Trial) -> None:
    """A peer without an account is told the nodes that the operator recommends, as addresses."""
    for peer in trial.reply(trial.link(), ListPeers(), ListPeersReply, "MB-R31").peers:
        try:
            NodeAddress.parse(peer)
        except ValueError as exc:
            raise Failed("C-W4", str(exc)) from exc
    trial.reached.update({"MB-R31", "C-W4", "MB-R33"})


_WITHOUT_ACCOUNT: Final = {"Hello", "GetTerms", "OpenAccount", "ChannelInfo", "GetRecord", "ListPeers"}


@CHECKS.on("MA-R8", "MB-R1", "MA-R12", "MA-R17")
def requests_that_need_an_account(trial: Trial) -> None:
    """Everything else is answered NO_ACCOUNT to a peer without one, before any other work."""
    link = trial.link()
    for cls, body in SAMPLES.items():
        if cls.__name__ in _WITHOUT_ACCOUNT:
            continue
        values = {
            row.name: body[row.metadata["key"]] for row in dataclasses.fields(cls) if row.metadata.get("key") in body
        }
        payload = {"payload": b"x"} if any(row.name == "payload" for row in dataclasses.fields(cls)) else {}
        reply = link.ask(cls(**values, **payload))
        good = isinstance(reply, ErrorReply) and reply.code is ErrorCode.NO_ACCOUNT
        requirement = _ASKED_OF.get(cls.__name__, "MB-R1")
        trial.require(requirement, good, f"{cls.__name__} without an account was answered {name_of(reply)}")


_ASKED_OF: Final = {"AccountStatus": "MA-R8", "AddCapacity": "MA-R12", "RequestInvoice": "MA-R17"}
