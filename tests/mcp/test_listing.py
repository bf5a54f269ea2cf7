"""A tool that cannot be used is set aside alone, with its reason; the others of its server go on."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from dualtune_mlx.errors import ServerError, ToolError, UsageError
from dualtune_mlx.mcp import ServerConfig, ToolWarning, connect
from dualtune_mlx.mcp.listing import MOST_TOOLS, Listing
from dualtune_mlx.mcp.tool_checks import read_tool
from dualtune_mlx.tools import ToolCall
from dualtune_mlx.tools.labels import label_tools

Make = Callable[..., ServerConfig]
FINE = {"name": "fine", "inputSchema": {"properties": {"a": {"type": "string"}}}}


def tool(name: str = "bad", **parts: Any) -> dict[str, Any]:
    return {"name": name, **parts}


def argument(schema: Any) -> dict[str, Any]:
    return tool(inputSchema={"type": "object", "properties": {"a": schema}})


def listing(*tools: Any, **fields: Any) -> Listing:
    made = Listing(ServerConfig("s", "c", **fields))
    for one in tools:
        made.add(one)
    return made


BAD: dict[str, tuple[Any, str]] = {
    "a type that JSON Schema has not": (argument({"type": "float"}), "not a valid JSON Schema"),
    "a draft of old": (argument({"type": "number", "exclusiveMinimum": True}), "not a valid JSON Schema"),
    "properties in a list": (tool(inputSchema={"type": "object", "properties": []}), "not a valid JSON Schema"),
    "no object": (tool(inputSchema={"type": "array"}), "does not describe an object"),
    "a schema in words": (tool(inputSchema="an object"), "does not describe an object"),
    "a reference to nowhere": (argument({"$ref": "#/$defs/nowhere"}), "cannot be enforced"),
    "a reference to elsewhere": (argument({"$ref": "http://example.invalid/s"}), "cannot be enforced"),
    "a pattern that is none": (argument({"type": "string", "pattern": "("}), "a tool's schema"),
    "a pattern that looks ahead": (argument({"type": "string", "pattern": "^(?!a)b"}), "cannot be enforced"),
    "a long name": (tool("b" * 300), "name cannot be used"),
    "a name of two lines": (tool("b\nc"), "name cannot be used"),
    "a name that writes on the terminal": (tool("b\x1b[2J"), "name cannot be used"),
    "a name of a space": (tool(" "), "name cannot be used"),
    "no name": ({"inputSchema": {}}, "without a name"),
    "no tool": ("a tool", "without a name"),
    "a description that is no text": (tool(description=["d"]), "description is not text"),
    "a long description": (tool(description="d" * 20_001), "description is beyond the limit"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD.keys())
def test_is_set_aside_alone(bad: Any, reason: str) -> None:
    made = listing(bad, FINE)
    assert [one.name for one in made.tools] == ["fine"] == [one.name for one in made.shown]
    ((name, error),) = made.set_aside.items()
    assert reason in error.what and len(name) <= 200 and len(str(error)) < 1_500
    assert name.isprintable() and str(error).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "decoration",
    [
        {"title": 5},
        {"icons": "icon.png"},
        {"outputSchema": {"type": "float"}},
        {"outputSchema": []},
        {"_meta": 1},
        {"execution": "fast"},
    ],
)
def test_what_is_not_needed_of_a_tool_may_be_damaged(server: Make, decoration: dict[str, Any]) -> None:
    tools = [{**FINE, **decoration}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with connect([server("lists", json.dumps(tools))]) as toolbox:
            assert json.loads(toolbox.execute(ToolCall("fine", {"a": "b"})).text) == {"a": "b"}
            assert not toolbox.set_aside


@pytest.mark.parametrize(
    ("annotations", "hints"),
    [
        ({"readOnlyHint": True, "title": None}, {"readOnlyHint": True}),
        ({"destructiveHint": "no"}, {"destructiveHint": "no"}),
        (["readOnlyHint"], {"destructiveHint": ["readOnlyHint"]}),
        (None, {}),
    ],
)
def test_hints_that_cannot_be_read_are_kept_as_they_are(server: Make, annotations: Any, hints: dict[str, Any]) -> None:
    with connect([server("lists", json.dumps([{**FINE, "annotations": annotations}]))]) as toolbox:
        assert toolbox.tools[0].annotations == hints


def test_two_tools_of_one_name_are_both_set_aside_and_one_that_is_listed_twice_is_one() -> None:
    made = listing(tool("a"), FINE, tool("a", description="another"), FINE, tool("a"))
    assert [one.name for one in made.tools] == ["fine"]
    assert "two tools of one name" in made.set_aside["a"].what


def test_an_excluded_tool_is_not_looked_at() -> None:
    made = listing(tool(inputSchema=5), FINE, exclude=("bad",))
    assert not made.set_aside and [one.name for one in made.tools] == ["fine"]
    made.check_configuration()


@pytest.mark.parametrize("name", ["b" * 300, "b\nc", "b" * 200])
def test_a_name_that_cannot_be_used_is_excluded_as_it_is_or_as_it_is_shown(name: str) -> None:
    (shown,) = listing(tool(name)).set_aside
    for excluded in (name, shown):
        made = listing(tool(name), FINE, exclude=(excluded,))
        assert not made.set_aside
        made.check_configuration()


def test_what_the_configuration_says_of_a_tool_that_is_set_aside_is_no_mistake() -> None:
    bad = tool(inputSchema={"properties": {"repo": {"type": "float"}}})
    listing(bad, FINE, pinned={"repo": 1}, allow=("bad",), groups={"g": ("bad",)}).check_configuration()
    with pytest.raises(UsageError, match="pinned arguments"):
        listing(bad, FINE, pinned={"rope": 1}).check_configuration()


def test_a_list_without_end_is_refused() -> None:
    with pytest.raises(ToolError, match="list of tools is beyond the limit"):
        listing(*({"name": str(n), "inputSchema": 5} for n in range(MOST_TOOLS + 1)))


def test_the_toolbox_tells_of_it_once_and_its_server_goes_on(server: Make) -> None:
    tools = [argument({"type": "float"}), tool("worse", inputSchema=[]), FINE]
    with pytest.warns(ToolWarning) as warned:
        with connect([server("lists", json.dumps(tools)), server("good", "--broken")]) as toolbox:
            assert json.loads(toolbox.execute(ToolCall("fine", {"a": "b"})).text) == {"a": "b"}
            assert {name: reason.what for name, reason in toolbox.set_aside.items()} == {
                "lists/bad": "a tool's schema is not a valid JSON Schema",
                "lists/worse": "a tool's schema does not describe an object",
                "good/broken": "a tool's schema is not a valid JSON Schema",
            }
            with pytest.raises(ToolError, match=r"set aside(?s:.*)lists/bad(?s:.*)'float'(?s:.*)exclude"):
                toolbox.execute(ToolCall("bad", {"a": 1}))
    (message,) = (str(one.message) for one in warned)
    assert "lists/bad at $.properties.a.type" in message and "'float'" in message and "lists/worse" in message
    assert "good/broken" in message and "exclude" in message


def test_a_tool_that_goes_bad_later_is_set_aside_then(server: Make) -> None:
    with connect([server("rough", pinned={"n": 1})]) as toolbox:
        before = [one.name for one in toolbox.tools]
        toolbox.execute(ToolCall("spoil"))
        assert [one.name for one in toolbox.tools] == before and not toolbox.failures
        assert list(toolbox.set_aside) == ["rough/bad"]


def test_a_tool_that_the_sdk_drops_is_set_aside_too(server: Make) -> None:
    headers = tool(inputSchema={"type": "object", "properties": {"a": {"type": "object", "x-mcp-header": "a b"}}})
    with (
        pytest.warns(ToolWarning, match="modern_only/bad"),
        connect([server("modern_only", json.dumps([headers]))]) as box,
    ):
        assert [one.name for one in box.tools] == ["ping"]
        assert "headers" in box.set_aside["modern_only/bad"].what


def test_a_tool_may_be_called_respond(server: Make) -> None:
    with connect([server("lists", json.dumps([tool("respond"), FINE]))]) as toolbox:
        assert list(label_tools(toolbox.tools)) == ["lists/respond", "fine"]
        assert toolbox.execute(ToolCall("respond", {}, "lists")).text == "{}"


def test_tools_that_take_long_to_read_end_at_the_timeout(server: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_slowly(*args: Any) -> Any:
        time.sleep(0.1)
        return read_tool(*args)

    monkeypatch.setattr("dualtune_mlx.mcp.listing.read_tool", read_slowly)
    tools = json.dumps([tool(str(number)) for number in range(100)])
    began = time.monotonic()
    with pytest.raises(ServerError, match="did not answer within 1 s"):
        with connect([server("lists", tools, start_timeout=1.0)]):
            pass
    assert time.monotonic() - began < 5


def chain(length: int, links: int) -> dict[str, Any]:
    """A tool whose arguments are at the end of references, each of which leads to the next one ``links`` times."""
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * links} for n in range(length)}
    end = {"properties": {"repo": {"type": "string"}, "msg": {"type": "string"}}}
    return tool(inputSchema={"$ref": "#/$defs/s0", "$defs": {**steps, f"s{length}": end}})


@pytest.mark.parametrize("pinned", [{}, {"repo": "/srv/repo"}])
def test_references_without_measure_are_set_aside(pinned: dict[str, Any]) -> None:
    (fine,) = listing(chain(5, 2), pinned=pinned).shown
    assert ("repo" in json.dumps(dict(fine.parameters))) is not bool(pinned)
    for bad, reason in ((chain(40, 2), "4,398,046,511,102 subschemas"), (chain(600, 1), "lead too far")):
        made = listing(bad, FINE, pinned=pinned)
        assert [one.name for one in made.tools] == ["fine"] and reason in str(made.set_aside["bad"])


def test_a_schema_that_is_used_inside_itself_is_fine() -> None:
    node = {"type": "object", "properties": {"child": {"$ref": "#"}, "data": {"const": {"allOf": 5, "$ref": "x"}}}}
    assert listing(tool(inputSchema=node)).tools
