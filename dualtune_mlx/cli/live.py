"""Shows a run: a live view on a terminal, lines of text elsewhere."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from dualtune_mlx.agent.events import (
    AgentEvent,
    ApprovalDecided,
    CallProposed,
    CallResult,
    RunEnded,
    Spoken,
    SpokenText,
)
from dualtune_mlx.cli.calls import format_folded, format_full, format_short, name_tool, quote_name
from dualtune_mlx.engine.events import ArgumentText, Candidates, Planned, StageBegins
from dualtune_mlx.errors import count_of, escape, escape_line
from dualtune_mlx.mcp import ApprovalQuestion
from dualtune_mlx.mcp.approvals import ApprovalAnswer
from dualtune_mlx.tools import Tool

BAR = 20
RESULT = 400
LINES = 8
ANSWERS: dict[str, ApprovalAnswer] = {"y": "yes", "a": "always", "n": "no"}


class RunDisplay:
    """Prints a run. On a terminal, what goes on now is shown below what is done."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self._live = Live(console=out, transient=True, refresh_per_second=10) if out.is_terminal else None
        self._wrap = not out.is_terminal  # elsewhere a line stays one
        self._stage, self._text = "", ""
        self._ranked: tuple[tuple[Tool, float], ...] = ()

    def __enter__(self) -> RunDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(Text(""))
            self._live.stop()

    def show(self, event: AgentEvent) -> None:
        """Show the next event."""
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
            self._live.update(self.render())

    def render(self) -> RenderableType:
        """What goes on now."""
        if not self._stage:
            return Text("")
        tail = "\n".join(escape(self._text).splitlines()[-LINES:])
        doing = Spinner("dots", Text(escape(self._stage), style="bold"))
        return Group(doing, *map(format_candidate, self._ranked), Text(tail, style="cyan"))

    def ask(self, question: ApprovalQuestion) -> ApprovalAnswer:
        """Ask the user, with the call in full, and folded where the answer is typed. Only a clear yes is a yes."""
        if self._live:
            self._live.stop()
        try:
            self.out.print(Text.assemble(("? ", "bold yellow"), f"{escape(question.why)}. This call would be made:"))
            self.out.print(Text(format_full(question.call), style="yellow"), soft_wrap=self._wrap)
            always = name_tool(question.tool.server, question.tool.name)
            prompt = f"  Run {format_folded(question.call)}?\n  y: yes, a: always {always} in this run, n: no [n] "
            try:
                typed = self.out.input(Text(prompt, style="bold")).strip().lower()
            except EOFError:
                typed = ""
            return ANSWERS.get(typed[:1], "no")
        finally:
            if self._live:
                self._live.start()

    def _done(self, event: AgentEvent) -> None:
        line = summarize(event)
        if isinstance(event, CallProposed) and not (event.call.is_respond and event.subtask):  # a part's end is no news
            self._print_candidates()
        if line is not None:
            self.out.print(line, soft_wrap=self._wrap)
        self._stage, self._text, self._ranked = "", "", ()

    def _print_candidates(self) -> None:
        if self._live:
            for row in map(format_candidate, self._ranked):
                self.out.print(row)
        elif self._ranked:
            ranked = ", ".join(f"{quote_name(tool.name)} {share:.1%}" for tool, share in self._ranked)
            self.out.print(Text(f"  {ranked}", style="dim"), soft_wrap=self._wrap)


def format_candidate(ranked: tuple[Tool, float]) -> Text:
    """A candidate with its probability."""
    tool, share = ranked
    return Text.assemble(f"  {quote_name(tool.name)[:32]:<32}{share:>7.1%} ", ("█" * round(BAR * share), "blue"))


def summarize(event: AgentEvent) -> Text | None:
    """The line for an event; None where it needs no line."""
    match event:
        case Planned(subtasks, _) if subtasks:
            return Text("\n".join(["plan:", *(f"  - {escape(subtask)}" for subtask in subtasks)]), style="magenta")
        case CallProposed(step, call) if not call.is_respond:
            unsaid = Text(f"  unsaid: {escape_line(', '.join(call.unsaid))}", "yellow") if call.unsaid else ""
            return Text.assemble((f"{step}. {format_short(call)}", "bold cyan"), unsaid)
        case ApprovalDecided(action, by, why) if action != "run":
            return Text(f"   {by}: {action} ({escape(why)})", style="yellow")
        case CallResult():
            shown = escape(event.details or event.text)
            text = " ⏎ ".join(line.strip() for line in shown.splitlines() if line.strip())
            cut = text if len(text) <= RESULT else f"{text[:RESULT]} […]"
            return Text(
                f"   {'error' if event.is_error else 'result'}: {cut}", style="red" if event.is_error else "green"
            )
        case Spoken("plan", text, by):
            return Text(f"plan ({escape(by)}):\n{escape(text)}", style="magenta")
        case RunEnded():
            return summarize_end(event)
    return None


def summarize_end(event: RunEnded) -> Text:
    """The answer, or why there is none."""
    spent = f"{count_of(event.steps, 'call')}, {count_of(event.tokens, 'token')}, {event.seconds:.1f} s"
    cost = f"{spent}, transcript: {event.transcript}"
    text = Text(escape(event.answer), style="bold")
    if event.reason != "answered":
        text = Text(f"{event.reason}: {escape(event.message)}", style="yellow" if event.succeeded else "bold red")
    elif event.message:
        text = Text.assemble(text, "\n", (escape(event.message), "yellow"))
    return Text.assemble(text, "\n", (cost, "dim"))
