"""How visible tools differ from trained ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.changes import ToolChanges, compare_tools, find_reworded

PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ, LIST, NOW = Tool("read", "Read.", PATH, "fs"), Tool("list", "List.", PATH, "fs"), Tool("now", server="clock")
TRAINED = (READ, LIST, NOW)
STRANGER = Tool("cat", "Read.", PATH, "fs")
WIDER = replace(READ, parameters={**PATH, "required": []})


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (TRAINED, ToolChanges()),
        ((NOW, LIST, READ), ToolChanges()),
        ((replace(READ, description="Show.", annotations={"readOnlyHint": True}), LIST, NOW), ToolChanges()),
        ((STRANGER, LIST, NOW), ToolChanges(untrained=(STRANGER,), gone=(READ,))),
        ((WIDER, LIST, NOW), ToolChanges(changed=(WIDER,))),
        ((READ,), ToolChanges(gone=(LIST, NOW))),
        ((), ToolChanges(gone=TRAINED)),
        ((replace(READ, server="other"), LIST, NOW), ToolChanges((replace(READ, server="other"),), gone=(READ,))),
        (tuple(replace(tool, server="") for tool in TRAINED), ToolChanges()),
    ],
    ids=["same", "another order", "other words", "renamed", "changed", "fewer", "none", "other server", "no servers"],
)
def test_tools_are_compared_by_server_name_and_schema(visible, expected):
    changes = compare_tools(TRAINED, visible)
    assert changes == expected
    assert bool(changes) == (expected != ToolChanges())


def test_the_keys_of_a_schema_may_come_in_another_order():
    other = replace(READ, parameters=dict(reversed(PATH.items())))
    assert not compare_tools([READ], [other])


def test_where_the_training_had_no_servers_the_name_counts_but_one_of_the_same_server_first():
    plain = replace(READ, server="")
    assert not compare_tools([plain], [READ])
    assert compare_tools([plain, WIDER], [WIDER]) == ToolChanges(gone=(plain,))


def test_a_line_names_some_and_json_names_all():
    many = tuple(Tool(f"t{number}", server="s") for number in range(5))
    changes = ToolChanges(untrained=many, gone=(Tool("x"),))
    assert changes.describe() == "never trained: s/t0, s/t1, s/t2 and 2 more; gone: x"
    assert changes.to_dict()["untrained"] == [{"server": "s", "name": f"t{number}"} for number in range(5)]
    assert (changes.to_dict()["changed"], ToolChanges().describe()) == ([], "")


def test_reworded_tools_have_another_description_and_the_same_schema():
    reworded = replace(READ, description="Show.")
    assert find_reworded(TRAINED, (reworded, LIST, replace(WIDER, description="Else."), STRANGER)) == (reworded,)
