"""A server with the tools of a data folder's ``tools.json`` that name it; every call succeeds."""

import json
import sys
from pathlib import Path

from wire import serve, text

path, name = sys.argv[1:]
functions = [tool["function"] for tool in json.loads(Path(path).read_text()) if tool["server"] == name]
serve(
    [{**function, "inputSchema": function["parameters"]} for function in functions],
    lambda tool, arguments: text(f"{tool} is done"),
)
