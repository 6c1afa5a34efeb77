"""The page as it is built: what stands in its way is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_engine import FakeEngine

from omni.errors import OmniError
from omni.provenance.keys import FOLDER, SIGNING
from omni.settings import Settings
from omni.ui.page import build_page


def test_a_data_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    (tmp_path / "data").touch()  # a folder cannot stand where a file does
    with pytest.raises(OmniError, match="cannot be written; name another one with --root"):
        build_page(FakeEngine(), Settings(root=tmp_path / "data"))


def test_the_keys_are_made_at_the_first_start(tmp_path: Path):
    build_page(FakeEngine(), Settings(root=tmp_path))
    assert (tmp_path / FOLDER / SIGNING).stat().st_mode & 0o777 == 0o600
