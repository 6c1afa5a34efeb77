"""The line to one server: requests that can be left at any moment, within bounds of time and memory.

HTTP runs on an event loop in a thread of its own, so that a request can be cancelled while it waits; the engine's
generator takes what has come. Compressed answers are not asked for and not taken: they may unfold to anything.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx

from omni.engines.remote import faults
from omni.engines.remote.faults import RemoteFault
from omni.errors import OmniError

log = logging.getLogger(__name__)

BEAT = 0.1  # seconds after which a waiting request gives a sign of life
TRIES = 3
LONGEST_WAIT = 10.0  # seconds before a further try; a server that asks for more is called busy
MOST_WAITING = 256  # blocks that have come and were not taken yet
ERROR_BYTES = 64 * 2**10  # of an error's body that are read


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds, and how much is taken, in bytes."""

    connect: float = 10.0
    first: float = 180.0  # until the first byte: a cluster queues and reads the prompt
    between: float = 60.0  # from one byte to the next
    whole: float = 1200.0  # for a reply
    most_bytes: int = 256 * 2**20  # of a reply


USUAL = Patience()


@dataclass(frozen=True)
class Opened:
    """The head of an answer."""

    kind: str  # its content type, without parameters


class Line:
    """Requests to one server. State: the client with its open connections, and the loop they live on."""

    def __init__(self, base_url: str, key: str, patience: Patience = USUAL):
        """Raises OmniError where the address cannot be used."""
        self.base_url, self.key, self.patience = checked(base_url), key, patience
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="remote", daemon=True).start()
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._client = httpx.AsyncClient(
            base_url=self.base_url,
            headers=headers,
            timeout=httpx.Timeout(patience.connect, read=None),
            trust_env=self.base_url.startswith("https:"),  # a proxy would see what goes over plain HTTP
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=8),
        )

    def close(self) -> None:
        """Close what is open."""
        self._start(self._client.aclose()).result(self.patience.connect)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _start(self, work: Coroutine) -> Future:
        """Run on the loop; cancelling what is returned cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stream(self, method: str, path: str, **content: Any) -> Iterator[Opened | bytes | float | None]:
        """One request: its head, then its body as it comes; None is a sign of life.

        Tried again while nothing of an answer has come and the server asks for it; before that, the seconds to wait
        are told. Leaving the generator cancels the request. Raises RemoteFault.
        """
        for left in reversed(range(TRIES)):
            try:
                yield from self._try(method, path, content)
                return
            except RemoteFault as fault:
                wait = fault.again_in
                if wait is None or not left or wait > LONGEST_WAIT:
                    raise
                log.info("trying again in %.1f s: %s", wait, fault)
            yield wait
            for _ in range(round(wait / BEAT)):
                time.sleep(BEAT)
                yield None

    def call(self, method: str, path: str, most_bytes: int = 64 * 2**20, **content: Any) -> Iterator[bytes | None]:
        """One request; None while it is under way, and its whole body at last. Raises RemoteFault."""
        body = bytearray()
        for item in self.stream(method, path, **content):
            if isinstance(item, bytes):
                body += item
                if len(body) > most_bytes:
                    raise faults.Garbled("The answer of the model's server is larger than anything that is taken.")
            yield None
        yield bytes(body)

    def ask(self, method: str, path: str, **content: Any) -> bytes:
        """One request, waited for. Raises RemoteFault."""
        body = b""
        for item in self.call(method, path, **content):
            body = item or b""
        return body

    def send_away(self, method: str, path: str) -> None:
        """A request whose answer nobody waits for."""

        async def send() -> None:
            try:
                with anyio.fail_after(self.patience.connect):
                    await self._client.request(method, path)
            except (httpx.HTTPError, TimeoutError) as error:
                log.info("%s %s: %s", method, path, type(error).__name__)

        self._start(send())

    def _try(self, method: str, path: str, content: dict[str, Any]) -> Iterator[Opened | bytes | None]:
        arrived: queue.SimpleQueue = queue.SimpleQueue()
        running = self._start(self._fetch(arrived, method, path, content))
        try:
            while True:
                try:
                    item = arrived.get(timeout=BEAT)
                except queue.Empty:
                    yield None
                    continue
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    return
                yield item
        finally:
            running.cancel()

    async def _fetch(self, arrived: queue.SimpleQueue, method: str, path: str, content: dict[str, Any]) -> None:
        """Runs on the loop; what it tells ends with None or with a fault."""
        try:
            with anyio.fail_after(self.patience.whole):
                await self._receive(arrived, method, path, content)
            arrived.put(None)
        except TimeoutError:
            arrived.put(faults.TooSlow("The model's server took too long for this reply; please ask for less at once."))
        except RemoteFault as fault:
            arrived.put(fault)
        except httpx.HTTPError as error:
            arrived.put(fault_of(error))
        except Exception as error:  # whatever it is, it belongs to the one who waits
            arrived.put(error)

    async def _receive(self, arrived: queue.SimpleQueue, method: str, path: str, content: dict[str, Any]) -> None:
        patience, started = self.patience, False
        request = self._client.build_request(method, path, **content)
        try:
            response = await within(patience.first, self._client.send(request, stream=True))
        except (httpx.ReadError, httpx.RemoteProtocolError) as error:  # an idle connection that was closed meanwhile
            fault = fault_of(error)
            fault.again_in = 0.0
            raise fault from error
        try:
            if response.status_code != 200:
                raise await self._refusal(response)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise faults.Garbled("The model's server sends compressed answers, which are not taken.")
            arrived.put(Opened(response.headers.get("content-type", "").partition(";")[0].strip().lower()))
            taken, blocks = 0, aiter(response.aiter_raw())
            while (
                block := await within(patience.between if started else patience.first, following(blocks))
            ) is not None:
                started, taken = True, taken + len(block)
                if taken > patience.most_bytes:
                    raise faults.Garbled("The answer of the model's server is larger than anything that is taken.")
                arrived.put(block)
                while arrived.qsize() > MOST_WAITING:
                    await anyio.sleep(BEAT / 10)
        finally:
            with anyio.move_on_after(1, shield=True):
                await response.aclose()

    async def _refusal(self, response: httpx.Response) -> RemoteFault:
        body, blocks = bytearray(), aiter(response.aiter_raw())
        while len(body) < ERROR_BYTES and (block := await within(self.patience.connect, following(blocks))) is not None:
            body += block
        if response.is_redirect:
            return faults.Unknown("The model's server has moved; its host has to set the new address.")
        retry_after = response.headers.get("retry-after")
        return faults.of_status(response.status_code, bytes(body[:ERROR_BYTES]), retry_after, self.key)


def fault_of(error: httpx.HTTPError) -> RemoteFault:
    """What a failure of the connection means."""
    fault: RemoteFault
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError() | httpx.PoolTimeout():
            fault = faults.Unreachable("The model's server cannot be reached; please try again later.")
        case httpx.TimeoutException():
            fault = faults.TooSlow("The model's server takes nothing in; please try again later.")
        case _:
            fault = faults.BrokenOff("The connection to the model's server broke off; please try again.")
    fault.__cause__ = error
    return fault


async def following(blocks: AsyncIterator[bytes]) -> bytes | None:
    """The next block, None at the end."""
    return await anext(blocks, None)


async def within(limit: float, work: Any) -> Any:
    """The result of ``work``. Raises TooSlow where it takes more than ``limit`` seconds."""
    with anyio.move_on_after(limit):
        return await work
    raise faults.TooSlow(f"The model's server was silent for {limit:g} seconds; please try again later.")


def checked(base_url: str) -> str:
    """An address that may be called. Raises OmniError with a sentence for the host."""
    if not base_url:
        raise OmniError("A remote engine needs the address of its server; please give it with --base-url.")
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OmniError("--base-url is no address; it looks like https://host/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise OmniError("--base-url may hold neither names and passwords nor queries; the key goes to OMNI_REMOTE_KEY.")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise OmniError("Plain http goes to this machine only; please give --base-url with https.")
    return base_url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its number or as localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
