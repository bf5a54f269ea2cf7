"""The sources of the start bundle's data, each from a few lines in its own format."""

import json

import pytest

from dualtune_mlx.start.domain import keep_usable
from dualtune_mlx.start.recipe import HELD_OUT, divide, read_sources
from dualtune_mlx.start.sources.bfcl import CATEGORIES, read_bfcl
from dualtune_mlx.start.sources.clinc import INTENTS, read_clinc
from dualtune_mlx.start.sources.meta_tool import read_meta_tool
from dualtune_mlx.start.sources.seal_tools import read_seal_tools
from dualtune_mlx.start.sources.wordings import read_wordings
from tests.synthesis.test_requests import TOOLS


def write_lines(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_seal_tools(tmp_path):
    parameters = {"n": {"type": "int", "description": "Number"}, "title": {"type": "str", "description": "Title"}}
    tool = {
        "api_name": "addField",
        "api_description": "Add.",
        "field": "A/B",
        "parameters": parameters,
        "required": ["n"],
    }
    data = tmp_path / "Seal-Tools_Dataset"
    write_lines(data / "tool.jsonl", tool, {**tool, "api_name": "other"})
    calls = [{"api": "addField", "parameters": {"title": "x", "n": "59"}}]
    write_lines(data / "dev.jsonl", {"query": 'Add "x.', "calling": calls}, {"query": "two", "calling": calls * 2})
    write_lines(
        data / "test_in_domain.jsonl", {"query": "bad", "calling": [{"api": "addField", "parameters": {"n": "?"}}]}
    )
    write_lines(data / "test_out_domain.jsonl")
    (domain,) = map(keep_usable, read_seal_tools(tmp_path))
    assert [tool.name for tool in domain.tools] == ["addField", "other"]
    assert domain.tools[0].parameters["properties"]["n"] == {"type": "integer", "description": "Number"}
    first, unread = domain.requests
    assert (first.text, first.tool, first.arguments) == ('Add "x".', "addField", {"n": 59, "title": "x"})
    assert unread.arguments is None


def test_bfcl(tmp_path):
    schema = {"type": "dict", "properties": {"x": {"type": "float"}, "unit": {"type": "String"}}, "required": ["x"]}
    function = {"name": "math.area", "description": "Area.", "parameters": schema}
    for category in CATEGORIES:
        name = f"BFCL_v4_{category}.json"
        ask = [[{"role": "user", "content": "The area of 5 in CM"}]]
        write_lines(tmp_path / name, {"id": "1", "question": ask, "function": [function]})
        answer = {"math.area": {"x": [5.0, 5], "unit": ["m", "cm", ""]}}
        write_lines(tmp_path / "possible_answer" / name, {"id": "1", "ground_truth": [answer]})
    found = [keep_usable(domain) for domain in read_bfcl(tmp_path)]
    assert [domain.name for domain in found] == list(CATEGORIES)
    (request,) = found[0].requests
    assert (request.tool, request.arguments) == ("math_area", {"x": 5, "unit": "m"})
    assert found[0].tools[0].parameters["properties"] == {"x": {"type": "number"}, "unit": {"type": "string"}}


def test_meta_tool(tmp_path):
    data = tmp_path / "dataset" / "data"
    data.mkdir(parents=True)
    (data / "all_clean_data.csv").write_text('Query,Tool\n"Find papers, please",Papers\nPlay,Music\n')
    write_lines(tmp_path / "dataset" / "plugin_des.json", {"Papers": "Finds papers.", "Music": "Plays.", "unused": ""})
    (domain,) = read_meta_tool(tmp_path)
    assert [(tool.name, tool.description) for tool in domain.tools] == [
        ("Papers", "Finds papers."),
        ("Music", "Plays."),
    ]
    assert next((one.text, one.tool, one.arguments) for one in domain.requests) == (
        "Find papers, please",
        "Papers",
        None,
    )


def test_clinc(tmp_path):
    splits = ("train", "val", "test", "oos_train", "oos_val", "oos_test")
    texts = {split: [] for split in splits}
    texts["train"] = [["pay it", "pay_bill"], ["hi", "greeting"]]
    texts["oos_val"] = [["who won", "oos"]]
    write_lines(tmp_path / "data" / "data_full.json", texts)
    write_lines(tmp_path / "data" / "domains.json", {"banking": ["pay_bill"], "small_talk": ["greeting"]})
    banking, nothing = read_clinc(tmp_path)
    assert [tool.name for tool in banking.tools] == ["pay_bill"]
    assert banking.tools[0].description == json.loads(INTENTS.read_text())["pay_bill"]
    assert [(one.text, one.tool) for one in nothing.requests] == [("hi", ""), ("who won", "")]


@pytest.fixture(scope="module")
def ours():
    return [keep_usable(domain) for domain in read_wordings(TOOLS)]


def test_our_wordings_are_for_tools_without_what_the_host_pins(ours):
    *servers, small_talk = ours
    assert {domain.name for domain in servers} == {"filesystem", "git", "time", "memory", "sqlite", "everything"}
    assert all("repo_path" not in tool.parameters["properties"] for domain in servers for tool in domain.tools)
    assert all(domain.requests for domain in servers)
    assert all(not request.tool for request in small_talk.requests)


def test_held_out_servers_are_not_trained_on(tmp_path):
    trained, held_out = divide(read_sources(tmp_path))
    assert sorted(domain.name for domain in held_out) == sorted(HELD_OUT)
    assert not set(HELD_OUT) & {domain.name for domain in trained}
