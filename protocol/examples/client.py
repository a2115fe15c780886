"""A client in some 150 lines of blocking code: it opens an account, rents, puts a file as one share, gets it back.

    python client.py lnstore://ID@host:port put FILE --lightning 'lightning-cli --regtest'
    python client.py lnstore://ID@host:port get SHARE_ID --lightning 'lightning-cli --regtest' > FILE

It stores up to 4 MiB as they are: seal what nobody else should read (04-files.md), and remember the share id. The
account is the key in --key, a file that is made when there is none. It pays only what it computes itself (05-rent.md).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from blake3 import blake3

from lnstore_protocol import merkle, proofs
from lnstore_protocol import messages as m
from lnstore_protocol.conformance.curve import message_signer
from lnstore_protocol.connection import NEED_DATA, Connection, HandshakeDone, ReplyReceived, Role
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress, ShareId
from lnstore_protocol.terms import Agreement, SignedTerms, binding_text, rent_msat

MAXIMUM_MSAT_PER_GIB = 20_000
CAPACITY_BYTES = 8 << 20


class Node:
    """A connection to a node, from the handshake on."""

    def __init__(self, stream: socket.socket, address: NodeAddress, key: Identity, lightning: str) -> None:
        self.stream, self.address, self.key, self.lightning = stream, address, key, shlex.split(lightning)
        self.protocol = Connection(Role.CLIENT, key, remote=address.node_id)
        self.stream.sendall(self.protocol.initiate())
        while not isinstance(self.next_event(), HandshakeDone):
            pass
        self.stream.sendall(self.protocol.data_to_send())
        self.hello: m.HelloReply = self.ask(m.Hello(version_major=1, version_minor=0, features=b""))
        if self.hello.version_major != 1 or any(byte & 0x55 for byte in self.hello.features):
            sys.exit("the node speaks another version, or demands a feature that this client lacks")

    def next_event(self) -> Any:
        """The next thing that happened; waits for it."""
        while (event := self.protocol.next_event()) is NEED_DATA:
            data = self.stream.recv(self.protocol.receive_bytes)
            self.protocol.receive_data(data) if data else self.protocol.receive_eof()
        return event

    def ask(self, request: m.Request) -> Any:
        """Its reply to a request, which may be an error."""
        _, chunks = self.protocol.send_request(request)
        for chunk in chunks:
            self.stream.sendall(chunk)
        event = self.next_event()
        return event.message if isinstance(event, ReplyReceived) else sys.exit("the node ended the connection")

    def need(self, request: m.Request) -> Any:
        """Its reply, which must be no error."""
        reply = self.ask(request)
        return sys.exit(f"{reply.code.name}: {reply.message}") if isinstance(reply, m.ErrorReply) else reply

    def run_lightning(self, *words: str) -> Any:
        """What our Lightning daemon says to a command."""
        return json.loads(subprocess.run([*self.lightning, *words], check=True, capture_output=True).stdout)

    def pay(self, reply: m.InvoiceReply, due_msat: int) -> None:
        """Pay an invoice that is this node's and asks for no more than is due (R-R10 to R-R14, M-R14, M-R15)."""
        payee, text = self.hello.lightning_id.hex(), binding_text(self.address.node_id, self.hello.lightning_id)
        # Not by the daemon's checkmessage: some versions of it end at a stranger's text that no key can have signed.
        if message_signer(text, self.hello.lightning_signature).hex() != payee:
            sys.exit("the node's Lightning key did not sign that it is paid there")
        if self.run_lightning("getinfo")["network"] != self.hello.network:
            sys.exit("the node is paid on another network")
        said = self.run_lightning("decode", reply.bolt11)  # refuses invoices of other networks, too
        if not said["valid"] or said["payee"] != payee or not 0 < said["amount_msat"] == reply.amount_msat <= due_msat:
            sys.exit(f"the node asks for {reply.amount_msat} msat where {due_msat} are due, or for somebody else")
        if said["created_at"] + said["expiry"] < time.time() + 30:
            sys.exit("the invoice is about to expire; try again")
        self.run_lightning("xpay", reply.bolt11)


def wait_for(node: Node, field: str, above: int) -> m.AccountStatusReply:
    """The account's status once the node has credited a payment."""
    for _ in range(300):
        status: m.AccountStatusReply = node.need(m.AccountStatus())
        if getattr(status, field) > above:
            return status
        time.sleep(0.1)
    sys.exit("paid, but the node has not credited it yet; run this again later")


def open_account(node: Node) -> m.AccountStatusReply:
    """The account, opened if need be, at prices that we accept (R-R1 to R-R6, MA-R7)."""
    terms = SignedTerms.decode(node.need(m.GetTerms()).terms)
    told = (terms.terms.node_id, terms.terms.lightning_id, terms.terms.network)
    if told != (node.address.node_id, node.hello.lightning_id, node.hello.network):
        sys.exit("the node's terms are not its own")
    if max(terms.terms.price_msat_per_gib_month, terms.terms.egress_msat_per_gib) > MAXIMUM_MSAT_PER_GIB:
        sys.exit("the node is too dear")
    if terms.terms.ingress_msat_per_gib:
        sys.exit("the node takes money for writing, which this example does not pay")
    proposed = Agreement.propose(terms, node.key, int(time.time())).encoded
    agreement = Agreement.decode(node.need(m.OpenAccount(agreement=proposed)).agreement)
    if not agreement.countersigned or agreement.account_id != node.key.public_key:
        sys.exit("the node did not sign our agreement")
    return node.need(m.AccountStatus())  # type: ignore[no-any-return]


def put(node: Node, share: bytes) -> ShareId:
    """Store a share, renting first if there is no room; its id."""
    status = open_account(node)
    terms = Agreement.decode(status.agreement).terms.terms
    if status.capacity_bytes - status.used_bytes < len(share):
        wanted = max(status.capacity_bytes + CAPACITY_BYTES, terms.minimum_capacity_bytes)
        offer = node.need(m.AddCapacity(growth_index=status.growth_index, capacity_bytes=wanted))
        now, added = time.time(), wanted - status.capacity_bytes
        if abs(offer.from_at - now) > 600 or offer.until_at > now + 2 * terms.period_seconds:
            sys.exit("the node wants to be paid for other times than until the end of the period")
        due = rent_msat(added, offer.until_at - offer.from_at, terms.price_msat_per_gib_month)
        node.pay(offer, max(1, due))
        status = wait_for(node, "growth_index", status.growth_index)
    secret = blake3(node.key.seed, derive_key_context="lnstore account secret v1").digest()
    share_id, t = merkle.share_id(share), status.token_index
    keys = proofs.audit_key(secret), proofs.token_key(secret)
    tokens = proofs.make_tokens(share, share_id, *keys, node.address.node_id, t)
    node.need(m.PutShare(share_id=share_id, token_start=t, tokens=tokens, payload=share))
    return share_id


def get(node: Node, share_id: ShareId) -> bytes:
    """A share, verified; pays for the reading what the node says is lacking, up to the price of 4 MiB."""
    status = open_account(node)
    request = m.GetShare(share_id=share_id, offset=0, length=0)
    reply = node.ask(request)
    if isinstance(reply, m.ErrorReply) and reply.amount_msat is not None:
        ask = m.RequestInvoice(
            purpose=m.InvoicePurpose.DEPOSIT, deposit_index=status.deposit_index, amount_msat=reply.amount_msat
        )
        node.pay(node.need(ask), -(-m.MAX_SHARE_BYTES * MAXIMUM_MSAT_PER_GIB >> 30))
        wait_for(node, "deposit_index", status.deposit_index)
        reply = node.need(request)
    elif isinstance(reply, m.ErrorReply):
        sys.exit(f"{reply.code.name}: {reply.message}")
    merkle.verify_range(share_id, reply.share_bytes, reply.offset, reply.payload, reply.proof)
    return bytes(reply.payload) if len(reply.payload) == reply.share_bytes else sys.exit("only a part came")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Puts a file of up to 4 MiB at an lnstore node, and gets it back.")
    parser.add_argument("address", type=NodeAddress.parse, help="lnstore://ID@host:port")
    parser.add_argument("command", choices=["put", "get"])
    parser.add_argument("what", help="the file to put, or the id of the share to get")
    parser.add_argument("--lightning", default="lightning-cli", help="how to call your Lightning daemon")
    parser.add_argument("--key", type=Path, default=Path("account.key"), help="your account's secret key")
    given = parser.parse_args()
    if not given.key.exists():
        os.close(os.open(given.key, os.O_CREAT | os.O_EXCL, 0o600))
        given.key.write_text(Identity.generate().seed.hex())
    key = Identity(bytes.fromhex(given.key.read_text()))
    try:
        with socket.create_connection((given.address.host, given.address.port), timeout=60) as stream:
            node = Node(stream, given.address, key, given.lightning)
            if given.command == "put":
                print(put(node, Path(given.what).read_bytes()))
            else:
                sys.stdout.buffer.write(get(node, ShareId.from_hex(given.what)))
    except (RemoteProtocolError, ValueError, OSError, subprocess.CalledProcessError) as exc:
        sys.exit(f"{given.address}: {exc}")


if __name__ == "__main__":
    main()
