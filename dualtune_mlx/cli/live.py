"""A run as people see it: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from dualtune_mlx.agent.events import AgentEvent, ApprovalDecided, CallProposed, Result, RunEnded, Spoken, SpokenText
from dualtune_mlx.engine.events import ArgumentText, Candidates, Planned, StageBegins
from dualtune_mlx.mcp.approvals import Answer, Question
from dualtune_mlx.tools import Tool, ToolCall

BAR = 20
RESULT = 400
LINES = 8
ANSWERS: dict[str, Answer] = {"y": "yes", "a": "always", "n": "no"}


class View:
    """Prints a run; on a terminal, what is going on now stands below what is done."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self._live = Live(console=out, transient=True, refresh_per_second=10) if out.is_terminal else None
        self._wrap = not out.is_terminal  # elsewhere a line stays one
        self._stage, self._text = "", ""
        self._ranked: tuple[tuple[Tool, float], ...] = ()

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(Text(""))
            self._live.stop()

    def show(self, event: AgentEvent) -> None:
        """The next event."""
        match event:
            case StageBegins(stage, tool):
                self._stage, self._text = f"{stage}{f' of {tool.name}' if tool else ''}", ""
            case Candidates(ranked):
                self._ranked = ranked
            case ArgumentText(text):
                self._text += text
            case SpokenText(purpose, text):
                self._text = self._text + text if self._stage == purpose else text
                self._stage, self._ranked = purpose, ()
            case _:
                self._done(event)
        if self._live:
            self._live.update(self.now())

    def now(self) -> RenderableType:
        """What is going on."""
        if not self._stage:
            return Text("")
        tail = "\n".join(plain(self._text).splitlines()[-LINES:])
        doing = Spinner("dots", Text(plain(self._stage), style="bold"))
        return Group(doing, *map(bar, self._ranked), Text(tail, style="cyan"))

    def ask(self, question: Question) -> Answer:
        """Ask the user, with the call in full; anything but a clear yes is a no."""
        if self._live:
            self._live.stop()
        try:
            self.out.print(Text.assemble(("? ", "bold yellow"), f"{plain(question.why)}. This call would be made:"))
            self.out.print(Text(in_full(question.call), style="yellow"), soft_wrap=self._wrap)
            prompt = f"  Run it? y: yes, a: always {plain(question.tool.name)} in this run, n: no [n] "
            try:
                typed = self.out.input(Text(prompt, style="bold")).strip().lower()
            except EOFError:
                typed = ""
            return ANSWERS.get(typed[:1], "no")
        finally:
            if self._live:
                self._live.start()

    def _done(self, event: AgentEvent) -> None:
        line = finished(event)
        if isinstance(event, CallProposed) and not (event.call.is_respond and event.subtask):  # a part's end is no news
            self._print_candidates()
        if line is not None:
            self.out.print(line, soft_wrap=self._wrap)
        self._stage, self._text, self._ranked = "", "", ()

    def _print_candidates(self) -> None:
        if self._live:
            for row in map(bar, self._ranked):
                self.out.print(row)
        elif self._ranked:
            ranked = ", ".join(f"{tool.name} {share:.1%}" for tool, share in self._ranked)
            self.out.print(Text(f"  {plain(ranked)}", style="dim"), soft_wrap=self._wrap)


def bar(ranked: tuple[Tool, float]) -> Text:
    """A candidate with its probability."""
    tool, share = ranked
    return Text.assemble(f"  {plain(tool.name)[:32]:<32}{share:>7.1%} ", ("█" * round(BAR * share), "blue"))


def finished(event: AgentEvent) -> Text | None:
    """What stays of an event, where it is worth a line."""
    match event:
        case Planned(subtasks, _) if subtasks:
            return Text("\n".join(["plan:", *(f"  - {plain(subtask)}" for subtask in subtasks)]), style="magenta")
        case CallProposed(step, call):
            return Text(f"{step}. {one_line(call)}", style="bold cyan") if not call.is_respond else None
        case ApprovalDecided(action, by, why) if action != "run":
            return Text(f"   {by}: {action} ({plain(why)})", style="yellow")
        case Result():
            shown = plain(event.details or event.text)
            text = " ⏎ ".join(line.strip() for line in shown.splitlines() if line.strip())
            cut = text if len(text) <= RESULT else f"{text[:RESULT]} […]"
            return Text(
                f"   {'error' if event.is_error else 'result'}: {cut}", style="red" if event.is_error else "green"
            )
        case Spoken("plan", text, by):
            return Text(f"plan ({plain(by)}):\n{plain(text)}", style="magenta")
        case RunEnded():
            return ending(event)
    return None


def ending(event: RunEnded) -> Text:
    """The answer, or why there is none."""
    cost = f"{event.steps} calls, {event.tokens:,} tokens, {event.seconds:.1f} s, transcript: {event.transcript}"
    told = Text(plain(event.answer), style="bold")
    if event.reason != "answered":
        told = Text(f"{event.reason}: {plain(event.message)}", style="yellow" if event.succeeded else "bold red")
    return Text.assemble(told, "\n", (cost, "dim"))


def one_line(call: ToolCall) -> str:
    arguments = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    return plain(f"{call.server}/{call.name}({arguments})")


def in_full(call: ToolCall) -> str:
    """A call with nothing left out and nothing hidden."""
    written: Any = json.dumps(dict(call.arguments), ensure_ascii=False, indent=2)
    return plain(f"{call.server}/{call.name} {written}")


def plain(text: str) -> str:
    """Text that cannot steer a terminal, or hide in it: what is not printable is spelled out."""
    return "".join(one if one.isprintable() or one == "\n" else f"\\u{ord(one):04x}" for one in text)
