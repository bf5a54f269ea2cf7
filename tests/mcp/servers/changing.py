"""A server whose tools are those of a file, also when it changes; a call is answered with its arguments.

A second argument is the seconds that it takes to list tools that changed.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from wire import notify, serve, text

FILE, DELAY = Path(sys.argv[1]), float(sys.argv[2])
tools: list[dict[str, Any]] = json.loads(FILE.read_text())


class Slow(list[dict[str, Any]]):
    def __getitem__(self, key: Any) -> Any:
        time.sleep(DELAY if self != first else 0)
        return super().__getitem__(key)


def watch() -> None:
    while True:
        new = json.loads(FILE.read_text())
        if new != list(tools):
            tools[:] = new
            notify("notifications/tools/list_changed")
            FILE.with_suffix(".announced").touch()
        time.sleep(0.01)


first = tools
tools = Slow(tools)
threading.Thread(target=watch, daemon=True).start()
serve(tools, lambda name, arguments: text(json.dumps([name, arguments])))
