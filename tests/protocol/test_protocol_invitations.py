"""Invitations: signed, readable by whoever gets them, and secret."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lnstore_protocol import bech32m, cbor
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import InvitationSecret, Msat, NodeAddress, NodeId
from lnstore_protocol.invitations import MAX_PLACE_BYTES, Invitation, is_invitation, parse_invitation

NODE = Identity(b"\x01" * 32)
PLAIN = Invitation(
    node_id=NodeId(NODE.public_key), place="[2001:db8::1]:7460", secret=InvitationSecret(b"s" * 16), expires_at=99
)
FULL = replace(
    PLAIN,
    maximum_capacity_bytes=1 << 34,
    price_msat_per_gib_month=Msat(0),
    egress_msat_per_gib=Msat(7),
    price_periods=12,
)


@pytest.mark.parametrize("invitation", [PLAIN, FULL], ids=["plain", "with all conditions"])
def test_what_is_written_is_read(invitation: Invitation) -> None:  # RA-W6, RA-R2
    text = invitation.sign(NODE).to_text()
    assert is_invitation(text)
    read = parse_invitation(f" {text.upper()} ")
    assert read == invitation
    assert (read.to_text(), read.address) == (text, NodeAddress(invitation.node_id, "2001:db8::1", 7460))


def test_the_secret_is_never_printed() -> None:
    signed = FULL.sign(NODE)
    for shown in (repr(signed), str(signed.secret), f"{signed.secret}", repr(signed.secret)):
        assert "s" * 16 not in shown
        assert signed.secret.hex() not in shown
        assert signed.to_text() not in shown


def test_only_the_node_that_is_named_signs_and_only_what_is_signed_is_text() -> None:
    with pytest.raises(ValueError, match="node it names"):
        PLAIN.sign(Identity(b"\x02" * 32))
    with pytest.raises(ValueError, match="signed first"):
        PLAIN.to_text()
    with pytest.raises(ValueError, match="too long"):
        replace(PLAIN, place="n" * MAX_PLACE_BYTES + ":1").sign(NODE)
    with pytest.raises(ValueError, match="not a node address"):
        replace(PLAIN, place="nowhere").sign(NODE)


def test_a_text_that_is_none_is_refused_without_being_repeated() -> None:
    text = FULL.sign(NODE).to_text()
    other = "q" if text[40] != "q" else "p"
    for wrong in ("lnsi1", text[:-1], text[:40] + other + text[41:], "lnsr1" + text[5:], text[:9] + "I" + text[10:]):
        with pytest.raises(ValueError, match="invitation") as raised:
            parse_invitation(wrong)
        assert len(wrong) < 20 or wrong not in str(raised.value)
    assert not is_invitation("lnstore://")


def test_a_change_breaks_the_signature() -> None:
    body = cbor.decode(FULL.sign(NODE).encoded, what="invitation")
    for change in ({3: 1}, {6: 100}, {2: "elsewhere:1"}, {9: 1}):
        with pytest.raises(RemoteProtocolError) as raised:
            Invitation.decode(cbor.encode(body | change))
        assert raised.value.code is ErrorCode.BAD_SIGNATURE
    with pytest.raises(ValueError, match="cannot be used"):
        parse_invitation(bech32m.encode("lnsi", 0, cbor.encode(body | {6: 100})))
