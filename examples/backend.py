"""An engine and its servers behind an application's window: nothing here ever makes the window wait.

The model works on a thread of the engine, an event loop on a thread of this module drives it with ``astream``, and
the window takes what has happened from a queue whenever it likes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

from dualtune_mlx import DualTune, Tool, ToolCall
from dualtune_mlx.data import read_tools
from dualtune_mlx.mcp import ToolResult, connect, read_config

Execute = Callable[[ToolCall], ToolResult]
Opened = tuple[DualTune, tuple[Tool, ...], Execute | None]
"""An engine, the visible tools, and what executes a call (None where there are no servers)."""


@dataclass(frozen=True)
class Ready:
    """Everything is loaded; there are so many tools, and perhaps servers that run them."""

    tools: int
    can_run: bool


@dataclass(frozen=True)
class Stopped:
    """What ran was stopped."""


class Backend:
    """The engine and the servers. Whatever happens is put into ``events``; errors are put there too."""

    def __init__(self, opening: Callable[[ExitStack], Opened]) -> None:
        self.events: queue.Queue[object] = queue.Queue()
        self._opening, self._stack = opening, ExitStack()
        self._opened: Opened | None = None
        self._running: Future[None]
        self._loop, self._end = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        self._start(self._open())

    def ask(self, request: str) -> None:
        self._start(self._ask(request))

    def execute(self, call: ToolCall) -> None:
        self._start(self._run(call))

    def stop(self) -> None:
        """Cancel what runs; the engine then stops before its next token."""
        self._running.cancel()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(timeout=10)

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._end.wait())
        self._stack.close()  # the runner has cancelled what was running
        # MLX wants this at the end of every thread that used it, and this one did, to load.
        import mlx.core as mx  # not before dualtune_mlx, which loads OpenBLAS first on Linux

        mx.clear_streams()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._running = asyncio.run_coroutine_threadsafe(self._reported(work), self._loop)

    async def _reported(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            self.events.put(Stopped())
            raise
        except Exception as error:  # whatever it is, it is for the window to show
            self.events.put(error)

    async def _open(self) -> None:
        self._opened = _, tools, execute = self._opening(self._stack)
        self.events.put(Ready(len(tools), execute is not None))

    async def _ask(self, request: str) -> None:
        assert self._opened is not None
        engine, tools, _ = self._opened
        async with aclosing(engine.astream(request, tools, top_k=4)) as events:
            async for event in events:
                self.events.put(event)

    async def _run(self, call: ToolCall) -> None:
        assert self._opened is not None
        _, _, execute = self._opened
        assert execute is not None
        self.events.put(await asyncio.to_thread(execute, call))


def opening(bundle: Path, model: str | None, mcp: Path | None, tools: Path | None) -> Callable[[ExitStack], Opened]:
    """What opens the engine and the servers, in the backend's thread."""

    def opened(stack: ExitStack) -> Opened:
        execute, visible = None, read_tools(tools) if tools else ()
        if mcp:
            toolbox = stack.enter_context(connect(read_config(mcp)))
            execute, visible = toolbox.execute, toolbox.tools
        return stack.enter_context(DualTune.load(bundle, model)), visible, execute

    return opened
