"""A profile is a directory that is made once, read with clear errors and written by one process at a time."""

import stat
from pathlib import Path

import pytest

from lnstore.client.keyfile import PASSPHRASE_FILE_VARIABLE, ProfileError, fresh_words, seed_of
from lnstore.client.profile import KEY_FILE, Profile, ProfileBusy, change_passphrase, init_profile
from lnstore.config import ConfigError


def test_a_new_profile_reads_back_the_same(tmp_path: Path) -> None:
    made = init_profile(tmp_path / "p", needed=2, total=3, happy=3)
    read = Profile.load(tmp_path / "p")
    assert read.account_id == made.account_id
    assert (read.config.needed, read.config.total, read.config.happy) == (2, 3, 3)
    assert read.account_secret == made.account_secret != read.identity.seed


def test_secrets_are_neither_readable_by_others_nor_printed(tmp_path: Path) -> None:  # S-R1, S-R2
    profile = init_profile(tmp_path)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert profile.identity.seed.hex() not in repr(profile)
    assert repr(profile.identity.seed) not in repr(profile)


def test_an_existing_profile_is_not_overwritten(tmp_path: Path) -> None:
    init_profile(tmp_path)
    key = (tmp_path / KEY_FILE).read_text()
    with pytest.raises(ProfileError, match="already a profile"):
        init_profile(tmp_path)
    assert (tmp_path / KEY_FILE).read_text() == key


def test_a_missing_profile_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lnstore init"):
        Profile.load(tmp_path)


@pytest.mark.parametrize("content", ["", "xyz", "ab" * 31])
def test_a_damaged_key_asks_for_the_backup(tmp_path: Path, content: str) -> None:
    init_profile(tmp_path)
    (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(ProfileError, match="backup"):
        Profile.load(tmp_path)


def test_a_lost_key_asks_for_the_backup(tmp_path: Path) -> None:
    init_profile(tmp_path)
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(ProfileError, match="backup"):
        Profile.load(tmp_path)


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    """A flock belongs to the open file, so a second Profile stands for a second process."""
    first, second = init_profile(tmp_path), Profile.load(tmp_path)
    refused = pytest.raises(ProfileBusy, match="another lnstore process")
    with first.writing(), first.writing(), refused, second.writing(patience_seconds=0):
        pass
    with second.writing(patience_seconds=0):
        pass


# The standard's own test vectors: words and BIP-39 seed are theirs; what we derive from the seed is kept here.
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


def test_the_words_alone_bring_the_same_account_back(tmp_path: Path) -> None:
    words = fresh_words()
    assert len(words.split()) == 12
    first, second = init_profile(tmp_path / "a", words=words), init_profile(tmp_path / "b", words=words.upper() + " ")
    assert first.account_id == second.account_id
    assert first.account_id != init_profile(tmp_path / "c").account_id
    assert words not in (tmp_path / "a" / KEY_FILE).read_text()
    assert seed_of(WORDS).hex() == "c6abccc4b7a1545ec41239e9b30cae823f88ad1640d957b9f5538ffd0676f2c6"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "0 words"),
        (WORDS + " yellow", "13 words"),
        (WORDS.replace("sausage", "sausages"), "word 6 is not in the list"),
        (WORDS.replace("yellow", "zoo"), "one is wrong"),
        ("winner legal" + WORDS[12:], "exchanged"),
    ],
)
def test_wrong_words_are_told_without_repeating_them(words: str, said: str) -> None:
    with pytest.raises(ProfileError, match=said) as wrong:
        seed_of(words)
    assert "winner" not in str(wrong.value)


def test_a_passphrase_locks_the_key_and_can_be_changed_and_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = init_profile(tmp_path / "p", passphrase="correct horse")
    seed = made.identity.seed.hex()
    key = tmp_path / "p" / KEY_FILE
    assert seed not in key.read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    monkeypatch.delenv(PASSPHRASE_FILE_VARIABLE, raising=False)
    with pytest.raises(ProfileError, match=PASSPHRASE_FILE_VARIABLE):
        Profile.load(tmp_path / "p")
    (tmp_path / "file").write_text("correct horse\n")
    monkeypatch.setenv(PASSPHRASE_FILE_VARIABLE, str(tmp_path / "file"))
    assert Profile.load(tmp_path / "p").account_id == made.account_id
    with pytest.raises(ProfileError, match="not the passphrase"):
        change_passphrase(tmp_path / "p", old=lambda: "wrong horse", new="battery staple")
    change_passphrase(tmp_path / "p", old=lambda: "correct horse", new="battery staple")
    assert Profile.load(tmp_path / "p", ask=lambda: "battery staple").account_id == made.account_id
    with pytest.raises(ProfileError, match="at least 8 characters"):
        change_passphrase(tmp_path / "p", old=lambda: "battery staple", new="short")
    change_passphrase(tmp_path / "p", old=lambda: "battery staple", new=None)
    assert Profile.load(tmp_path / "p", ask=lambda: "").account_id == made.account_id
    monkeypatch.setenv(PASSPHRASE_FILE_VARIABLE, str(tmp_path / "nothing"))
    change_passphrase(tmp_path / "p", old=lambda: "", new="battery staple")
    with pytest.raises(ProfileError, match="cannot be read"):
        Profile.load(tmp_path / "p")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As ssh does: whoever read it is this client at every node."""
    init_profile(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(ProfileError, match="chmod 600"):
        Profile.load(tmp_path)


def test_a_damaged_locked_key_asks_for_the_backup(tmp_path: Path) -> None:
    init_profile(tmp_path, passphrase="correct horse")
    whole = (tmp_path / KEY_FILE).read_text()
    for damaged in (whole[:60], whole.replace(" ", "  x "), whole.split()[0]):
        (tmp_path / KEY_FILE).write_text(damaged)
        with pytest.raises(ProfileError, match="backup"):
            Profile.load(tmp_path, ask=lambda: "correct horse")
