"""Variables in configuration files: ``${NAME}``, ``${NAME:-default}``, and those of VS Code that need no editor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import UsageError

VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}")
NEEDS_AN_EDITOR = re.compile(r"\$\{((?:input|command|config|workspaceFolder):[^}]*|/)\}")
OTHER_FORM = re.compile(r"(?:\S+ )?(?:\$[A-Za-z_]\w*|%[A-Za-z_]\w*%|\{env:\w+\})")
"""Variables as Gemini CLI, Windows and opencode write them."""
EDITORS_FOLDERS = (".vscode", ".cursor")


class Variables:
    """The variables that a configuration file may name.

    Attributes:
        used: the variables that were named, with their values. They may be secrets.
    """

    def __init__(self, environment: Mapping[str, str], file: Path) -> None:
        folder = file.absolute().parent
        workspace = folder.parent if folder.name in EDITORS_FOLDERS else folder
        self._values = {"workspaceFolder": str(workspace), "userHome": str(Path.home()), **environment}
        self.used: dict[str, str] = {}

    def expand(self, text: str, where: str) -> str:
        """Replace the variables in a text. What has another form stays as it is.

        Raises:
            UsageError: for a variable without a value, or one that only an editor can fill in.
        """
        if asked := NEEDS_AN_EDITOR.search(text):
            raise UsageError(
                "the MCP configuration has a variable that only an editor can fill in",
                where=where,
                got=asked[0],
                expected="${NAME} or ${env:NAME}, an environment variable",
                fix="put the value into an environment variable and name that",
            )
        return VARIABLE.sub(lambda found: self._value(found[1], found[2], where), text)

    def expand_all(self, value: Any, where: str) -> Any:
        """``expand`` for every text in a JSON value.

        Raises:
            UsageError: as ``expand`` does.
        """
        if isinstance(value, dict):
            return {key: self.expand_all(one, where) for key, one in value.items()}
        if isinstance(value, list):
            return [self.expand_all(one, where) for one in value]
        return self.expand(value, where) if isinstance(value, str) else value

    def _value(self, name: str, default: str | None, where: str) -> str:
        value = self._values.get(name)
        if not value and default is not None:
            return default
        if value is None:
            raise UsageError(
                "the MCP configuration names an environment variable that is not set",
                where=where,
                got=f"${{{name}}}",
                expected="a variable with a value",
                fix=f"set {name}, or write ${{{name}:-default}}",
            )
        self.used[name] = value
        return value


def check_form(text: str, where: str) -> None:
    """Refuse a text that is a variable in another form: a server would get its name for its value.

    Raises:
        UsageError: for ``$NAME``, ``%NAME%`` and ``{env:NAME}``, also behind a word such as Bearer.
    """
    if OTHER_FORM.fullmatch(text):
        raise UsageError(
            "the MCP configuration has a variable in another form",
            where=where,
            expected="${NAME} or ${env:NAME}",
            fix="write ${NAME}; if no variable is meant, put the text into one and name that",
        )
