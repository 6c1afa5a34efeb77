"""Documents: what is taken of a PDF and of a text, what is cut, what is refused."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from media_files import pdf_bytes, photo, picture_file
from test_media_sandbox import mutated

from omni import media
from omni.conversation import Image, Text, things
from omni.errors import Refused
from omni.media import LIMITS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "conversation"
    folder.mkdir()
    return folder


@pytest.fixture
def taken(tmp_path: Path, folder: Path):
    """Offers bytes under a name, within other bounds where some are named."""

    def offer(data: bytes, name: str = "notes.txt", **bounds) -> media.Document:
        (tmp_path / name).write_bytes(data)
        assert media.is_document(tmp_path / name)
        return media.take_document(tmp_path / name, folder, replace(LIMITS, **bounds))

    return offer


@pytest.fixture
def refusal(taken, folder: Path):
    """Offers a document; the sentence with which it is refused."""

    def offer(data: bytes, name: str = "notes.txt", **bounds) -> str:
        with pytest.raises(Refused) as refused:
            taken(data, name, **bounds)
        assert list(folder.iterdir()) == []
        sentence = str(refused.value)
        assert re.fullmatch(r"[A-Z][^\n]{20,200}\.", sentence) and ". " not in sentence
        return sentence

    return offer


def test_a_pdf_becomes_its_words_and_pictures_of_its_first_pages(taken, folder: Path):
    document = taken(pdf_bytes("first page", "second page", "third", "fourth", "fifth"), "report.pdf")
    words, *pages = document.parts
    assert words.text.startswith("report.pdf (5 pages):\n\nfirst page\n\nsecond page") and "fifth" in words.text
    assert words.document == "report.pdf" and document.notice == ""
    assert [page.caption for page in pages] == [f"report.pdf, page {n} of 5" for n in (1, 2, 3, 4)]
    assert all(isinstance(page, Image) and (page.width, page.height) == (768, 1024) for page in pages)
    red, white = (media.read_image(pages[0])[row, 400].tolist() for row in (1000, 300))
    assert red == [255, 0, 0] and white == [255, 255, 255]
    assert sorted(folder.iterdir()) == sorted(page.path for page in pages)
    assert things(document.parts) == [document.parts]


def test_a_pdf_is_one_under_any_name_and_behind_an_empty_line(taken):
    assert "hello" in taken(b"\r\n" + pdf_bytes("hello"), "scan.png").parts[0].text


def test_pages_are_no_pictures_where_none_are_wanted(taken, folder: Path):
    document = taken(pdf_bytes("hello"), "a.pdf", document_pictures=0)
    assert document.parts == (Text("a.pdf:\n\nhello", "a.pdf"),) and not list(folder.iterdir())


def test_a_pdf_without_words_is_pictures_and_says_so(taken):
    document = taken(pdf_bytes("", ""), "scan.pdf")
    assert document.parts[0].text == "scan.pdf (2 pages)" and len(document.parts) == 3
    assert document.notice == "No text was found in scan.pdf; its pages were taken as pictures, 2 of 2."


def test_a_pdf_without_words_is_refused_where_no_pictures_are_seen(refusal):
    assert "No text was found" in refusal(pdf_bytes(""), "scan.pdf", document_pictures=0)


def test_a_long_pdf_is_cut_and_says_so(taken):
    for bounds in ({"document_characters": 15}, {"document_pages": 1}):
        document = taken(pdf_bytes("a" * 15, "b" * 15), "long.pdf", document_pictures=0, **bounds)
        assert document.parts[0].text == f"long.pdf (2 pages, only the beginning):\n\n{'a' * 15}"
        assert document.notice == "Only the beginning of long.pdf was taken, 15 characters."


def test_a_locked_pdf(refusal):
    assert "password" in refusal(pdf_bytes("secret", locked=True), "a.pdf")


def test_a_pdf_that_is_broken_or_has_no_pages(refusal):
    whole = pdf_bytes("hello")
    assert "damaged" in refusal(b"%PDF-1.7\n" + bytes(range(256)) * 9, "a.pdf")
    assert "damaged" in refusal(whole[:60], "a.pdf")
    assert refusal(pdf_bytes(), "a.pdf")


def test_a_pdf_with_pages_of_any_shape(taken):
    for size in ((1, 14_400), (14_400, 14_400), (3, 3)):
        (picture,) = taken(pdf_bytes("", size=size), "a.pdf").parts[1:]
        assert max(picture.width, picture.height) <= 1025


def test_a_document_of_too_many_bytes(refusal):
    assert "at most 1 MB" in refusal(b"x" * (2**20 + 1), document_bytes=2**20)
    assert "at most 1 MB" in refusal(pdf_bytes("x") + bytes(2**20), "a.pdf", document_bytes=2**20)


def test_wounded_pdfs_become_parts_or_sentences(tmp_path: Path, folder: Path):
    random_, whole = random.Random(22), pdf_bytes("first", "second")
    for round_ in range(20):
        path = tmp_path / f"{round_}.pdf"
        path.write_bytes(b"%PDF-" + mutated(whole, random_))
        try:
            assert media.take_document(path, folder).parts
        except Refused as refused:
            assert str(refused).endswith(".")


def test_where_only_media_can_stand_a_pdf_says_what_it_is(tmp_path: Path, folder: Path):
    (tmp_path / "a.pdf").write_bytes(pdf_bytes("hello"))
    with pytest.raises(Refused, match="This is a document"):
        media.take(tmp_path / "a.pdf", folder)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"one\r\ntwo\x00"[:-1], "one\ntwo"),
        ("grün 好 🙂".encode(), "grün 好 🙂"),
        ("\ufeffmarked".encode(), "marked"),
        ("weit".encode("utf-16"), "weit"),
        (b"<script>alert(1)</script>", "<script>alert(1)</script>"),
        (b"a\x1b[31mb\x7f", "a[31mb"),
    ],
)
def test_a_text_becomes_words_below_its_name(taken, data: bytes, words: str):
    assert taken(data, "notes.md").parts == (Text(f"notes.md:\n\n{words}", "notes.md"),)


def test_a_long_text_is_cut_and_says_so(taken):
    document = taken(b"word " * 400_000)
    assert len(document.parts[0].text) < LIMITS.document_characters + 100
    assert document.parts[0].text.startswith("notes.txt (only the beginning):\n\nword word")
    assert document.notice == "Only the beginning of notes.txt was taken, 23,999 characters."


def test_a_name_is_one_short_line(taken):
    name = taken(b"hello", "a" * 200 + "\u202e\n.txt").parts[0].document
    assert len(name) == 80 and name.endswith(".txt") and "\n" not in name and "\u202e" not in name


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (bytes(range(256)), "no text"),
        ("weit".encode("utf-16-le"), "UTF-8"),
        ("Grüße".encode("latin-1"), "encoding"),
        ("日本語".encode("shift-jis"), "encoding"),
        (b"", "empty"),
        (b" \n\x07 ", "empty"),
    ],
)
def test_what_is_no_text_is_told_so(refusal, data: bytes, says: str):
    assert says in refusal(data)


def test_media_are_no_documents_under_any_name(tmp_path: Path):
    assert not media.is_document(picture_file(tmp_path / "photo.txt", photo(8, 8)))
    (tmp_path / "letter.docx").write_bytes(b"PK\3\4" + bytes(100))
    assert not media.is_document(tmp_path / "letter.docx")
