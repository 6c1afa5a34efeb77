"""An engine's synchronous reply as events for an event loop; who leaves ends it within one model step."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import closing, suppress
from typing import TypeVar

from starlette.requests import Request

from omni.events import Event

LOOKED_AFTER = 0.1  # seconds between two looks at whether the other end is still there

T = TypeVar("T")


class Gone(Exception):
    """The other end has closed the connection; nobody is there to be answered."""


async def events_of(reply: Callable[[], Iterator[Event]]) -> AsyncGenerator[Event]:
    """The events of a reply, which runs in a thread of its own; its errors are raised here.

    Closing this makes that thread close the reply at its next event: to be used with ``contextlib.aclosing``.
    """
    loop, arrived, closed = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

    def tell(item: Event | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop has ended with the server
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    def speak() -> None:
        try:
            with closing(reply()) as events:
                for event in events:
                    if closed.is_set():
                        return
                    tell(event)
        except BaseException as error:  # whatever it is, it belongs to the one who reads the events
            tell(error)
        else:
            tell(None)

    threading.Thread(target=speak, name="served reply", daemon=True).start()
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the other end goes. Raises Gone then."""
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(LOOKED_AFTER)
