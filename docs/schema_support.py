"""What decoding makes of JSON Schema: the tables of docs/reference/schemas.md.

python docs/schema_support.py            prints them
python docs/schema_support.py --write    writes them into the page

The schemas are those of the JSON-Schema-Test-Suite, drafts 7 and 2020-12, which the source package of ``jsonschema``
holds. pip fetches it once, into ~/.cache/dualtune_mlx/servers.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import validators

from dualtune_mlx.demo.servers import install_once, run_program
from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar.compiling import compile_plain, value_matcher
from dualtune_mlx.grammar.keywords import ENFORCED, FORMATS, OF_KIND, SILENT
from dualtune_mlx.grammar.plain import to_plain
from dualtune_mlx.grammar.walking import map_subschemas
from dualtune_mlx.tools.schemas import Validator
from dualtune_mlx.tools.spelling import sort_by_schema, spell_value

PAGE = Path(__file__).parent / "reference" / "schemas.md"
SUITE = "jsonschema==4.26.0"
DIALECTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
COLUMNS = ("schemas", "refused", "values", "agreed", "closed", "format", "oneOf", "unexplained")


def fetch_suite() -> Path:
    """The suite's folder ``tests``, with a folder for each draft."""

    def install(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "jsonschema"]
        run_program([*pip, "--dest", str(folder), SUITE], folder)
        with tarfile.open(folder / f"{SUITE.replace('==', '-')}.tar.gz") as archive:
            archive.extractall(folder, filter="data")

    name = SUITE.replace("==", "-")
    return install_once(f"{name}-source", f"{name}/json/README.md", install).parent / "tests"


def count_suite(folder: Path) -> dict[str, Counter[str]]:
    """By keyword (the suite's files), how many of the suite's schemas and values go which way (``COLUMNS``)."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for draft, dialect in DIALECTS.items():
        for path in sorted((folder / draft).rglob("*.json")):
            keyword = path.relative_to(folder / draft).with_suffix("").as_posix()
            if not keyword.startswith("optional/format/"):
                for group in json.loads(path.read_text(encoding="utf-8")):
                    schema = group["schema"]
                    schema = {"$schema": dialect, **schema} if isinstance(schema, dict) else schema
                    counts[keyword] += _count_group(schema, [test["data"] for test in group["tests"]])
    return dict(counts)


def _count_group(schema: Any, values: list[Any]) -> Counter[str]:
    try:
        value_matcher(schema, "suite")
    except ToolError:
        return Counter(schemas=1, refused=1)
    plain = to_plain(schema)
    counts = Counter(schemas=1, values=len(values))
    for value in values:
        counts[_judge(schema, plain, value)] += 1
    return counts


def _judge(schema: Any, plain: Any, value: Any) -> str:
    """How what can be written compares with what fits the schema, and by which rule the two differ."""
    text = _spell(value, schema)
    fits = _fits(schema, value)
    if _writes(value_matcher(schema, "suite"), text) == fits:
        return "agreed"
    if fits and _writes(compile_plain(plain, "suite"), text):
        return "closed"
    if fits and _writes(value_matcher(_change(plain, _drop_formats), "suite"), text):
        return "format"
    if not fits and _fits(_change(plain, _open_one_of), value):
        return "oneOf"
    return "unexplained"


def _fits(schema: Any, value: Any) -> bool:
    return bool(schema if isinstance(schema, bool) else Validator(schema).fits(value))


def _writes(matcher: Any, text: str) -> bool:
    tokens = list(text.encode())
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def _spell(value: Any, schema: Any) -> str:
    """The value as training data spells it, with whole numbers as integers."""
    schema = schema if isinstance(schema, dict) else {}
    inside = {
        "type": "object",
        "properties": {"v": schema},
        **{k: schema[k] for k in ("$defs", "definitions") if k in schema},
    }
    return spell_value(sort_by_schema({"v": _whole(value)}, inside)["v"])


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _change(schema: Any, change: Any) -> Any:
    """A schema in plain form with all its schemas changed."""
    if not isinstance(schema, Mapping):
        return schema
    changed = change(map_subschemas(schema, lambda item, *_: _change(item, change)))
    if "$defs" in schema:
        changed["$defs"] = {name: _change(item, change) for name, item in schema["$defs"].items()}
    return changed


def _drop_formats(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "format"}


def _open_one_of(schema: dict[str, Any]) -> dict[str, Any]:
    """``oneOf`` as a second ``anyOf``."""
    options = schema.pop("oneOf", None)
    return schema if options is None else {**schema, "allOf": [*schema.get("allOf", ()), {"anyOf": options}]}


def describe_refused() -> str:
    """The keywords that are refused where they say something."""
    dialects = (validators.Draft4Validator, validators.Draft7Validator)
    dialects += (validators.Draft201909Validator, validators.Draft202012Validator)
    known = {keyword for dialect in dialects for keyword in dialect.VALIDATORS}
    rows = ["| refused | no obstacle where it |", "| --- | --- |"]
    for keyword in sorted(known - ENFORCED - {"additionalItems"}):
        silences = [SILENT[keyword].where] if keyword in SILENT else []
        silences += [f"stands beside another `type` than `{OF_KIND[keyword]}`"] if keyword in OF_KIND else []
        rows.append(f"| `{keyword}` | {' or '.join(silences)} |")
    return "\n".join(rows)


def describe_enforced() -> str:
    """The keywords and formats that are enforced."""
    rows = ["| enforced | |", "| --- | --- |"]
    rows.append(f"| keywords | {', '.join(f'`{keyword}`' for keyword in sorted(ENFORCED))} |")
    rows.append(f"| values of `format` | {', '.join(f'`{name}`' for name in sorted(FORMATS))} |")
    return "\n".join(rows)


def describe_suite(counts: Mapping[str, Counter[str]]) -> str:
    """What becomes of the suite's schemas and values."""
    rows = [f"| | {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    total = sum(counts.values(), Counter[str]())
    for keyword, found in [*sorted(counts.items()), ("**all**", total)]:
        cells = [str(found[column] or "") for column in COLUMNS]
        rows.append(f"| {keyword if keyword == '**all**' else f'`{keyword}`'} | {' | '.join(cells)} |")
    return "\n".join(rows)


def replace_table(page: str, name: str, table: str) -> str:
    """The page with a table behind the comment that names it."""
    return re.sub(rf"(<!-- {name}: [^\n]+ -->\n\n)(?:\|[^\n]*\n)+", lambda found: f"{found[1]}{table}\n", page)


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write them into docs/reference/schemas.md")
    tables = {"enforced": describe_enforced(), "refused": describe_refused()}
    options = parser.parse_args()
    tables["suite"] = describe_suite(count_suite(fetch_suite()))
    if not options.write:
        print("\n\n".join(tables.values()))
        return
    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        page = replace_table(page, name, table)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
