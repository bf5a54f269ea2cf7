from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp.config_file import read_config_file, to_plain_json


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('{"a": 1} // the end', {"a": 1}),
        ('// first\n{"a": /* one\n two */ 1,\n}', {"a": 1}),
        ('{"a": [1, 2, ], "b": {"c": "d" , },}', {"a": [1, 2], "b": {"c": "d"}}),
        ('{"a": [1, // one\n 2, // two\n ]}', {"a": [1, 2]}),
        (
            '{"a": "http://b//c", "d": "/* e */", "f": ",]", "g": "\\",}"}',
            {"a": "http://b//c", "d": "/* e */", "f": ",]", "g": '",}'},
        ),
        ('{"a": "\\\\"} // "', {"a": "\\"}),
        ('{"a": true,}/**/', {"a": True}),
    ],
)
def test_comments_and_trailing_commas_are_passed_over(text: str, plain: object) -> None:
    assert json.loads(to_plain_json(text)) == plain
    assert len(to_plain_json(text)) == len(text) and to_plain_json(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "text", ['{"a": [,]}', '{"a": [1,,]}', "{,}", '{"a": ,}', '{"a" 1}', '{"a": 1 2}', "/* {} ", '{"a": "b}']
)
def test_what_is_no_json_beside_them_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(to_plain_json(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('{\n  // a comment\n  "a": /* b */ 1,\n  "c": }', ["line 4, column 8"]),
        ('{"servers": {"a": {"env": {"T": "s3cr3t"}}}', ["not JSON", "line 1"]),
        ('{"servers": {"a": {"env": {"T": "s3cr3t"}}, "a": {}}}', ["not JSON", "'a' stands there twice"]),
        ('{"a": NaN, "b": "s3cr3t"}', ["not JSON", "NaN"]),
    ],
)
def test_an_error_has_its_place_and_no_secret(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_config_file(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"servers": {}}', encoding="utf-16")
    with pytest.raises(UsageError, match="UTF-16"):
        read_config_file(path)
    path.write_text('{"servers": {}}', encoding="utf-8-sig")
    assert read_config_file(path) == {"servers": {}}
