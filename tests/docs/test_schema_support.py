"""The page of schemas has the tables that the code makes."""

from __future__ import annotations

import runpy

import pytest

from tests.docs.blocks import ROOT

SUPPORT = runpy.run_path(str(ROOT / "docs" / "schema_support.py"))
PAGE = SUPPORT["PAGE"].read_text(encoding="utf-8")
WRITE = "python docs/schema_support.py --write"


@pytest.mark.parametrize("name", ["enforced", "refused"])
def test_the_page_has_what_is_enforced_and_what_is_refused(name):
    table = SUPPORT[f"describe_{name}"]()
    assert table in PAGE, WRITE
    assert SUPPORT["replace_table"](PAGE.replace(table, "| |"), name, table) == PAGE


@pytest.mark.servers
def test_the_page_has_what_becomes_of_the_test_suite():
    counts = SUPPORT["count_suite"](SUPPORT["fetch_suite"]())
    assert SUPPORT["describe_suite"](counts) in PAGE, WRITE
    assert not sum(found["unexplained"] for found in counts.values())
