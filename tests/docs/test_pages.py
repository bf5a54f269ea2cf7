"""The pages: their links lead somewhere, each stands in the navigation, the picture is the script's."""

from __future__ import annotations

import pkgutil
import re
import runpy
import tomllib
from typing import get_origin

import pytest
import yaml

from dualtune_mlx.cli.main import COMMANDS
from dualtune_mlx.data.keys import CALL, FLAT_TOOL, LINE, MESSAGE, PART, RESULT, TOOL, TOOL_BODY, TOOLS_FILE
from tests.docs.blocks import PAGES, ROOT

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link, anchor in LINK.findall(text):
        if "://" in link:
            continue
        target = (page.parent / link).resolve() if link else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{link}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_sources_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`(?:python |bash )?([\w/]+/[\w/]*\w\.py)`", text) + re.findall(r"\btests/[\w/]+\.py", text)
    assert [name for name in named if not any((root / name).is_file() for root in (ROOT, ROOT / "dualtune_mlx"))] == []


def test_every_decision_stands_in_the_index():
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    listed = {name: title for title, name in re.findall(r"^\* \[(.+)\]\((.+)\)$", index, flags=re.MULTILINE)}
    pages = {path.name: path for path in (DOCS / "decisions").glob("*.md") if path.name != "index.md"}
    titles = {name: path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for name, path in pages.items()}
    assert listed == titles


def test_a_decision_says_why():
    pages = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "decisions").glob("*.md")}
    assert [
        n for n, text in pages.items() if n != "index.md" and not {"**Why.**", "**Measured.**"} & set(text.split())
    ] == []


def test_the_glossary_has_a_sentence_a_word():
    rows = re.findall(
        r"^\| \*\*(.+?)\*\* \| (.+) \|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    words = [word for word, _ in rows]
    assert words == sorted(words, key=lambda word: word.strip("`").lower())
    assert [word for word, sentence in rows if not sentence.endswith(".")] == []


def test_the_readme_leads_to_the_pages():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140
    navigation = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [page for page in navigation if not page.startswith("reference/python/")]
    missing = {page for page in plain if f"docs/{page}" not in text}
    assert missing == {"index.md", "reference/commands.md"}  # the site's own: made when it is built


def test_the_python_pages_name_what_is_there():
    named = {
        name
        for path in (DOCS / "reference" / "python").glob("*.md")
        for name in re.findall(r"^::: (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert len(named) > 50
    values = {name: pkgutil.resolve_name(name) for name in sorted(named)}
    assert [name for name, value in values.items() if not value.__doc__ and not get_origin(value)] == []  # type aliases


def test_the_page_of_commands_is_made_of_the_commands():
    made = runpy.run_path(str(DOCS / "commands.py"))["on_page_markdown"]("<!-- commands -->")
    assert [name for name in COMMANDS if f"\n## dualtune {name}\n" not in f"\n{made}"] == []
    sections = re.split(r"^##+ ", made, flags=re.MULTILINE)[1:]
    assert {one.splitlines()[0] for one in sections if "```bash" not in one} == {
        f"dualtune {group}" for group in ("convert", "bundle", "data")
    }
    assert "**The adapter**\n\n| option | meaning |\n| --- | --- |\n| <code>--rank" in made
    assert "### dualtune convert from-gguf\n" in made and "<code>--preset [default&#124;paper]</code>" in made


def test_the_site_needs_nothing_from_the_net():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert not {"extra_javascript", "repo_url"} & set(settings)
    assert all("://" not in sheet for sheet in settings["extra_css"])


def test_the_docs_extra_is_what_make_docs_installs():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert "[docs]" in (ROOT / "Makefile").read_text(encoding="utf-8") and extras["docs"]


def test_the_picture_is_what_the_script_draws():
    script = runpy.run_path(str(DOCS / "make_stream_svg.py"))
    assert (DOCS / "stream.svg").read_text(encoding="utf-8") == script["svg"]()


def test_the_page_of_files_lists_every_key():
    page = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    for keys in (LINE, MESSAGE, RESULT, PART, CALL, TOOL, TOOL_BODY, FLAT_TOOL, TOOLS_FILE):
        for key in (*keys.read, *keys.ignored):
            assert f"`{key}`" in page, key
