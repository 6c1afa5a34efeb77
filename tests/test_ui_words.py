"""The table of the page's words: whole, and with the same gaps in every language."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from omni import errors
from omni.engines.remote import faults
from omni.ui import words

HOME = Path(errors.__file__).parent
WITHOUT_PAGE = ("exams", "bench", "serving", "primer/training", "settings.py", "ui/api.py", "ui/waiting.py")
AT_THE_START = re.compile(r"--|cannot start|does not give it|cannot be used|no list of models|install them")  # terminal
FAULTS = {name for home in (errors, faults) for name, one in inspect.getmembers(home, inspect.isclass)
          if issubclass(one, errors.OmniError)}  # fmt: skip
TELLING = FAULTS | {"Progress", "failed"}


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


def sentences() -> Iterator[str]:
    """What our modules raise and report, with 7 for what varies."""
    for file in sorted(HOME.rglob("*.py")):
        if str(file.relative_to(HOME)).startswith(WITHOUT_PAGE):
            continue
        tree = ast.parse(file.read_text())
        known = {node.targets[0].id: node.value for node in tree.body
                 if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in TELLING and node.args:
                said = node.args[0]
                for part in (said.body, said.orelse) if isinstance(said, ast.IfExp) else (said,):
                    yield _text(known.get(part.id, part) if isinstance(part, ast.Name) else part)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "7"


def test_every_sentence_that_a_visitor_can_get_is_in_the_table():
    rows = [re.compile(".+?".join(map(re.escape, english.split("{}")))) for english in words.table()]
    said = {text for text in sentences() if re.search("[a-z]", text) and not AT_THE_START.search(text)}
    assert len(said) > 80
    assert [text for text in sorted(said) if not any(row.fullmatch(text) for row in rows)] == []
