"""Fitting a word classifier: it tells requests apart that it never saw, and counts in a bundle's calls."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import Decoding, join
from dualtune_mlx.engine.lexical_match import open_words
from dualtune_mlx.engine.requests import CallRequest
from dualtune_mlx.errors import BundleError, DataError
from dualtune_mlx.tools import RESPOND, Message, ToolCall, Trajectory, as_messages
from dualtune_mlx.tools.lexical import lexical_scores
from dualtune_mlx.training.words import fit_bundle_words, fit_words
from tests import tiny
from tests.engine.test_embedding import TOOLS, make_bundle

SAID = {
    "files/read": ("show what {} says", "what is inside of {}", "display {} for me", "let me see {}"),
    "files/write": ("jot down {}", "note that {}", "keep {} for later", "put {} on paper"),
    "respond": ("good morning {}", "tell me a joke, {}", "thanks {}", "who are you, {}"),
}
THINGS = ("milk", "the plan", "a letter", "three eggs", "my diary")
FILES = tuple(Tool(name, "", {}, "files") for name in ("read", "write"))


def asked(text: str, choice: str, tools: tuple[Tool, ...] = FILES) -> Trajectory:
    name = choice.rpartition("/")[2]
    calls = () if choice == RESPOND.name else (ToolCall(name, {}, "files"),)
    reply = Message("assistant", "" if calls else "Hello.", calls)
    return Trajectory((Message("user", text), reply), tools)


TRAIN = [asked(text.format(thing), choice) for choice, texts in SAID.items() for text in texts for thing in THINGS]


def embed(text: str) -> np.ndarray:
    return np.array([len(text), text.count("a")], np.float32)


@pytest.mark.parametrize(
    ("request_", "choice"),
    [("note: the bill", "files/write"), ("display the bill", "files/read"), ("thanks a lot", "respond")],
)
def test_requests_that_were_never_seen_are_told_apart(request_, choice):
    classifier = fit_words(TRAIN, FILES, embed)
    choices = [*SAID]
    logs = classifier.read(request_, embed(request_)).choose(choices)
    assert choices[int(np.argmax(logs))] == choice


def test_the_same_seed_gives_the_same_numbers():
    one, other = (fit_words(TRAIN, FILES, embed, seed=3) for _ in range(2))
    assert np.array_equal(one.weights, other.weights)


def test_a_request_s_first_call_counts():
    both = Message("assistant", "", (ToolCall("read", {}, "files"), ToolCall("write", {}, "files")))
    twice = Trajectory((Message("user", "copy it"), both), FILES)
    classifier = fit_words([twice, twice], FILES, embed)
    read, write = classifier.read("copy it", embed("copy it")).choose(["files/read", "files/write"])
    assert read > write


def test_optional_arguments_are_told_from_the_words():
    properties = {"text": {"type": "string"}, "due": {"type": "string"}, "tag": {"type": "string"}}
    tool = Tool("add", "", {"type": "object", "properties": properties, "required": ["text"]}, "notes")

    def add(request: str, **arguments: str) -> Trajectory:
        reply = Message("assistant", "", (ToolCall("add", arguments, "notes"),))
        return Trajectory((Message("user", request), reply), (tool,))

    plain = [add(f"note {thing}", text=thing) for thing in THINGS * 2]
    due = [add(f"note {thing}, it is due on Monday", text=thing, due="Monday") for thing in THINGS * 2]
    classifier = fit_words([*plain, *due, add("note it, tagged red", text="it", tag="red")], [tool], embed)
    assert ("notes/add", "tag") not in classifier.outputs, "one call is too few"
    assert ("notes/add", "text") not in classifier.outputs, "it is required"
    logits = [
        classifier.read(text, embed(text)).arguments("notes/add")["due"] for text in ("note a", "note a, due on Monday")
    ]
    assert logits[0] < -0.4 < 0.4 < logits[1]


def test_the_forms_of_copied_values_are_learned():
    properties = {"path": {"type": "string"}, "note": {"type": "string"}, "mode": {"enum": ["a"]}}
    tool = Tool("save", "", {"type": "object", "properties": properties}, "notes")
    data = []
    for number in range(10):
        arguments = {"path": f"{number}.txt", "note": THINGS[number % 5], "mode": "a"}
        request = f"save {arguments['note']} in {number}.txt"
        reply = Message("assistant", "", (ToolCall("save", arguments, "notes"),))
        data.append(Trajectory((Message("user", request), reply), (tool,)))
    assert fit_words(data, [tool], embed).forms == {"notes/save": {"path": "file"}}
    assert fit_words(data[:7], [tool], embed).forms == {}, "too few"


def test_without_requests_nothing_is_learned():
    with pytest.raises(DataError, match="no requests"):
        fit_words([Trajectory((Message("user", "hello"),), FILES)], FILES, embed)


@pytest.fixture
def bundle(tmp_path):
    made = make_bundle(tmp_path / "b")
    base = tiny.model()
    reply = Message("assistant", "", (ToolCall(TOOLS[0].name, {}),))
    fit_bundle_words(made, base, [Trajectory((Message("user", "note that"), reply), tuple(TOOLS))] * 4)
    return base, made.folder


def test_what_was_learned_joins_the_model_s_probabilities(bundle):
    base, folder = bundle
    with DualTune.load(folder, base) as dualtune, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evidence, words = dualtune.bundle.words.evidence, open_words(dualtune.bundle, base)
        with_words = {tool.full_name: share for tool, share in dualtune.select("note that", TOOLS, top_k=9)}
        assert dualtune.counts_words(TOOLS)
    with DualTune(base, dualtune.renderer, bundle=replace(dualtune.bundle, words=None)) as plain:
        alone = plain.select("note that", TOOLS, top_k=9)
    logs = words.read("note that").choose([tool.full_name for tool, _ in alone])
    scores = {id(tool): score for tool, score in zip(TOOLS, lexical_scores("note that", TOOLS), strict=True)}
    gains = [evidence.weight * scores.get(id(tool), 0.0) + log for (tool, _), log in zip(alone, logs, strict=True)]
    expected = join([share for _, share in alone], gains, evidence.sharpness)
    named = {tool.full_name: share for (tool, _), share in zip(alone, expected, strict=True)}
    assert with_words == pytest.approx(named, abs=1e-5)
    assert max(with_words, key=with_words.get) == TOOLS[0].full_name


def test_where_a_tool_is_unknown_nothing_learned_counts(bundle):
    base, folder = bundle
    other = Tool("unknown", "Something else.", {}, "files")
    with DualTune.load(folder, base) as dualtune, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not dualtune.counts_words((*TOOLS, other))


def test_words_for_a_model_of_another_width_are_refused(bundle):
    _, folder = bundle
    wider = tiny.model(hidden_size=128)
    with pytest.raises(BundleError, match="another model"):
        open_words(Bundle.open(folder), wider)


def test_what_the_words_surely_say_binds_the_arguments(bundle):
    base, folder = bundle
    properties = {name: {"type": "string", "maxLength": 4} for name in ("path", "mode")}
    tool = replace(TOOLS[0], parameters={"type": "object", "properties": properties, "required": ["path"]})
    requests = ["read a plainly as usual", "read b, in raw mode"] * 8
    calls = [ToolCall(tool.name, {"path": "a"}), ToolCall(tool.name, {"path": "b", "mode": "raw"})] * 8
    data = [
        Trajectory((Message("user", request), Message("assistant", "", (call,))), (tool,))
        for request, call in zip(requests, calls, strict=True)
    ]
    opened = replace(Bundle.open(folder), tools=(tool,))
    opened.write()
    fit_bundle_words(opened, base, data)
    with DualTune.load(folder, base) as dualtune:
        there = dualtune.arguments("read c, in raw mode", tool, [tool], max_tokens=200)
        absent = dualtune.arguments("read c plainly as usual", tool, [tool], max_tokens=200)
        called = Message("assistant", "", (calls[0],))
        later = [*as_messages("read c plainly as usual"), called, Message("tool", "done")]
        request = CallRequest(tuple(later), (tool,), Decoding())
        assert dualtune._open.pipeline.prepare_arguments(request, tool).narrowed == tool, "after a call all is open"
    assert there.keys() == {"path", "mode"} and absent.keys() == {"path"}
