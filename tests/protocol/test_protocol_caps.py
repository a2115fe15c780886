"""Capabilities as text: the round trip, every mistake by its name, no secrets elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_strategies import keys, share_ids

from lnstore_protocol import bech32m
from lnstore_protocol.caps import CAP_CHARACTERS, ReadCap, VerifyCap, parse_cap
from lnstore_protocol.ids import ShareId

READ = ReadCap(bytes(range(32)), ShareId(bytes(range(32, 64))))
TEXT = READ.to_text()
ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@given(keys, share_ids)
def test_the_round_trip(key: bytes, manifest_id: ShareId) -> None:
    """Both kinds, in small and in capital letters, with spaces around."""
    for cap, prefix in ((ReadCap(key, manifest_id), "lnsr1"), (VerifyCap(key, manifest_id), "lnsv1")):
        text = cap.to_text()
        assert text.startswith(prefix)
        assert len(text) == CAP_CHARACTERS == 115
        assert parse_cap(text) == parse_cap(text.upper()) == parse_cap(f"  {text}\n") == cap


def test_the_text_never_changes() -> None:
    """A capability written down today is read by every later version."""
    assert TEXT == (
        "lnsr1qqqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0"
        "jqgfzyvjz2f389q5j52ev95hz7vp3xgengdfkxuurjw3m8s7nu0cuj0kx6"
    )
    assert READ.verify_cap().to_text() == (
        "lnsv1qhm5ulwdv6uy263w9zhec65uy7tup6v6stsn4dmtak59c6edyr6x"
        "jqgfzyvjz2f389q5j52ev95hz7vp3xgengdfkxuurjw3m8s7nu0cfmt0ye"
    )


def test_the_checksum_is_bech32m() -> None:
    """The vectors of BIP-350 that this code's parts can take: valid and invalid strings."""

    def valid(text: str) -> bool:
        prefix, _, rest = text.lower().rpartition("1")
        return bech32m._polymod(bech32m._expand(prefix) + [ALPHABET.index(c) for c in rest]) == bech32m._BECH32M

    for text in (
        "A1LQFN3A",
        "a1lqfn3a",
        "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
        "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
        "?1v759aa",
    ):
        assert valid(text)
    for text in ("M1VUXWEZ", "a12uel5l", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"):
        assert not valid(text)


def test_a_read_cap_gives_a_verify_cap() -> None:
    """Of the same manifest, with a key that leads nowhere back."""
    verify = READ.verify_cap()
    assert isinstance(verify, VerifyCap)
    assert verify.manifest_id == READ.manifest_id
    assert verify.verify_key not in (READ.file_key, READ.manifest_id)
    assert verify == ReadCap(READ.file_key, READ.manifest_id).verify_cap()


@given(st.integers(5, CAP_CHARACTERS - 1), st.sampled_from(ALPHABET))
def test_every_wrong_letter_is_found(at: int, letter: str) -> None:
    """One substitution never passes."""
    if TEXT[at] == letter:
        return
    with pytest.raises(ValueError, match="checksum"):
        parse_cap(TEXT[:at] + letter + TEXT[at + 1 :])


@given(st.integers(5, CAP_CHARACTERS - 2))
def test_swapped_letters_are_found(at: int) -> None:
    """The commonest slip of the pen."""
    swapped = TEXT[:at] + TEXT[at + 1] + TEXT[at] + TEXT[at + 2 :]
    if swapped != TEXT:
        with pytest.raises(ValueError, match="checksum"):
            parse_cap(swapped)


def forged(symbols: list[int], prefix: str = "lnsr") -> str:
    """Any symbols under a right checksum."""
    check = bech32m._polymod(bech32m._expand(prefix) + symbols + [0] * 6) ^ bech32m._BECH32M
    symbols = symbols + [check >> shift & 31 for shift in range(25, -1, -5)]
    return f"{prefix}1" + "".join(ALPHABET[symbol] for symbol in symbols)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with"),
        ("lnsr", "begins with"),
        ("bc1" + TEXT[5:], "begins with"),
        ("lnsx1" + TEXT[5:], "begins with"),
        ("lnstore://abc", "begins with"),
        (TEXT[:-1], "this one has 114"),
        (TEXT + "q", "this one has 116"),
        (TEXT[:20] + TEXT[20:40].upper() + TEXT[40:], "not in both"),
        (TEXT[:20] + "b" + TEXT[21:], "character 'b'"),
        (TEXT[:20] + "é" + TEXT[21:], "character 'é'"),
        ("lnsv1" + TEXT[5:], "checksum"),
        (forged([1] + [0] * 103), "version 1"),
        (forged([0] * 103 + [1]), "last bits"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:  # F-R13, F-R14, F-R15, F-R16
    """Each mistake by its name, and without repeating the secret."""
    with pytest.raises(ValueError, match=words) as info:
        parse_cap(text)
    assert TEXT[5:60] not in str(info.value)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_have_32_bytes(size: int) -> None:
    """Where a capability is made, not later."""
    for make in (lambda: ReadCap(bytes(size), READ.manifest_id), lambda: VerifyCap(bytes(size), READ.manifest_id)):
        with pytest.raises(ValueError, match="32 bytes"):
            make()


def test_secrets_are_not_in_repr_or_str() -> None:  # F-R16, S-R1
    """Only to_text gives the secret away."""
    for cap in (READ, READ.verify_cap()):
        key = cap.file_key if isinstance(cap, ReadCap) else cap.verify_key
        for text in (repr(cap), str(cap), f"{cap}"):
            assert key.hex() not in text
            assert repr(key)[2:-1] not in text
            assert cap.to_text() not in text
            assert cap.manifest_id.hex() in text
