"""A bundle knows its tools: what it is shown beside them is told, once for each tool set."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import replace

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.engine.trained_tools import ToolsWarning
from dualtune_mlx.models import load_model
from dualtune_mlx.tools import changes
from dualtune_mlx.tools.changes import ToolChanges
from tests import tiny
from tests.engine.engines import PATH
from tests.engine.test_embedding import TOOLS, make_bundle

READ, LIST = TOOLS
RENAMED = replace(READ, name="cat_file")
REQUEST, SHORT = "show a.txt", {"max_tokens": 64}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def base(bundle):
    return load_model(bundle.model)


@pytest.fixture
def dualtune(bundle, base):
    with DualTune.load(bundle.folder, base) as engine:
        yield engine


@pytest.fixture
def silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_renamed_tool_is_told_once_for_its_tool_set(dualtune):
    shown = [RENAMED, LIST]
    with pytest.warns(ToolsWarning, match="never trained: cat_file; gone: read_file(?s:.*)fix: train") as told:
        for _ in range(2):
            dualtune.call(REQUEST, shown, **SHORT)
            dualtune.select(REQUEST, [tool.to_dict() for tool in shown])
            asyncio.run(dualtune.acall(REQUEST, shown, **SHORT))
            dualtune.call_many([REQUEST] * 2, shown, **SHORT)
    assert len(told) == 1
    with pytest.warns(ToolsWarning, match="schema changed: read_dir"):
        dualtune.arguments(REQUEST, READ, [READ, replace(LIST, parameters={"type": "object"})], **SHORT)


@pytest.mark.usefixtures("silence")
def test_what_the_bundle_knows_is_no_news_and_neither_are_tools_that_are_not_shown(dualtune):
    dualtune.call(REQUEST, TOOLS, **SHORT)
    dualtune.call(REQUEST, TOOLS[:1], **SHORT)
    dualtune.plan(REQUEST, [RENAMED])


@pytest.mark.usefixtures("silence")
def test_who_compares_is_not_warned_too(dualtune):
    assert dualtune.compare_tools([RENAMED.to_dict(), LIST]) == ToolChanges(untrained=(RENAMED,), gone=(READ,))
    dualtune.call(REQUEST, [RENAMED, LIST], **SHORT)


@pytest.mark.usefixtures("silence")
def test_where_nothing_is_known_nothing_is_said(bundle, base):
    with DualTune(base, tiny.renderer(base)) as parts:
        assert parts.compare_tools(TOOLS) is None
        parts.call(REQUEST, TOOLS, **SHORT)
    with DualTune(base, tiny.renderer(base), bundle=replace(Bundle.open(bundle.folder), tools=())) as assembled:
        assert assembled.compare_tools(TOOLS) is None
        assembled.call(REQUEST, [RENAMED], **SHORT)


@pytest.mark.filterwarnings("ignore::dualtune_mlx.engine.trained_tools.ToolsWarning")
def test_a_tool_set_is_compared_once_however_many_calls_it_serves(dualtune, monkeypatch):
    compared = []
    compare = changes.compare_tools
    monkeypatch.setattr(
        "dualtune_mlx.engine.trained_tools.compare_tools", lambda *sides: compared.append(1) or compare(*sides)
    )
    sets = [[Tool(f"tool_{number}", "Do.", PATH)] for number in range(5)]
    for _ in range(3):
        for tools in sets:
            dualtune.select(REQUEST, [tool.to_dict() for tool in tools])
    assert len(compared) == len(sets)
