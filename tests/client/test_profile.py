"""A profile is a directory that is made once, read with clear errors and written by one process at a time."""

import stat
from pathlib import Path

import pytest

from lnstore.client.profile import KEY_FILE, Profile, ProfileBusy, ProfileError, init_profile
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
