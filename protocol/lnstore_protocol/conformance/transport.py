"""Checks of 01: acts, records, frames, faults, closing."""

from __future__ import annotations

import secrets
from typing import Final

from nacl.bindings import crypto_scalarmult_base

from lnstore_protocol.codec import MAX_TYPE
from lnstore_protocol.conformance.link import (
    PeerClosed,
    PeerSilent,
    frame,
    message_frame,
    raw_frame,
    raw_head,
)
from lnstore_protocol.conformance.node_link import HELLO, NodeLink
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.connection import ACT_BYTES, MAX_PENDING_REQUESTS
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.frames import HEADER
from lnstore_protocol.identity import Identity
from lnstore_protocol.messages import (
    MAX_IDS,
    AccountStatus,
    ErrorReply,
    GetTerms,
    HaveShares,
    Hello,
    HelloReply,
    ListPeers,
    ListPeersReply,
    PutShare,
    Request,
    TermsReply,
)
from lnstore_protocol.noise import Handshake

CHECKS = Checks()

QUIET_SECONDS = 0.1
"""How long is listened for what must not come."""

HANDSHAKE_SECONDS = 12.0
IDLE_SECONDS = 930.0
"""What a node may take to close a connection without handshake, or without traffic, and a bit."""

MALFORMED: Final = ErrorCode.MALFORMED
TOO_LARGE: Final = ErrorCode.TOO_LARGE


# --- acts -------------------------------------------------------------------------------------------------------------


@CHECKS.on("T-W1", "T-W3")
def handshake(trial: Trial) -> None:
    """The node proves the key of its address, with another ephemeral key each time."""
    acts = []
    for _ in range(2):
        link = trial.link(hands=False)
        state = link.handshake()
        acts.append(link.begin(state))
        link.finish(state)
        trial.reply(link, HELLO, HelloReply)
    trial.reached.add("T-W1")
    trial.require("T-W3", acts[0][:32] != acts[1][:32], "two handshakes with the same ephemeral key")


@CHECKS.on("T-W3")
def silence_before_act_1(trial: Trial) -> None:
    """Nothing comes before act 1 is complete; fed byte by byte it is understood as well."""
    link = trial.link(hands=False)
    state = link.handshake()
    act = state.write_message()
    for at in range(len(act) - 1):
        link.send_raw(act[at : at + 1], "a byte of act 1")
    try:
        early = link.receive_raw(1, seconds=QUIET_SECONDS)
    except PeerSilent:
        early = b""
    trial.require("T-W3", not early, "the node sent something before it had all of act 1")
    link.send_raw(act[-1:], "the last byte of act 1")
    link.take_act_2(state)
    link.finish(state)
    trial.reply(link, HELLO, HelloReply)


def _closes_silently(requirement: str, link: NodeLink, after: str) -> None:
    """Require the end of the connection without a byte."""
    try:
        data = link.receive_raw(1)
    except PeerClosed:
        return
    except PeerSilent:
        raise Failed(requirement, f"the connection was not closed after {after}") from None
    raise Failed(requirement, f"the node answered {after} with bytes that begin with {data.hex()}")


@CHECKS.on("T-R2")
def another_nodes_act_1(trial: Trial) -> None:
    """Whoever does not know the node id gets no byte."""
    link = trial.link(hands=False)
    state = link.handshake(crypto_scalarmult_base(secrets.token_bytes(32)))
    link.send_raw(state.write_message(), "act 1 for another key")
    _closes_silently("T-R2", link, "an act 1 for another key")


@CHECKS.on("T-R2")
def damaged_act_1(trial: Trial) -> None:
    """Garbage, a damaged tag and another prologue get no byte."""
    good = bytearray(trial.link(hands=False).handshake().write_message())
    good[-1] ^= 1
    link = trial.link(hands=False)
    other = Handshake(
        initiator=True,
        prologue=b"lnstore/2",
        static_private=link.identity.x25519_private(),
        remote_static=link.handshake().remote_static,
    )
    for act, what in (
        (secrets.token_bytes(ACT_BYTES[0]), "random bytes"),
        (bytes(good), "an act 1 with a damaged tag"),
        (other.write_message(), "an act 1 of another prologue"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".ljust(ACT_BYTES[0], b"\n"), "a request of HTTP"),
    ):
        link = trial.link(hands=False)
        link.send_raw(act, what)
        _closes_silently("T-R2", link, what)


@CHECKS.on("T-R5")
def zero_key_exchange(trial: Trial) -> None:
    """An act 1 whose ephemeral key leads to an all-zero secret is refused, though its tag fits."""
    for point in (bytes(32), b"\1" + bytes(31)):
        link = trial.link(hands=False)
        link.send_raw(_act_1_of_small_order(link, point), "act 1 with a key of small order")
        _closes_silently("T-R5", link, "an act 1 with a key of small order")


def _act_1_of_small_order(link: NodeLink, point: bytes) -> bytes:
    state = link.handshake()
    symmetric = state._state  # noqa: SLF001 - what Handshake, rightly, does not offer
    symmetric.mix_hash(point)
    symmetric.mix_key(bytes(32))
    return point + symmetric.seal(b"")


@CHECKS.on("T-R4", "T-R1")
def act_3_of_another(trial: Trial) -> None:
    """An act 3 that is damaged, or whose account key is not the one of the handshake, gets no byte."""
    for payload, damage, what in (
        (None, 1, "a damaged act 3"),
        (Identity.generate().public_key, 0, "an act 3 that names another account"),
        (b"\1" + bytes(31), 0, "an act 3 that names the neutral point"),
        (b"\xff" * 32, 0, "an act 3 that names no point at all"),
    ):
        link = trial.link(hands=False)
        state = link.handshake()
        link.begin(state)
        act = bytearray(state.write_message(link.identity.public_key if payload is None else payload))
        act[5] ^= damage
        link.install(*state.split())
        hello = message_frame(link.new_id(Hello.TYPE), HELLO)
        link.send_raw(bytes(act) + link.seal(hello), what)
        _closes_silently("T-R4", link, what)
    trial.reached.add("T-R1")


@CHECKS.on("T-R6")
def slow_handshake(trial: Trial) -> None:
    """A connection whose handshake does not come to an end is closed."""
    _needs_wait(trial, HANDSHAKE_SECONDS)
    link = trial.link(hands=False)
    link.begin(link.handshake())
    trial.require("T-R6", link.is_closed_within(HANDSHAKE_SECONDS), "the connection was not closed")


@CHECKS.on("T-R22")
def idle_connection(trial: Trial) -> None:
    """A connection on which nothing happens is closed."""
    _needs_wait(trial, IDLE_SECONDS)
    trial.require("T-R22", trial.link().is_closed_within(IDLE_SECONDS), "the connection was not closed")


def _needs_wait(trial: Trial, seconds: float) -> None:
    if trial.bench.tools.wait_seconds < seconds:
        raise Skipped(f"takes up to {seconds:.0f} s: give --wait {seconds:.0f}")


# --- records ----------------------------------------------------------------------------------------------------------


@CHECKS.on("T-W13", "T-R20", "T-W6", "T-W7", "T-W10")
def byte_by_byte(trial: Trial) -> None:
    """Frames cut into records of one byte, several in one record, and records cut by TCP, are all the same."""
    hello, terms = HELLO, GetTerms()
    for record_bytes in (1, 7, 65519):
        link = trial.link(hello=False)
        ids = [link.new_id(hello.TYPE), link.new_id(terms.TYPE)]
        link.send(message_frame(ids[0], hello), message_frame(ids[1], terms), record_bytes=record_bytes)
        answered = {link.receive_reply().request_id, link.receive_reply().request_id}
        trial.require("T-W13", answered == set(ids), f"requests {ids} were answered {answered}")
    link = trial.link(hello=False)
    record = link.seal(message_frame(link.new_id(hello.TYPE), hello))
    for at in range(len(record)):
        link.send_raw(record[at : at + 1], "a byte of a record")
    link.receive_reply()
    trial.reached.update({"T-W6", "T-W7", "T-W10", "T-R20"})


@CHECKS.on("T-W5")
def records_together_with_act_3(trial: Trial) -> None:
    """Requests that come in one packet with act 3 are answered."""
    link = trial.link(hands=False)
    state = link.handshake()
    link.begin(state)
    link.finish(state, together_with=message_frame(link.new_id(HELLO.TYPE), HELLO))
    link.receive_reply()


@CHECKS.on("T-R10", "T-W15")
def record_that_carries_nothing(trial: Trial) -> None:
    """A record of less than 17 bytes ends the connection without an answer."""
    for length in (0, 1, 16):
        link = trial.link()
        sealed = link.seal(b"")[2:] if length == 16 else bytes(length)
        link.send_raw(length.to_bytes(2, "big") + sealed, f"a record of {length} bytes")
        _closes_silently("T-R10", link, f"a record of {length} bytes")
    trial.reached.add("T-W15")


@CHECKS.on("T-R11", "T-W15")
def record_that_does_not_open(trial: Trial) -> None:
    """A damaged record ends the connection without an answer."""
    link = trial.link()
    record = bytearray(link.seal(message_frame(link.new_id(GetTerms.TYPE), GetTerms())))
    record[-1] ^= 1
    link.send_raw(bytes(record), "a damaged record")
    _closes_silently("T-R11", link, "a damaged record")
    link = trial.link()
    record = bytearray(link.seal(message_frame(link.new_id(GetTerms.TYPE), GetTerms())))
    link.send_raw(bytes(record), "a record")
    link.receive_reply()
    link.send_raw(bytes(record), "the same record again")
    _closes_silently("T-R11", link, "a repeated record")
    trial.reached.add("T-W15")


# --- frames -----------------------------------------------------------------------------------------------------------


@CHECKS.on("T-R12", "T-R14", "T-W14")
def size_limits(trial: Trial) -> None:
    """A head or payload over its type's limit is refused as soon as its first 13 bytes are there."""
    front = raw_head(GetTerms.TYPE, 5, {})
    long_front = raw_head(PutShare.TYPE, 5, {}).ljust(13, b"\0")
    for requirement, head, head_bytes, payload_bytes, what in (
        ("T-R12", front.ljust(13, b"\0"), 1025, 0, "a get_terms with a head of 1025 bytes"),
        ("T-R12", front.ljust(13, b"\0"), (1 << 32) - 1, 0, "a get_terms with a head of 4 GiB"),
        ("T-R12", front, len(front), 1, "a get_terms with a payload"),
        ("T-R12", long_front, 200, (4 << 20) + 1, "a put_share with a payload over 4 MiB"),
        ("T-R12", raw_head(HaveShares.TYPE, 5, {}), 4, MAX_IDS * 32 + 1, "a have_shares with a payload over 512 KiB"),
        ("T-R14", raw_head(1001, 5, {}), 6, 1, "an unknown odd message with a payload"),
        ("T-R14", raw_head(1001, 5, {}).ljust(13, b"\0"), 65537, 0, "an unknown odd message with a head over 64 KiB"),
        ("T-R14", raw_head(1000, 5, {}).ljust(13, b"\0"), 65537, 0, "an unknown even message with a head over 64 KiB"),
    ):
        data = HEADER.pack(head_bytes, payload_bytes) + head
        trial.fault(requirement, data, TOO_LARGE, what=what, request_id=5)
    trial.reached.add("T-W14")


@CHECKS.on("T-R13", "T-W15")
def heads_that_are_none(trial: Trial) -> None:
    """A head that is too short, no array of three, or without a proper type ends the connection."""
    for head, what in ((b"", "an empty head"), (b"\x93\x04\x00", "a head of three bytes")):
        trial.fault("T-R13", frame(head), MALFORMED, what=what, request_id=None, answer=False)
    for head, what in (
        (b"\x92\x04\x05\x80", "a head that is an array of two"),
        (b"\x83\x04\x05\x80", "a head that is a map"),
        (raw_head(-1, 5, {}), "a head with a negative type"),
        (raw_head("hello", 5, {}), "a head whose type is text"),
        (raw_head(MAX_TYPE + 1, 5, {}), "a head with a type above 65535"),
    ):
        trial.fault("T-R13", frame(head), MALFORMED, what=what, request_id=5)


# --- requests and replies ---------------------------------------------------------------------------------------------


@CHECKS.on("T-W13", "M-W3")
def many_requests_at_once(trial: Trial) -> None:
    """As many requests as a client may have unanswered, sent at once: each is answered exactly once."""
    link = trial.link()
    pair: tuple[Request, Request] = (GetTerms(), ListPeers())
    ids = link.send_requests(*pair * (MAX_PENDING_REQUESTS // 2))
    answered = [link.receive_reply() for _ in ids]
    trial.require("T-W13", sorted(a.request_id for a in answered) == ids, "not every request was answered once")
    kinds = {TermsReply.TYPE, ListPeersReply.TYPE, ErrorReply.TYPE}
    trial.require("T-W13", {a.type for a in answered} <= kinds, "an answer of another type")
    trial.goes_on("M-W3", link, "128 requests")


@CHECKS.on("T-W13")
def request_ids_of_any_size(trial: Trial) -> None:
    """Request ids are any numbers up to 2^63-1, in any order."""
    link = trial.link()
    for request_id in ((1 << 63) - 1, 0x80, 0x10000, 7, 1 << 32):
        link.pending[request_id] = GetTerms.TYPE
        link.send(message_frame(request_id, GetTerms()))
        link.answer_to(request_id)
    trial.reached.add("T-W13")


@CHECKS.on("T-R16")
def request_id_in_use(trial: Trial) -> None:
    """A request id that is still in use is a fault."""
    link = trial.link()
    request_id = link.new_id(AccountStatus.TYPE)
    count = 64
    link.send(message_frame(request_id, AccountStatus()) * count)
    answers = 0
    try:
        while answers < count:
            message = link.receive().message
            answers += 1
            if isinstance(message, ErrorReply) and message.code in (MALFORMED, ErrorCode.RATE_LIMITED):
                break
        else:
            raise Skipped("the node answers each request before it reads the next one")
        closed = link.is_closed_within(trial.bench.tools.patience_seconds)
    except PeerClosed:
        closed = True
    except PeerSilent:
        closed = False
    trial.require("T-R16", closed, "the connection goes on after a request id that was in use")


@CHECKS.on("T-R16")
def too_many_requests(trial: Trial) -> None:
    """More than 128 unanswered requests are read later or refused with RATE_LIMITED, never lost."""
    link = trial.link()
    ids = link.send_requests(*[AccountStatus()] * (2 * MAX_PENDING_REQUESTS))
    for _ in ids:
        message = link.receive_reply().message
        if isinstance(message, ErrorReply) and message.code is ErrorCode.RATE_LIMITED:
            closed = link.is_closed_within(trial.bench.tools.patience_seconds)
            trial.require("T-R16", closed, "the connection goes on after too many requests")
            return
    trial.goes_on("T-R16", link, "more requests than may be unanswered")


@CHECKS.on("T-R18")
def message_that_goes_the_other_way(trial: Trial) -> None:
    """A reply, sent to the node, is a fault."""
    for message_type, body in ((ListPeersReply.TYPE, {2: []}), (ErrorReply.TYPE, {2: 1, 4: ""})):
        data = raw_frame(message_type, 5, body)
        trial.fault("T-R18", data, MALFORMED, what=f"a message of type {message_type}", request_id=5)


@CHECKS.on("T-R20", "T-W15")
def end_within_a_frame(trial: Trial) -> None:
    """The end of the stream within an act, a record or a frame gets no answer."""
    for hands, cut in ((False, 20), (True, 10)):
        link = trial.link(hands=hands)
        whole = link.handshake().write_message() if not hands else link.seal(message_frame(5, GetTerms()))
        link.send_raw(whole[:cut], "a part")
        link.end_sending()
        _closes_silently("T-R20", link, "the end of the stream within an act or record")
    link = trial.link()
    link.send(message_frame(5, GetTerms())[:-1])
    link.end_sending()
    _closes_silently("T-R20", link, "the end of the stream within a frame")
    trial.reached.add("T-W15")


@CHECKS.on("T-R20")
def end_between_frames(trial: Trial) -> None:
    """The end of the stream between two frames is the peer's close: the node closes too."""
    link = trial.link()
    link.end_sending()
    _closes_silently("T-R20", link, "the end of the stream between two frames")
