"""The page that is there before the engine is: what it tells, and that it makes room."""

import json
import socket
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from omni.errors import OmniError
from omni.events import Progress
from omni.ui.waiting import STATE, WaitingPage


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_it_tells_what_is_being_done(port):
    address = f"http://127.0.0.1:{port}"
    with WaitingPage("127.0.0.1", port) as waiting:
        assert b"Omni Playground" in urlopen(f"{address}/?x=1").read()
        assert json.load(urlopen(address + STATE)) == {"doing": "Starting", "done": None}
        waiting.tell(Progress("Writing", 0.25))
        assert json.load(urlopen(address + STATE)) == {"doing": "Writing", "done": 0.25}
        with pytest.raises(HTTPError, match="503"):
            urlopen(f"{address}/gradio_api/info")


def test_the_port_is_free_for_the_playground_afterwards(port):
    for _ in range(2):
        with WaitingPage("127.0.0.1", port):
            urlopen(f"http://127.0.0.1:{port}/").read()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_an_address_that_is_taken_is_one_sentence(port):
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(OmniError, match=f"127.0.0.1:{port}: Address already"),
    ):
        WaitingPage("127.0.0.1", port)
