"""Calls event by event: what is streamed is what is returned, and what is stopped stops."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.engine import attempts, pipeline
from dualtune_mlx.engine.events import ArgumentText, Candidates, Done, Event, StageBegins
from dualtune_mlx.engine.stage import Stage
from dualtune_mlx.errors import UsageError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.tools.usage import Usage
from tests import tiny
from tests.engine.engines import PATH, WORDS, make_calling_engine

TOOLS = [Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH)]
TEXT = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 24, "maxLength": 32}},
    "required": ["text"],
}
LONG = [Tool("say", "Say.", TEXT), Tool("write", "Write.", TEXT)]
"""Tools whose arguments take a tiny model long."""
REQUEST = "show a.txt"


def plain(call):
    """A call and its usage without the times."""
    stages = {name: replace(stage, seconds=0) for name, stage in call.usage.stages.items()}
    return replace(call, usage=Usage()), stages


def text_of(events: list[Event]) -> str:
    """The argument text since the last beginning of a stage."""
    last = max(place for place, event in enumerate(events) if isinstance(event, StageBegins))
    return "".join(event.text for event in events[last:] if isinstance(event, ArgumentText))


@pytest.fixture
def forwards(monkeypatch):
    """The forward passes that any base model makes, and a function that is called before each."""
    passes = {"count": 0, "before": lambda count: None}
    hidden = BaseModel.hidden

    def count_pass(self, tokens, cache):
        passes["before"](passes["count"] + 1)
        states = hidden(self, tokens, cache)
        passes["count"] += 1
        return states

    monkeypatch.setattr(BaseModel, "hidden", count_pass)
    return passes


@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_what_is_streamed_is_what_is_returned(activation):
    call = make_calling_engine(TOOLS, activation).call(REQUEST, TOOLS, top_k=3, max_tokens=64)
    events = list(make_calling_engine(TOOLS, activation).stream(REQUEST, TOOLS, top_k=3, max_tokens=64))
    tool, _ = call.candidates[0]
    assert events[0] == StageBegins("selector")
    assert events[1] == Candidates(call.candidates)
    assert events[2] == StageBegins("arguments", tool)
    assert all(isinstance(event, ArgumentText) and event.text for event in events[3:-1])
    assert isinstance(events[-1], Done)
    assert plain(events[-1].call) == plain(call)
    assert json.loads(text_of(events)) == call.arguments


def test_a_call_without_arguments_and_one_that_abstains_end_after_the_choice():
    dualtune = make_calling_engine(TOOLS)
    for options in ({"abstain": 1.0}, {"tools": [Tool("now", "Time.")]}):
        events = list(dualtune.stream(**{"messages": REQUEST, "tools": TOOLS, **options}))
        assert [type(event) for event in events] == [StageBegins, Candidates, Done]
        assert plain(events[-1].call)[0] == plain(dualtune.call(**{"messages": REQUEST, "tools": TOOLS, **options}))[0]


def test_no_event_ends_inside_a_character():
    words = ["aé€", "aè₭", "日本", "日木"]  # their bytes part inside a character
    schema = {"type": "object", "properties": {"w": {"enum": words}}, "required": ["w"]}
    tools = [Tool("one", "", schema), Tool("two", "", schema)]
    events = list(make_calling_engine(tools).stream(REQUEST, tools))
    assert events[-1].call.arguments["w"] in words
    assert json.loads(text_of(events)) == events[-1].call.arguments
    assert "\ufffd" not in text_of(events)


def test_where_arguments_are_written_again_their_stage_begins_again(monkeypatch):
    monkeypatch.setattr(attempts, "find_unsure_strings", lambda *_: {"a"})
    tools = [Tool("one", "", WORDS, "s"), Tool("two", "", WORDS, "s")]
    dualtune = make_calling_engine(tools, grounding={"s/one": {"a": ()}, "s/two": {"a": ()}})
    events = list(dualtune.stream(REQUEST, tools, grounding="auto", temperature=1.0, seed=27))
    assert [e.stage for e in events if isinstance(e, StageBegins)] == ["selector", "arguments", "arguments"]
    assert json.loads(text_of(events)) == events[-1].call.arguments


def test_wrong_options_are_refused_before_the_first_event():
    base = tiny.model()
    dualtune = DualTune(base, tiny.renderer(base))
    with pytest.raises(UsageError, match="where: abstain"):
        dualtune.stream(REQUEST, TOOLS, abstain=2)


@pytest.mark.parametrize("taken", [1, 2, 3, 6, 20])
def test_a_closed_stream_computes_nothing_more_and_leaves_the_engine_as_it_was(forwards, taken):
    expected = plain(make_calling_engine(LONG).call(REQUEST, LONG, max_tokens=800, temperature=1.0))
    dualtune = make_calling_engine(LONG)
    events = dualtune.stream(REQUEST, LONG, max_tokens=800, temperature=1.0)
    for _ in range(taken):
        next(events)
    before = forwards["count"]
    assert (dualtune.base.bank.active is None) == (taken == 1)
    events.close()
    assert forwards["count"] == before
    assert dualtune.base.bank.active is None
    assert plain(dualtune.call(REQUEST, LONG, max_tokens=800, temperature=1.0))[0] == expected[0]


def test_another_call_of_the_same_thread_is_refused_and_not_waited_for_for_ever():
    dualtune = make_calling_engine(TOOLS)
    events = dualtune.stream(REQUEST, TOOLS, max_tokens=64)
    next(events)
    for wrong in (lambda: dualtune.call(REQUEST, TOOLS), lambda: dualtune.select(REQUEST, TOOLS), dualtune.close):
        with pytest.raises(UsageError, match="in use by a stream of this same thread"):
            wrong()
    assert isinstance(list(events)[-1], Done)
    assert dualtune.select(REQUEST, TOOLS)


def test_the_asynchronous_call_and_stream_give_the_same():
    call = make_calling_engine(TOOLS).call(REQUEST, TOOLS, top_k=3, max_tokens=64)

    async def both(dualtune):
        events = [event async for event in dualtune.astream(REQUEST, TOOLS, top_k=3, max_tokens=64)]
        return events, await dualtune.acall(REQUEST, TOOLS, top_k=3, max_tokens=64)

    dualtune = make_calling_engine(TOOLS)
    events, again = asyncio.run(both(dualtune))
    assert plain(events[-1].call) == plain(call)
    assert plain(again)[0] == plain(call)[0]
    assert [type(event) for event in events] == [type(event) for event in dualtune.stream(REQUEST, TOOLS)]
    dualtune.close()


def test_errors_of_an_asynchronous_call_are_those_of_a_call():
    dualtune = make_calling_engine(TOOLS)
    with pytest.raises(UsageError, match="where: top_k"):
        asyncio.run(dualtune.acall(REQUEST, TOOLS, top_k=0))
    with pytest.raises(UsageError, match="where: abstain"):
        asyncio.run(dualtune.acall(REQUEST, TOOLS, abstain=2))


@pytest.mark.parametrize("at", [1, 2, 3, 10])
def test_a_cancelled_task_stops_before_the_next_forward_pass(forwards, at):
    """Among them the passes before the first token: of the prefix and of the choice."""
    dualtune = make_calling_engine(LONG)
    lock = dualtune.base.lock

    async def cancel_and_call():
        loop, task = asyncio.get_running_loop(), asyncio.create_task(dualtune.acall(REQUEST, LONG, max_tokens=800))

        def cancel(count):
            if count == start + at:
                loop.call_soon_threadsafe(task.cancel)
                while not lock.holder.cancelled:
                    pass

        start, forwards["before"] = forwards["count"], cancel
        with pytest.raises(asyncio.CancelledError):
            await task
        assert forwards["count"] == start + at - 1
        assert dualtune.base.bank.active is None
        assert not lock.tickets
        forwards["before"] = lambda count: None
        return await dualtune.acall(REQUEST, LONG, max_tokens=800, temperature=1.0)

    expected = make_calling_engine(LONG).call(REQUEST, LONG, max_tokens=800, temperature=1.0)
    assert plain(asyncio.run(cancel_and_call()))[0] == plain(expected)[0]


async def become(true):
    """Wait until a condition holds, as long as a busy machine needs."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.001)


def test_a_call_that_is_cancelled_while_it_waits_leaves_the_line(forwards):
    dualtune = make_calling_engine(TOOLS)
    lock, before = dualtune.base.lock, forwards["count"]

    async def main():
        events = dualtune.stream(REQUEST, TOOLS, max_tokens=64)
        next(events)
        tasks = [asyncio.create_task(dualtune.acall(REQUEST, TOOLS, max_tokens=64)) for _ in range(3)]
        await become(lambda: len(lock.tickets) == 4)
        for task in tasks[:2]:
            task.cancel()
        await become(lambda: len(lock.tickets) == 2)
        assert forwards["count"] == before
        call = list(events)[-1].call
        assert plain(await tasks[2])[0] == plain(call)[0]
        assert all(task.cancelled() for task in tasks[:2])

    asyncio.run(main())


def test_a_stage_without_an_adapter_streams_too():
    base = tiny.model()
    dualtune = DualTune(base, tiny.renderer(base))
    assert dualtune.stage("selector") == Stage("selector")
    events = list(dualtune.stream(REQUEST, TOOLS, max_tokens=64))
    assert plain(events[-1].call)[0] == plain(dualtune.call(REQUEST, TOOLS, max_tokens=64))[0]


@pytest.mark.parametrize(("likely", "prepared"), [(0.0, True), (1.1, False)])
def test_the_leading_tool_s_adapter_is_prepared_during_the_choice(monkeypatch, likely, prepared):
    dualtune = make_calling_engine(TOOLS)
    monkeypatch.setattr(pipeline, "FUSE_AHEAD_FROM", likely)
    seen = []
    monkeypatch.setattr(dualtune.base.fusion, "prepare", lambda adapter: seen.append(adapter.content_hash))
    ((best, _), *_) = dualtune.select("show a.txt", TOOLS, top_k=3)
    expected = dualtune.stage("arguments", best).adapter.content_hash
    assert seen == ([expected] if prepared else [])
