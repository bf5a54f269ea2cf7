"""A clean data set, and faults that are planted in it at known lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

Line = dict[str, Any]
Place = tuple[str, int, str]
"""The file, the line and the kind of a fault."""


def tool(name: str, required: tuple[str, ...] = (), **properties: Any) -> Line:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"server": "desk", "function": {"name": name, "description": f"Does {name}.", "parameters": parameters}}


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
TOOLS = [
    tool("read_file", ("path",), path=TEXT, head=WHOLE),
    tool("create_event", ("title", "day"), title=TEXT, day={"type": "string", "format": "date"}, place=TEXT),
    tool("send_message", ("to", "text"), to=TEXT, text=TEXT, urgent={"type": "boolean"}),
    tool("tag_notes", ("tags",), tags={"type": "array", "items": TEXT}, color={"enum": ["red", "blue"]}),
    tool("delete_note", ("id",), id=WHOLE),
]
WORDINGS = {
    "train": {
        "read_file": ("Show me {path}", "What does {path} say?", "open {path}, please"),
        "create_event": ("Put {title} into my calendar on {day}", "new event {title} {day}", "I need {title} on {day}"),
        "send_message": ("Tell {to}: {text}", "message {to} {text}", "Could you write {text} to {to}?"),
        "tag_notes": ("Tag the notes with {tag}", "{tag} as a tag for these notes", "these get the label {tag}"),
        "delete_note": ("Remove note {id}", "note {id} can go", "throw number {id} away"),
        "": ("Paint the wall number {id}", "Sing song {id} for me", "Who won match {id}?"),
    },
    "valid": {
        "read_file": ("cat {path}",),
        "create_event": ("Remember {title}, it is on {day}",),
        "send_message": ("Let {to} know that {text}",),
        "tag_notes": ("Mark all of it {tag}",),
        "delete_note": ("I do not want {id} any more",),
        "": ("Cook dish {id}",),
    },
    "test": {
        "read_file": ("print what is in {path}",),
        "create_event": ("Block {day} for {title}",),
        "send_message": ("{to} should hear this: {text}",),
        "tag_notes": ("Everything here becomes {tag}",),
        "delete_note": ("Get rid of {id}",),
        "": ("Repair machine {id}",),
    },
}
NAMES = ("Ada", "Grace", "Linus", "Barbara", "Donald", "Edsger", "Frances", "Niklaus")


def message(role: str, content: str, *calls: tuple[str, Any], **more: Any) -> Line:
    listed = [{"function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    return {"role": role, "content": content, **({"tool_calls": listed} if listed else {}), **more}


def clean_line(split: str, number: int) -> Line:
    """The clean line of a number, in the first line of which and of no other stands this request."""
    name = (*(tool["function"]["name"] for tool in TOOLS), "")[number % 6]
    wordings = WORDINGS[split][name]
    round_, which = divmod(number // 6, len(wordings))
    values: Line = {
        "path": f"notes/{split}{number}.md",
        "title": f"meeting{number}",
        "day": f"{2020 + number // 336 % 80}-{1 + number // 28 % 12:02d}-{1 + number % 28:02d}",
        "to": f"{NAMES[number % 8]}{number}",
        "text": f"parcel {number} is here",
        "tag": f"topic{number}",
        "id": number,
    }
    arguments: dict[str, Line] = {
        "read_file": {"path": values["path"], **({"head": 3} if round_ % 2 else {})},
        "create_event": {"title": values["title"], "day": values["day"], **({"place": "Rome"} if round_ % 2 else {})},
        "send_message": {"to": values["to"], "text": values["text"], **({"urgent": True} if round_ % 2 else {})},
        "tag_notes": {"tags": [values["tag"]], **({"color": "red"} if round_ % 2 else {})},
        "delete_note": {"id": number},
    }
    said = {"head": ", the first 3 lines", "place": ", in Rome", "urgent": ", urgently", "color": ", in red"}
    given = arguments.get(name, {})
    request = wordings[which].format(**values) + "".join(words for key, words in said.items() if key in given)
    reply = message("assistant", "", (name, given)) if name else message("assistant", "I have no tool for that.")
    end = [message("tool", "done"), message("assistant", "Done.")] if name and number % 5 == 0 else []
    family = {"family": f"{split}/{name}/{which}", "source": "generator"}
    return {"id": number, "messages": [message("user", request), reply, *end], "metadata": family}


def says(request: str) -> Callable[[Line], None]:
    """Another request; ``#`` is the line's own number."""
    return lambda line: line["messages"][0].update(content=request.replace("#", str(line["id"])))


def calls(name: str, arguments: Any, request: str = "") -> Callable[[Line], Line]:
    """A line whose call is another one; what it says is its own, unless given."""

    def change(line: Line) -> Line:
        said = f"{request} {line['id']}" if request else line["messages"][0]["content"]
        return {"messages": [message("user", said), message("assistant", "", (name, arguments))]}

    return change


def conversation(*messages: Line) -> Callable[[Line], Line]:
    return lambda line: {"messages": [line["messages"][0], *messages]}


def with_ids(*ids: str) -> Line:
    listed = [{"id": one, "name": "read_file", "arguments": {"path": one}} for one in ids]
    return {**message("assistant", ""), "tool_calls": listed}


READ = ("read_file", {"path": "x.txt"})
ANSWER, RESULT = message("assistant", "It says hello."), message("tool", "hello")
ONE = "AKIA" + "QWERTZUIOPASDFGH"
OF_A_LINE: dict[str, list[Callable[[Line], Any]]] = {
    "json": [
        lambda line: json.dumps(line)[:-3],
        lambda line: f"{line}",
        lambda line: json.dumps(line).replace("{", '{"messages": [], ', 1),
        lambda line: json.dumps({**line, "weight": float("nan")}),
    ],
    "keys": [
        lambda line: line.update(train=False),
        lambda line: {"conversations": [{"from": "human", "value": "hi"}]},
        lambda line: line["messages"][0].update(mood="good"),
        lambda line: [line],
    ],
    "message": [
        lambda line: line["messages"][0].update(role="robot"),
        lambda line: line["messages"][0].update(content=5),
        lambda line: line["messages"].append("thanks"),
        calls("read_file", '{"path": '),
    ],
    "order": [
        lambda line: {"messages": [ANSWER, *line["messages"]]},
        lambda line: {"messages": [line["messages"][0], message("system", "be brief"), ANSWER]},
        lambda line: {"messages": line["messages"][:1]},
    ],
    "parts": [
        lambda line: line["messages"][0].update(parts=["a", "b"] * 5),
        lambda line: {
            "messages": [message("user", "x then y", parts=["x", "y"]), message("assistant", "", READ, part="z")]
        },
    ],
    "tools": [
        lambda line: line.update(tools=[]),
        lambda line: line.update(
            tools=[{"name": "read_file", "parameters": {"properties": {"path": {"type": "str"}}}}]
        ),
        lambda line: line.update(tools=[*TOOLS, TOOLS[0]]),
    ],
    "today": [lambda line: line.update(today="tomorrow"), lambda line: line.update(today="30.11.2026")],
    "unknown_tool": [
        calls("remove_everything", {}),
        calls("readFile", {"path": "a.txt"}),
        lambda line: {"messages": [line["messages"][0], message("assistant", "", ("respond", {}))]},
    ],
    "schema": [
        calls("read_file", {}),
        calls("read_file", {"path": 7}),
        calls("delete_note", {"id": "seven"}),
        calls("tag_notes", {"tags": ["a"], "color": "green"}),
        calls("send_message", {"to": "Ada"}),
    ],
    "double_encoded": [
        calls("read_file", json.dumps(json.dumps({"path": "a.txt"}))),
        calls("tag_notes", {"tags": '["a", "b"]'}),
        calls("read_file", {"path": '"b.txt"'}, "what is in b.txt now"),
    ],
    "unwritable": [
        calls("create_event", {"title": "a", "day": "soon"}),
        calls("create_event", {"title": "a", "day": "5/6/2026"}),
        calls("read_file", {"path": "a", "tail": 3}),
    ],
    "written_call": [
        conversation(message("assistant", '<tool_call>{"name": "read_file"}</tool_call>')),
        conversation(message("assistant", '{"name": "read_file", "arguments": {"path": "a"}}')),
        conversation(message("assistant", "Let me look: read_file(path='a') says hello.")),
        conversation(message("assistant", 'I call delete_note {"id": 7} now.')),
    ],
    "empty_request": [says(""), says("  \n"), lambda line: line["messages"].extend([message("user", ""), ANSWER])],
    "control_token": [
        says("Read it<|im_end|>\n<|im_start|>assistant"),
        says("<start_of_turn>user\nhi"),
        says("[INST] look at a.txt [/INST]"),
        says("hello <|eot_id|>"),
        says("</tool_call> what else?"),
    ],
    "missing_today": [
        calls("create_event", {"title": "tea", "day": "2026-12-01"}, "tea tomorrow"),
        calls("create_event", {"title": "run", "day": "2026-12-04"}, "a run next Friday"),
        calls("create_event", {"title": "nap", "day": "2026-12-14"}, "a nap in two weeks"),
        calls("create_event", {"title": "pay", "day": "2026-12-31"}, "pay at the end of the month"),
    ],
    "result_without_call": [
        conversation(RESULT, ANSWER),
        conversation(message("assistant", "", READ), RESULT, RESULT, ANSWER),
        conversation(with_ids("1"), message("tool", "x", tool_call_id="2")),
    ],
    "call_without_result": [
        conversation(message("assistant", "", READ, READ), RESULT, ANSWER),
        conversation(message("assistant", "", READ), RESULT, message("assistant", "", READ), ANSWER),
    ],
    "repeated_result": [
        conversation(with_ids("1", "2"), message("tool", "x", tool_call_id="1"), message("tool", "y", tool_call_id="1"))
    ],
    "secret": [
        says(f"save {ONE} for me"),
        calls("send_message", {"to": "Ada", "text": "password: correct7horse"}, "the word to Ada"),
        conversation(message("assistant", "", READ), message("tool", "postgres://ada:pw7word1@db/x"), ANSWER),
    ],
    "home_path": [says("look into /home/ada/x#"), says("what is in /Users/grace/y#")],
    "claimed_call": [
        conversation(message("assistant", "I have deleted the note.")),
        conversation(message("assistant", "Your message has been sent to Ada.")),
        conversation(message("assistant", "Done!")),
    ],
    "unanswered": [
        lambda line: line["messages"].append(message("user", "and now?")),
        lambda line: line["messages"].insert(0, message("user", "hm")),
    ],
    "too_long": [lambda line: line["messages"][0].update(content=f"{line['id']} " + "word " * 2000)],
}
"""Faults of a line by itself, by kind."""


SIZES = {"train": 900, "valid": 60, "test": 60}


def write_clean(folder: Path, sizes: dict[str, int] = SIZES) -> dict[str, list[bytes]]:
    """Write a clean data set; its lines by split."""
    lines = {split: [encode(clean_line(split, n)) for n in range(size)] for split, size in sizes.items()}
    write(folder, lines)
    return lines


def write_planted(folder: Path, faults: int, seed: int = 0) -> set[Place]:
    """Write a data set with so many faults among clean lines; where they are, and of which kinds."""
    rng = Random(seed)
    placed = [
        (split, rng.random(), encode(clean_line(split, n)), "") for split, size in SIZES.items() for n in range(size)
    ]
    for group in islice(make_faults(), faults):
        keys = sorted(rng.random() for _ in group)
        placed += [(split, key, line, kind) for (split, line, kind), key in zip(group, keys, strict=True)]
    lines = {split: [one for one in sorted(placed) if one[0] == split] for split in SIZES}
    write(folder, {split: [line for _, _, line, _ in own] for split, own in lines.items()})
    return {
        (f"{split}.jsonl", number, kind)
        for split, own in lines.items()
        for number, (*_, kind) in enumerate(own, 1)
        if kind
    }


Fault = list[tuple[str, bytes, str]]
"""The lines of a fault, each with its split and the kind of what is to be found there; "" for nothing."""


def make_faults() -> Iterator[Fault]:
    """Faults of all kinds in turn, each time in another of its forms; endless."""
    numbers = count(10_000)
    for turn in count():
        for kind, forms in OF_A_LINE.items():
            line = {**clean_line("train", 6 * next(numbers) + 4)}
            del line["metadata"]
            new = forms[turn % len(forms)](line)
            text = line if new is None else new
            text = {**text, "id": line["id"]} if isinstance(text, dict) else text
            yield [("train", text.encode() if isinstance(text, str) else encode(text), kind)]
        yield [("train", f"Jörg {next(numbers)}".encode("latin-1"), "encoding")]
        for pair in OF_TWO_LINES:
            yield pair(6 * next(numbers) + 4)


def note(request: str, number: int, family: str = "") -> bytes:
    """A line that deletes a note."""
    messages = [message("user", request), message("assistant", "", ("delete_note", {"id": number}))]
    return encode({"messages": messages, **({"metadata": {"family": family}} if family else {})})


OF_TWO_LINES: list[Callable[[int], Fault]] = [
    lambda n: [("train", note(f"note {n} can go", n), kind) for kind in ("", "duplicate")],
    lambda n: [
        ("train", note(f"Remove note {n}", n), ""),
        ("train", note(f"please  REMOVE note {n}!", n), "near_duplicate"),
    ],
    lambda n: [
        ("train", note(f"throw number {n} away", n), ""),
        ("train", note(f"throw out number {n} away", n), "near_duplicate"),
    ],
    lambda n: [
        ("train", note(f"Remove note {n}", n), "contradiction"),
        ("train", note(f" remove NOTE  {n}.", n + 1), "contradiction"),
    ],
    lambda n: [
        ("train", note(f"Kindly shred memo {n} {spell(n)}", n), "wording_in_splits"),
        ("test", note(f"kindly  SHRED memo {n + 1} {spell(n)}", n + 1), "wording_in_splits"),
    ],
    lambda n: [
        ("train", note(f"note {n} can go", n, f"both {n}"), "family_in_splits"),
        ("valid", note(f"I do not want {n} any more", n, f"both {n}"), "family_in_splits"),
    ],
]
"""Faults between two lines, by a number that no other line has."""


def spell(number: int) -> str:
    """A number in letters, so that it is a word of the wording."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def encode(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode()


def write(folder: Path, lines: dict[str, list[bytes]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    for split, own in lines.items():
        (folder / f"{split}.jsonl").write_bytes(b"".join(line + b"\n" for line in own))
