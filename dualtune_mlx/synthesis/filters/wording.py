"""The filter of how a request is worded: as people write, in a few words, and nothing that is no request."""

from __future__ import annotations

import json
import re

from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import ToolCall
from dualtune_mlx.tools.hierarchy import WORDS

FEWEST, MOST = 3, 45
"""Words of a request."""
NAMELESS = ("indirect",)
"""Styles in which a teacher uses no word of the tool's name."""
SHORTEST_NAME_WORD = 4
"""Letters: shorter words of a name, such as "get" and "by", may stand in any request."""
CONTROL_TOKEN = re.compile(r"<\|[^<>|]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|</?think>|</?tool_call>")
_NO_SPACES = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")  # Thai, Lao, Japanese, Chinese


def explain_wording(request: WordedRequest, *_: object) -> str:
    """What is wrong with the words of the request."""
    text = request.text
    unprintable = next((one for one in text if not one.isprintable() and one not in "\n\t"), "")
    if unprintable:
        return f"a control character: \\u{ord(unprintable):04x}"
    if token := CONTROL_TOKEN.search(text):
        return f"a control token: {token[0]}"
    if not FEWEST <= (words := count_words(text)) <= MOST:
        return f"{words} words, not {FEWEST} to {MOST}"
    if _is_markup(text):
        return "JSON or a block of code, no request"
    return next(filter(None, (_find_name(call, request) for call in request.calls)), "")


def count_words(text: str) -> int:
    """The words of a text. In scripts without spaces, two characters count as one word."""
    spaced, characters = _NO_SPACES.subn(" ", text)
    return len(spaced.split()) + (characters + 1) // 2


def _is_markup(text: str) -> bool:
    if "```" in text:
        return True
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _find_name(call: ToolCall, request: WordedRequest) -> str:
    """The tool's name, as far as the request must not hold it. What is a value may be said."""
    said, values = request.text.casefold(), json.dumps(dict(call.arguments), ensure_ascii=False).casefold()
    name, words = call.name.casefold(), [word.casefold() for word in WORDS.findall(call.name)]
    if len(words) > 1 and name in said and name not in values:
        return f"the tool's name: {call.name}"
    if request.source != "teacher" or request.style not in NAMELESS:
        return ""
    found = set(re.findall(r"\w+", said)) - set(re.findall(r"\w+", values))
    named = [word for word in words if len(word) >= SHORTEST_NAME_WORD and word in found]
    return f"a word of the tool's name, which the style {request.style} has not: {named[0]}" if named else ""
