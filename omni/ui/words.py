"""The page in other languages: the table of its words, and the script that puts them where English stands.

Every part of the page speaks English; ``assets/words.tsv`` has what it says in Chinese and Vietnamese, and
``assets/words.js`` translates it in the browser. So a sentence is written once, wherever it comes from.
"""

from __future__ import annotations

import csv
import json
from functools import cache

from omni.ui.element import ASSETS

LANGUAGES = ("zh", "vi")  # beside English


@cache
def table() -> dict[str, dict[str, str]]:
    """English to the words of each language; ``{}`` stands for what varies."""
    lines = (ASSETS / "words.tsv").read_text().splitlines()
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row.pop("en"): row for row in rows}


def script() -> str:
    """The element that stands in the page's head."""
    words = json.dumps(table(), ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return f"<script>{{ const WORDS = {words};\n{(ASSETS / 'words.js').read_text()}}}</script>"
