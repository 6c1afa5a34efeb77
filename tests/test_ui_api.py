"""The page called by a program, through Gradio's own client."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from media_files import pdf_bytes

from omni.provenance.keys import FOLDER, SIGNING, WATERMARK


@pytest.fixture(scope="module")
def client(server) -> Client:
    return Client(server.address, verbose=False)


def test_two_endpoints_are_public_and_say_what_they_take(client: Client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(endpoints) == ["/chat", "/check"]
    names = [parameter["parameter_name"] for parameter in endpoints["/chat"]["parameters"]]
    assert names == ["text", "files", "outputs", "voice", "temperature", "seed", "max_tokens"]


def test_words_stream_and_end_with_usage(client: Client):
    job = client.submit("good morning", api_name="/chat")
    said, files = job.result(timeout=60)
    assert said["text"].startswith("You said: good morning.") and said["done"] and files == []
    assert said["usage"]["tokens_out"] == {"text": 21}
    assert len(job.outputs()) > 2


def test_media_go_in_and_come_out(client: Client, samples: Path, server):
    files = [handle_file(samples / "blue.png"), handle_file(samples / "tone.wav")]
    said, made = client.predict("everything", files, api_name="/chat")
    assert said["text"].startswith("a picture of 20 40 220 and a sound of 523 Hz")
    assert sorted(Path(file).suffix for file in made) == [".mp4", ".png", ".wav"]
    assert [server.verdict(Path(file)) for file in made] == ["Trusted"] * 3
    assert said["notices"] == []


def test_documents_go_in_and_a_cut_is_told(client: Client, tmp_path: Path):
    (tmp_path / "a.pdf").write_bytes(pdf_bytes("the word is xylophone", ""))
    (tmp_path / "long.txt").write_text("word " * 10_000)
    said, _ = client.predict("read", [handle_file(tmp_path / "a.pdf")], api_name="/chat")
    assert said["text"].startswith("a document ending in xylophone and a picture of") and said["notices"] == []
    said, _ = client.predict("read", [handle_file(tmp_path / "long.txt")], api_name="/chat")
    assert said["notices"] == ["Only the beginning of long.txt was taken, 2,048 characters."]


def test_wishes_are_kept(client: Client):
    said, made = client.predict("anything", outputs=["image"], api_name="/chat")
    assert said["text"] == "" and [Path(file).suffix for file in made] == [".png"]


def test_failures_are_sentences(client: Client, server):
    with pytest.raises(AppError, match="There is no output 'smell'"):
        client.predict("hello", outputs=["smell"], api_name="/chat")
    with pytest.raises(AppError, match="out of memory"):
        client.predict("fail", api_name="/chat")
    with pytest.raises(AppError, match="nothing was lost"):
        client.predict("break", api_name="/chat")


def test_a_file_is_checked(client: Client, samples: Path):
    _, made = client.predict("draw", api_name="/chat")
    report = client.predict(handle_file(made[0]), api_name="/check")
    assert report["verdict"] == "ours" and report["mark"]["sure"] and report["credentials"]["engine"] == "Fake"
    assert client.predict(handle_file(samples / "blue.png"), api_name="/check")["verdict"] == "unknown"
    with pytest.raises(AppError, match="uploaded first"):
        client.predict({"path": "/etc/passwd"}, api_name="/check")


@pytest.mark.parametrize("name", [SIGNING, WATERMARK])
def test_keys_are_not_served(client: Client, server, name: str):
    path = server.root / FOLDER / name
    assert path.exists()
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{server.address}gradio_api/file={path}")
    assert answer.value.code in (403, 404)


def test_a_path_on_the_server_is_not_accepted(client: Client, samples: Path):
    with pytest.raises(AppError, match="uploaded first"):
        client.predict("look", [{"path": str(samples / "blue.png")}], api_name="/chat")


def test_nothing_of_a_call_stays_in_the_conversations(client: Client, server):
    client.predict("draw", api_name="/chat")
    assert list((server.root / "conversations").iterdir()) == []
