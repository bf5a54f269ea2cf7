"""The fit of lexical evidence: choices of an engine beside their plain probabilities, and what the bundle keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualtune_mlx import DualTune
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.decoding import Evidence, fit_evidence
from dualtune_mlx.engine.evidence import fit_bundle, known_choice, open_neutral
from dualtune_mlx.errors import DataError
from dualtune_mlx.models import load_model
from dualtune_mlx.tools import RESPOND, Message, ToolCall, Trajectory
from dualtune_mlx.tools.lexical import lexical_scores
from tests.engine.test_embedding import TOOLS, make_bundle
from tests.engine.test_lexical_match import SERVERS

pytestmark = pytest.mark.filterwarnings("ignore::dualtune_mlx.engine.trained_tools.ToolsWarning")


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path)


def ask(request, call, tools=SERVERS):
    return Trajectory((Message("user", request), Message("assistant", tool_calls=(call,) if call else ())), tools)


def call_of(tool):
    return ToolCall(tool.name, {"path": "a"}, tool.server)


ASKED = [
    *(ask(f"{tool.description.lower()} now", call_of(tool)) for tool in SERVERS),
    ask("tell me a joke", None),
    ask("what do you think?", None),
]


def test_a_choice_has_the_model_s_probabilities_and_the_scores_of_what_is_shown(bundle):
    base = load_model(bundle.model)
    (decision,) = call_decisions(ask("delete a reminder", call_of(SERVERS[4])))
    with open_neutral(bundle, base, shown=5) as neutral:
        (choice,) = known_choice(neutral, decision)
        ranked = {tool.name: share for tool, share in neutral.select(decision.messages, SERVERS, top_k=9)}
    scores = {tool.name: s for tool, s in zip(SERVERS, lexical_scores("delete a reminder", SERVERS), strict=True)}
    shown = [tool.name for tool in SERVERS if tool.name in ranked]
    assert len(shown) == 5
    assert choice.probabilities == pytest.approx([ranked[name] for name in [*shown, RESPOND.name]])
    assert choice.scores == pytest.approx([scores[name] for name in shown])
    assert shown[choice.right] == "delete_reminder"


def test_choices_that_words_cannot_decide_are_left_out(bundle):
    after = Trajectory((*ASKED[0].messages, Message("tool", "done"), Message("assistant", "It is done.")), SERVERS)
    first, end = call_decisions(after)
    hidden = replace(first, messages=(Message("user", "delete the album"),))
    trained = replace(first, tools=tuple(TOOLS), call=call_of(TOOLS[0]))
    with open_neutral(bundle, load_model(bundle.model), shown=1) as neutral:
        assert [len(list(known_choice(neutral, one))) for one in (first, end, hidden, trained)] == [1, 0, 0, 0]


def test_the_fit_is_kept_in_the_bundle_and_used(bundle):
    base, told = load_model(bundle.model), []
    fitted, choices = fit_bundle(bundle, base, ASKED, shown=6, report=lambda *done: told.append(done))
    assert (choices, told[-1]) == (len(ASKED), (len(ASKED), len(ASKED)))
    assert Bundle.open(bundle.folder) == fitted
    with open_neutral(bundle, base, shown=6) as neutral:
        known = [
            one for asked in ASKED for decision in call_decisions(asked) for one in known_choice(neutral, decision)
        ]
    assert fitted.evidence == fit_evidence(known, 6)
    assert fitted.evidence.weight > 1
    with DualTune.load(bundle.folder, base) as dualtune:
        assert dualtune.counts_words(SERVERS) and not dualtune.counts_words(TOOLS)
        assert dualtune.select("delete that reminder", SERVERS)[0][0].name == "delete_reminder"


def test_data_of_trained_tools_is_refused(bundle):
    with pytest.raises(DataError, match="no choice that words could count in"):
        fit_bundle(bundle, load_model(bundle.model), [ask("read a", call_of(TOOLS[0]), tuple(TOOLS))])
    assert Bundle.open(bundle.folder).evidence is None
    assert bundle.set_evidence(Evidence()).evidence == Evidence()
