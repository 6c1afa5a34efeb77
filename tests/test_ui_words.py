"""The table of the page's words: whole, and with the same gaps in every language."""

import re

import pytest

from omni.ui import words


def test_every_row_has_every_language():
    assert len(words.table()) > 100
    for english, others in words.table().items():
        assert set(others) == set(words.LANGUAGES)
        assert all(text and text == text.strip() for text in (english, *others.values()))


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_what_varies_has_a_place_in_every_language(language):
    for english, others in words.table().items():
        assert others[language].count("{}") == english.count("{}"), english


def test_no_two_patterns_are_the_same():
    lines = (words.ASSETS / "words.tsv").read_text().splitlines()
    assert len(lines) == len(words.table()) + 1


def test_the_script_holds_no_end_of_itself():
    assert len(re.findall("</script", words.script())) == 1
