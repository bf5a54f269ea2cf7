"""The cache folder is the user's own."""

from __future__ import annotations

import os

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.paths import cache_folder


def test_the_cache_folder_is_the_one_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DUALTUNE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("DUALTUNE_CACHE", str(tmp_path / "not yet"))
    assert cache_folder() == tmp_path / "not yet"


@pytest.mark.parametrize("linked", [False, True])
def test_a_cache_folder_of_another_user_is_not_used(tmp_path, monkeypatch, linked):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to("theirs")
    monkeypatch.setenv("DUALTUNE_CACHE", str(tmp_path / ("link" if linked else "theirs")))
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "theirs").stat().st_uid + 1)
    with pytest.raises(UsageError, match="another user(?s:.*)theirs|another user(?s:.*)link"):
        cache_folder()
