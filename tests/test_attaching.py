"""How much of a document an engine gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from media_files import pdf_bytes, photo, picture_file

from omni.attaching import attached, bounds
from omni.conversation import Text
from omni.errors import Refused
from omni.provenance.keys import Keys

ABLE = FakeEngine.capabilities


class Reader(FakeEngine):
    """An engine that takes words alone."""

    capabilities = replace(ABLE, inputs=frozenset({"text"}))


@pytest.mark.parametrize(("context", "characters", "pages"), [(640, 320, 1), (4096, 2048, 2), (131_072, 24_000, 4)])
def test_a_document_leaves_half_of_what_is_read_at_once_for_the_rest(context: int, characters: int, pages: int):
    limits = bounds(replace(ABLE, context_tokens=context))
    assert (limits.document_characters, limits.document_pictures) == (characters, pages)


def test_an_engine_that_takes_no_pictures_gets_the_words_alone(tmp_path: Path, keys: Keys):
    (tmp_path / "a.pdf").write_bytes(pdf_bytes("hello"))
    parts, notice = attached(tmp_path / "a.pdf", tmp_path, Reader(), keys)
    assert parts == (Text("a.pdf:\n\nhello", "a.pdf"),) and notice == ""
    (tmp_path / "scan.pdf").write_bytes(pdf_bytes(""))
    with pytest.raises(Refused, match="the model sees no pictures"):
        attached(tmp_path / "scan.pdf", tmp_path, Reader(), keys)


def test_a_kind_that_the_engine_does_not_take_is_refused_and_leaves_nothing(tmp_path: Path, keys: Keys):
    folder = tmp_path / "conversation"
    with pytest.raises(Refused, match="Fake does not take pictures"):
        attached(picture_file(tmp_path / "p", photo(8, 8)), folder, Reader(), keys)
    assert not list(folder.iterdir())
