"""An engine and its servers behind an application's window: nothing here ever makes the window wait.

The model works on a thread of the engine. An event loop, on a thread of this module, drives it with ``astream``. The
window takes events from a queue whenever it likes.
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
Session = tuple[DualTune, tuple[Tool, ...], Execute | None]
"""An engine, the visible tools, and what executes a call (None without servers)."""
Open = Callable[[ExitStack], Session]
"""Opens a session; the stack closes it."""


@dataclass(frozen=True)
class Ready:
    """Everything is loaded."""

    tools: int
    """How many tools there are."""
    can_run: bool
    """Whether there are servers that run them."""


@dataclass(frozen=True)
class Stopped:
    """The work was stopped."""


class Backend:
    """The engine and the servers. Everything that happens is put into ``events``, also errors."""

    def __init__(self, open_session: Open) -> None:
        self.events: queue.Queue[object] = queue.Queue()
        self._open_session, self._stack = open_session, ExitStack()
        self._session: Session | None = None
        self._running: Future[None]
        self._loop, self._end = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run_loop, daemon=True)
        self._thread.start()
        self._start(self._open())

    def ask(self, request: str) -> None:
        """Write a call for a request."""
        self._start(self._ask(request))

    def execute(self, call: ToolCall) -> None:
        """Run a call on its server."""
        self._start(self._execute(call))

    def stop(self) -> None:
        """Cancel the work; the engine stops before its next token."""
        self._running.cancel()

    def close(self) -> None:
        """Stop the work, and close the engine and the servers."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(timeout=10)

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._end.wait())
        self._stack.close()  # the runner has cancelled what was running
        # MLX wants this at the end of every thread that used it, and this one did, to load.
        import mlx.core as mx  # not before dualtune_mlx, which loads OpenBLAS first on Linux

        mx.clear_streams()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._running = asyncio.run_coroutine_threadsafe(self._report_errors(work), self._loop)

    async def _report_errors(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            self.events.put(Stopped())
            raise
        except Exception as error:  # whatever it is, it is for the window to show
            self.events.put(error)

    async def _open(self) -> None:
        self._session = _, tools, execute = self._open_session(self._stack)
        self.events.put(Ready(len(tools), execute is not None))

    async def _ask(self, request: str) -> None:
        assert self._session is not None
        engine, tools, _ = self._session
        async with aclosing(engine.astream(request, tools, top_k=4)) as events:
            async for event in events:
                self.events.put(event)

    async def _execute(self, call: ToolCall) -> None:
        assert self._session is not None
        _, _, execute = self._session
        assert execute is not None
        self.events.put(await asyncio.to_thread(execute, call))


def make_open(bundle: Path, model: str | None, mcp: Path | None, tools: Path | None) -> Open:
    """Make the function that opens the engine and the servers, in the backend's thread."""

    def open_session(stack: ExitStack) -> Session:
        execute, visible = None, read_tools(tools) if tools else ()
        if mcp:
            toolbox = stack.enter_context(connect(read_config(mcp)))
            execute, visible = toolbox.execute, toolbox.tools
        return stack.enter_context(DualTune.load(bundle, model)), visible, execute

    return open_session
