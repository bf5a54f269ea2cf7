"""BFCL's records: a question and functions, with the possible answers in a file of the same name beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualtune_mlx.data.importing.records import iter_records
from dualtune_mlx.data.importing.xlam import ANSWER, read_tool
from dualtune_mlx.errors import DataError

ANSWERS = "possible_answer"
"""The folder beside the questions in which the answers are."""
UNSERVED = "irrelevance"
"""Part of the id of a question that no function serves."""


def read_answers(path: Path) -> dict[str, Any]:
    """The possible answers to the questions of a file by their ids; none where there is no file of them."""
    beside = path.parent / ANSWERS / path.name
    records = iter_records(beside) if beside.is_file() else ()
    return {value["id"]: value["ground_truth"] for _, value in records if isinstance(value, Mapping)}


def read_bfcl(record: Mapping[str, Any], answers: Mapping[str, Any]) -> dict[str, Any]:
    """A line of data of a question of one turn.

    Of the possible values of an argument the first is taken; an argument that may be left out and is not said, is.

    Raises:
        DataError: when the question has several turns, or no answer is known.
    """
    turns, identity = record.get("question"), str(record.get("id"))
    if not isinstance(turns, list) or len(turns) != 1 or not isinstance(turns[0], list):
        raise DataError(
            "a question has several turns", expected="one: the answers to others are programs", where=identity
        )
    functions = record.get("function")
    listed = functions if isinstance(functions, list) else [functions]
    tools = [{"type": "function", "function": read_tool(one)} for one in listed if isinstance(one, Mapping)]
    said = "\n".join(str(message.get("content")) for message in turns[0])
    if identity in answers:
        calls = [
            {"function": {"name": name, "arguments": _pick_arguments(values, said)}}
            for call in answers[identity]
            for name, values in call.items()
        ]
        reply: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": calls}
    elif UNSERVED in identity:
        reply = {"role": "assistant", "content": ANSWER}
    else:
        fix = f"keep the folder {ANSWERS} beside the file"
        raise DataError("no answer to a question is known", where=identity, fix=fix)
    return {"id": identity, "messages": [*turns[0], reply], "tools": tools}


def _pick_arguments(values: Mapping[str, Any], said: str) -> dict[str, Any]:
    picked = {}
    for name, possible in values.items():
        possible = possible if isinstance(possible, list) else [possible]
        given = [value for value in possible if value != ""]
        if given and ("" not in possible or str(given[0]).lower() in said.lower()):
            picked[name] = _pick(given[0], said)
    return picked


def _pick(value: Any, said: str) -> Any:
    """A possible value; the values of an object in it are again lists of possible ones."""
    if isinstance(value, Mapping):
        return _pick_arguments(value, said)
    return [_pick(item, said) for item in value] if isinstance(value, list) else value
