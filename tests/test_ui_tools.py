"""The engine as tools for other models: Primer asked by MCP's own client."""

from __future__ import annotations

import asyncio
import base64
import io
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ListToolsResult
from PIL import Image
from processes import REPOSITORY

from omni.engines.primer import WEIGHTS
from omni.primer.shipping import FILE

pytestmark = pytest.mark.skipif(not (WEIGHTS / FILE).exists(), reason="no weights are shipped yet")


@pytest.fixture
def address(playground) -> str:
    return playground.address


def together(address: str, *calls: tuple[str, dict]) -> tuple[ListToolsResult, list[CallToolResult]]:
    """The tools, and the results of calls, in one session."""

    async def talk() -> tuple[ListToolsResult, list[CallToolResult]]:
        async with (
            streamable_http_client(f"{address}/gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return await session.list_tools(), [await session.call_tool(name, given) for name, given in calls]

    with ThreadPoolExecutor(1) as alone:  # the browser tests leave a loop running in this thread
        return alone.submit(asyncio.run, talk()).result()


def test_the_tools_are_listed_with_what_they_take(address):
    listed, _ = together(address)
    tools = {tool.name: tool for tool in listed.tools}
    assert sorted(tools) == ["animate", "ask", "check", "describe", "draw", "say"]
    assert tools["ask"].inputSchema["required"] == ["question"]
    assert "Draw a picture" in tools["draw"].description


def test_each_tool_gives_what_its_name_says(address):
    cat = "data:image/png;base64," + base64.b64encode((REPOSITORY / "examples" / "cat.png").read_bytes()).decode()
    _, (asked, described, drawn, said, filmed) = together(
        address,
        ("ask", {"question": "what is the capital of france?"}),
        ("describe", {"file": cat}),
        ("draw", {"prompt": "a cat on green"}),
        ("say", {"text": "hello"}),
        ("animate", {"prompt": "a ball that bounces"}),
    )
    assert "do not know that yet" in asked.content[0].text
    assert "cat" in described.content[0].text
    assert Image.open(io.BytesIO(base64.b64decode(drawn.content[0].data))).size == (256, 256)
    for made, start in ((said, b"RIFF"), (filmed, b"ftyp")):
        with urllib.request.urlopen(made.content[0].text) as file:
            assert start in file.read(12)


def test_a_failure_is_a_sentence(address):
    _, (failed,) = together(address, ("ask", {"question": "x" * 9000}))
    assert failed.isError and "too long" in failed.content[0].text
