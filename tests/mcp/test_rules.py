"""Arguments that the configuration forbids, or holds to a pattern or a folder."""

from __future__ import annotations

import json
import unicodedata

import pytest

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.mcp import connect, read_config
from dualtune_mlx.mcp.rules import Rule, check_rules, make_absolute
from dualtune_mlx.tools import Tool, ToolCall

TOOL = Tool("write", server="fs")


def allows(rule: Rule, value: object, folder: str | None = None) -> bool:
    arguments = {"a": value, "other": "/etc"}
    if folder:
        arguments = make_absolute(arguments, TOOL, [rule], folder)
    try:
        check_rules(arguments, TOOL, [rule])
    except ToolError as error:
        assert "fs/write" in str(error) and "'a'" in str(error)
        return False
    return True


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("TOP", True),
        ("TOP/a/b", True),
        ("TOP/../top/a", True),
        ("a", True),
        ("./a/../b", True),
        (["TOP/a", "b"], True),
        ("/", False),
        ("TOPmost", False),
        ("TOP/../etc/passwd", False),
        ("../top2", False),
        ("~/a", False),
        ("~root", False),
        ("file://TOP/a", False),
        ("https://hostTOP", False),
        ("C:\\a", False),
        (" /etc/passwd", False),
        ("'/etc/passwd'", False),
        ('TOP/link"', False),
        ("TOP/a\n", False),
        ("", False),
        ("TOP/a\0b", False),
        (["TOP/a", "/etc"], False),
        ([["TOP/a"]], False),
        ({"path": "TOP"}, False),
        (7, False),
        (None, False),
    ],
)
def test_paths_below_a_folder(value, fine, tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    put = json.loads(json.dumps(value).replace("TOP", str(top)))
    assert allows(Rule(("a",), below=str(top)), put, str(top)) is fine


def test_links_are_followed_both_ways(tmp_path):
    top, out = tmp_path / "top", tmp_path / "out" / "deep"
    top.mkdir(), out.mkdir(parents=True)
    (top / "link").symlink_to(out)
    (tmp_path / "alias").symlink_to(top)
    rule = Rule(("a",), below=str(top))
    assert not allows(rule, f"{top}/link/secret")
    assert not allows(rule, f"{top}/link/../x")  # the system says out/x
    assert allows(rule, f"{tmp_path}/alias/x")


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("said", ["NFC", "NFD"])
def test_a_name_is_found_however_its_letters_are_composed(tmp_path, on_disk, said):
    top, out = tmp_path / "top", tmp_path / "out"
    (top / "fol\u00e9er").mkdir(parents=True), out.mkdir()
    link, name = (unicodedata.normalize(form, "l\u1ea5nk\u00e9") for form in (on_disk, said))  # several marks a letter
    (top / "fol\u00e9er" / link).symlink_to(out)
    (top / "loop").symlink_to(top)
    rule = Rule(("a",), below=str(top))
    for folder in ("fol\u00e9er", "fole\u0301er", "/".join(["loop"] * 50) + "/fole\u0301er"):
        assert not allows(rule, f"{top}/{folder}/{name}/secret")
        assert allows(rule, f"{top}/{folder}/e\u0301lse/x")


def test_the_folder_of_a_rule_is_itself_no_other_spelling(tmp_path):
    (tmp_path / "e\u0301").mkdir()
    assert not allows(Rule(("a",), below=f"{tmp_path}/\u00e9"), f"{tmp_path}/\u00e9/x")


def test_a_relative_path_is_none_of_a_folder_until_it_is_made_absolute(tmp_path):
    rule = Rule(("a",), below=str(tmp_path))
    assert not allows(rule, "x", None)
    assert not allows(rule, "x", str(tmp_path.parent))
    assert make_absolute({"a": ["x", "/y"], "b": "x"}, TOOL, [rule], "/w") == {"a": ["/w/x", "/y"], "b": "x"}


def test_a_server_gets_the_path_that_was_judged(server, tmp_path):
    """It may take a relative one from another folder than its working folder: its first allowed one, say."""
    (tmp_path / "in").mkdir()
    rules = (Rule(("text", "folder"), below=str(tmp_path / "in")),)
    config = server("good", cwd=str(tmp_path / "in"), pinned={"folder": "pinned"}, rules=rules)
    with connect([config]) as toolbox:
        inside = f"{tmp_path}/in"
        assert (
            toolbox.execute(ToolCall("echo", {"text": "secret/key.txt"})).text
            == f"{inside}/pinned: {inside}/secret/key.txt"
        )
        for outside in ("../key.txt", " /etc/passwd", "~/x"):
            with pytest.raises(ToolError, match="an absolute path below"):
                toolbox.execute(ToolCall("echo", {"text": outside}))


def test_rules_hold_when_a_prepared_call_is_sent(server, tmp_path):
    """A folder may have become a link while the user was asked."""
    (tmp_path / "in/sub").mkdir(parents=True)
    config = server("good", cwd=str(tmp_path), rules=(Rule(("text",), below=str(tmp_path / "in")),))
    with connect([config]) as toolbox:
        prepared = toolbox.prepare(ToolCall("echo", {"text": "in/sub/key.txt", "folder": "f"}))
        (tmp_path / "in/sub").rmdir()
        (tmp_path / "in/sub").symlink_to("/etc")
        with pytest.raises(ToolError, match="an absolute path below"):
            toolbox.execute(prepared)


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("feature/x", True),
        (["feature/x", "feature/y"], True),
        ("xfeature/x", False),
        ("feature/x\n", False),
        ({}, False),
    ],
)
def test_patterns_match_the_whole_text(value, fine):
    assert allows(Rule(("a",), pattern="feature/[a-z]+"), value) is fine


def test_numbers_are_matched_as_text_and_forbidden_is_forbidden():
    assert allows(Rule(("a",), pattern="[1-9]"), 5)
    assert not allows(Rule(("a",), pattern="[1-9]"), 50)
    assert not allows(Rule(("a",), forbidden=True), None)
    assert allows(Rule(("b",), forbidden=True), 1)


def test_a_rule_may_be_for_some_tools():
    assert allows(Rule(("a",), ("read",), forbidden=True), 1)
    assert not allows(Rule(("a",), ("read", "write"), forbidden=True), 1)


def write_config(tmp_path, **ours):
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"fs": {"command": "c", "dualtune": ours}}}))
    return read_config(path)[0]


def test_rules_come_from_the_configuration(tmp_path):
    rules = [{"arguments": ["path"], "tools": ["write"], "below": "/data"}, {"arguments": ["force"], "forbidden": True}]
    read = write_config(tmp_path, rules=rules, allow=["write"], trust_hints=True)
    assert read.rules == (Rule(("path",), ("write",), below="/data"), Rule(("force",), forbidden=True))
    assert (read.allow, read.trust_hints) == (("write",), True)


@pytest.mark.parametrize(
    "rule",
    [
        "x",
        {"below": "/a"},
        {"arguments": ["a"]},
        {"arguments": ["a"], "below": "/a", "pattern": "b"},
        {"arguments": ["a"], "below": "data"},
        {"arguments": ["a"], "pattern": "("},
        {"arguments": ["a"], "forbidden": False},
        {"arguments": "a", "forbidden": True},
        {"arguments": ["a"], "forbidden": True, "tool": ["b"]},
    ],
)
def test_a_rule_that_is_none_is_refused(tmp_path, rule):
    with pytest.raises(UsageError, match=r"'rules'\[0\]"):
        write_config(tmp_path, rules=[rule])


def test_the_toolbox_holds_calls_to_them(server):
    rules = (Rule(("text",), ("echo",), pattern="[a-z]+"), Rule(("b",), forbidden=True))
    with connect([server("good", rules=rules, pinned={"folder": "/data"})]) as toolbox:
        assert toolbox.execute(ToolCall("echo", {"text": "hi"})).text == "/data: hi"
        assert toolbox.prepare(ToolCall("echo", {"text": "hi"})).call.arguments == {"text": "hi", "folder": "/data"}
        with pytest.raises(ToolError, match="does not allow this 'text'"):
            toolbox.execute(ToolCall("echo", {"text": "HI"}))
        with pytest.raises(ToolError, match="does not allow this 'b'"):
            toolbox.execute(ToolCall("add", {"a": 1, "b": 2}))
        shown = {tool.name: tool.parameters for tool in toolbox.servers[0].tools}
        assert "b" not in shown["add"]["properties"]


@pytest.mark.parametrize(
    "fields",
    [
        {"rules": (Rule(("nothing",), forbidden=True),)},
        {"rules": (Rule(("a",), ("no",), forbidden=True),)},
        {"allow": ("no",)},
        {"groups": {"sums": ("add", "no")}},
    ],
)
def test_names_that_the_server_does_not_have_are_refused(server, fields):
    with pytest.raises(UsageError, match="does not have"), connect([server("good", **fields)]):
        pass
