"""Fitting a word classifier: it tells requests apart that it never saw, and counts in a bundle's calls."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import Evidence, join
from dualtune_mlx.engine.lexical_match import open_words
from dualtune_mlx.errors import BundleError, DataError
from dualtune_mlx.tools import RESPOND, Message, ToolCall, Trajectory
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
    logs = classifier.log_probabilities(request_, embed(request_), classifier.choices)
    assert classifier.choices[int(np.argmax(logs))] == choice


def test_the_same_seed_gives_the_same_numbers():
    one, other = (fit_words(TRAIN, FILES, embed, seed=3) for _ in range(2))
    assert np.array_equal(one.weights, other.weights)


def test_a_request_s_first_call_counts():
    both = Message("assistant", "", (ToolCall("read", {}, "files"), ToolCall("write", {}, "files")))
    twice = Trajectory((Message("user", "copy it"), both), FILES)
    classifier = fit_words([twice, twice], FILES, embed)
    read, write = classifier.log_probabilities("copy it", embed("copy it"), ["files/read", "files/write"])
    assert read > write


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
    with DualTune(base, dualtune.renderer, bundle=dualtune.bundle, evidence=Evidence()) as plain:
        alone = plain.select("note that", TOOLS, top_k=9)
    learned = words.gains("note that", tuple(TOOLS))
    scores = {id(tool): score for tool, score in zip(TOOLS, lexical_scores("note that", TOOLS), strict=True)}
    gains = [evidence.weight * scores.get(id(tool), 0.0) + learned[id(tool)] for tool, _ in alone]
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
