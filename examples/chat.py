"""A small chat window over a bundle: it shows the chosen tool and the arguments as they are written, and Run runs them.

    python examples/chat.py --bundle build/demo/bundle --mcp build/demo/mcp.json
    python examples/chat.py --bundle build/demo/bundle --tools tools.json

Tk and the standard library only. The window looks for events and draws them; the work is in ``backend.py``.
"""

from __future__ import annotations

import argparse
import tkinter as tk
from collections.abc import Callable
from pathlib import Path
from tkinter import font

from backend import Backend, Ready, Stopped, make_open

from dualtune_mlx import Tool, ToolCall
from dualtune_mlx.engine.events import ArgumentText, Candidates, Done, StageBegins
from dualtune_mlx.errors import count_of
from dualtune_mlx.mcp import ToolResult

PAPER, CARD, INK, SOFT, TRACK = "#f2f2f7", "#ffffff", "#1c1c1e", "#8e8e93", "#e9e9ee"
BLUE, GREEN, RED = "#0a6cff", "#248a3d", "#d70015"
WIDTH, BAR = 640, 170


class Button(tk.Label):
    """A flat button that looks the same on every system; it can be switched off."""

    def __init__(self, parent: tk.Misc, text: str, color: str, press: Callable[[], None]) -> None:
        super().__init__(parent, text=text, fg="white", padx=14, pady=5, cursor="hand2")
        self._color, self._press, self._on = color, press, True
        self.bind("<Button-1>", lambda event: self._press() if self._on else None)
        self.switch(True)

    def switch(self, on: bool) -> None:
        """Switch the button on or off."""
        self._on = on
        self.configure(bg=self._color if on else "#c7c7cc")


class Turn(tk.Frame):
    """One request and its call, drawn while they come."""

    def __init__(self, parent: tk.Misc, request: str, run: Callable[[ToolCall], None] | None) -> None:
        super().__init__(parent, bg=PAPER)
        self._run = run
        tk.Label(self, text=request, bg=BLUE, fg="white", padx=12, pady=7, wraplength=440, justify="left").pack(
            anchor="e", padx=16, pady=(12, 6)
        )
        self.card = tk.Frame(self, bg=CARD, padx=14, pady=10)
        self.card.pack(fill="x", padx=16)
        self.status = self._line("Choosing a tool …", SOFT)
        self.written: tk.Label | None = None

    def show(self, event: object) -> None:
        """Draw an event of the engine, a result, or an error."""
        match event:
            case StageBegins("arguments", Tool() as tool):
                self.status.configure(text=f"Writing the arguments of {tool.name} …")
                if self.written is not None:
                    self.written.destroy()
                self.written = self._line("", INK, "DualTuneMono")
            case Candidates(ranked):
                for place, (tool, probability) in enumerate(ranked):
                    self._bar(tool, probability, BLUE if place == 0 else "#b9d3ff")
            case ArgumentText(text) if self.written is not None:
                self.written.configure(text=self.written.cget("text") + text)
            case Done(call):
                self._show_call(call)
            case ToolResult():
                self._line(event.text[:1200] or "(nothing)", RED if event.is_error else GREEN, "DualTuneMono")
                self._line(f"server {event.seconds:.2f} s", SOFT, "DualTuneSmall")
            case Stopped():
                self.status.configure(text="Stopped.")
            case Exception():
                self.status.configure(text=str(event), fg=RED)

    def _show_call(self, call: ToolCall) -> None:
        times = "   ".join(f"{name} {stage.seconds:.2f} s" for name, stage in call.usage.stages.items())
        chosen = f"{call.server} / {call.name}" if call.server else call.name
        self.status.configure(text="No tool is needed." if call.is_respond else chosen)
        self._line(f"{times}   {call.usage.forwards} forward passes", SOFT, "DualTuneSmall")
        if self._run is None or call.is_respond:
            return
        run = self._run

        def press() -> None:
            button.switch(False)
            run(call)

        button = Button(self.card, "Run", GREEN, press)
        button.pack(anchor="w", pady=(6, 2))

    def _bar(self, tool: Tool, probability: float, color: str) -> None:
        row = tk.Frame(self.card, bg=CARD)
        row.pack(fill="x", pady=1)
        tk.Label(row, text=tool.name, bg=CARD, fg=INK, width=30, anchor="w").pack(side="left")
        bar = tk.Canvas(row, width=BAR, height=10, bg=TRACK, highlightthickness=0)
        bar.create_rectangle(0, 0, round(BAR * probability), 10, fill=color, width=0)
        bar.pack(side="left", padx=8)
        tk.Label(row, text=f"{probability:.1%}", bg=CARD, fg=SOFT, font="DualTuneSmall").pack(side="left")

    def _line(self, text: str, color: str, style: str = "DualTuneText") -> tk.Label:
        label = tk.Label(self.card, text=text, bg=CARD, fg=color, font=style, wraplength=560, justify="left")
        label.pack(anchor="w", pady=(2, 2))
        return label


class Window:
    """The window; it looks for events 30 times a second."""

    def __init__(self, root: tk.Tk, backend: Backend) -> None:
        self.root, self.backend = root, backend
        self.turn: Turn | None = None
        self.busy, self.can_run = True, False
        root.title("DualTune")
        root.geometry(f"{WIDTH}x720")
        root.configure(bg=PAPER)
        family = font.nametofont("TkDefaultFont").actual("family")
        mono = font.nametofont("TkFixedFont").actual("family")
        self._fonts = [  # Tk forgets a font that nothing holds; sizes below zero are pixels
            font.Font(name=f"DualTune{name}", family=which, size=size)
            for name, which, size in (("Text", family, -14), ("Small", family, -12), ("Mono", mono, -13))
        ]
        root.option_add("*Font", "DualTuneText")
        self.status = tk.Label(root, text="Loading …", bg=PAPER, fg=SOFT, anchor="w")
        self.status.pack(fill="x", padx=16, pady=(10, 4))
        self.entry, self.send, self.stop = self._make_input()
        self.view, self.turns = self._make_scroll_area()
        root.protocol("WM_DELETE_WINDOW", self.close)
        root.after(30, self.poll)

    def ask(self) -> None:
        request = self.entry.get().strip()
        if request and not self.busy:
            self.entry.delete(0, "end")
            self.turn = Turn(self.turns, request, self.run if self.can_run else None)
            self.turn.pack(fill="x")
            self._set_busy(True)
            self.backend.ask(request)

    def run(self, call: ToolCall) -> None:
        self._set_busy(True)
        self.backend.execute(call)

    def poll(self) -> None:
        """Draw the events that have come, and look again soon."""
        while not self.backend.events.empty():
            self._show(self.backend.events.get())
        self.root.after(30, self.poll)

    def close(self) -> None:
        self.backend.close()
        self.root.destroy()

    def _show(self, event: object) -> None:
        if isinstance(event, Ready):
            self.can_run = event.can_run
            self.status.configure(
                text=count_of(event.tools, "tool") + ("" if self.can_run else ", which cannot be run here")
            )
        elif self.turn is None:
            self.status.configure(text=str(event), fg=RED)
            return  # it could not be loaded, so there is nothing to ask
        else:
            self.turn.show(event)
        if isinstance(event, Ready | Done | ToolResult | Stopped | Exception):
            self._set_busy(False)
        self.root.update_idletasks()
        self.view.yview_moveto(1.0)

    def _set_busy(self, busy: bool) -> None:
        self.busy = busy
        self.send.switch(not busy)
        self.stop.switch(busy)

    def _make_input(self) -> tuple[tk.Entry, Button, Button]:
        row = tk.Frame(self.root, bg=PAPER)
        row.pack(side="bottom", fill="x", padx=16, pady=12)
        entry = tk.Entry(row, relief="flat", bg=CARD, fg=INK, insertbackground=INK, highlightthickness=1)
        entry.configure(highlightbackground="#d1d1d6", highlightcolor=BLUE)
        entry.pack(side="left", fill="x", expand=True, ipady=6)
        entry.bind("<Return>", lambda event: self.ask())
        entry.focus_set()
        send = Button(row, "Send", BLUE, self.ask)
        stop = Button(row, "Stop", RED, self.backend.stop)
        for button in (send, stop):
            button.pack(side="left", padx=(8, 0))
        send.switch(False)
        stop.switch(False)
        return entry, send, stop

    def _make_scroll_area(self) -> tuple[tk.Canvas, tk.Frame]:
        bar = tk.Scrollbar(self.root)
        view = tk.Canvas(self.root, bg=PAPER, highlightthickness=0, yscrollcommand=bar.set)
        bar.configure(command=view.yview)
        bar.pack(side="right", fill="y")
        view.pack(fill="both", expand=True)
        turns = tk.Frame(view, bg=PAPER)
        inside = view.create_window(0, 0, anchor="nw", window=turns)
        view.bind("<Configure>", lambda event: view.itemconfigure(inside, width=event.width))
        turns.bind("<Configure>", lambda event: view.configure(scrollregion=view.bbox("all")))
        view.bind_all("<MouseWheel>", lambda event: view.yview_scroll(-1 if event.delta > 0 else 1, "units"))
        return view, turns


def main() -> None:
    parser = argparse.ArgumentParser(description="A small chat window over a bundle.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--model", help="the base model, where it lies elsewhere than the bundle says")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--mcp", type=Path, help="mcpServers file; its servers are started")
    source.add_argument("--tools", type=Path, help="JSON file with tools; their calls are shown, not run")
    options = parser.parse_args()
    root = tk.Tk()
    Window(root, Backend(make_open(options.bundle, options.model, options.mcp, options.tools)))
    root.mainloop()


if __name__ == "__main__":
    main()
