"""The page of a check: one file that shows faults with their lines, and plots of what the data has."""

from __future__ import annotations

import re

import pytest

from dualtune_mlx.data.checking import Length, check_data
from dualtune_mlx.data.checking.page import render_page, write_page
from tests.data.checking.planted import note, write, write_clean, write_planted


def test_the_page_shows_faults_balance_lengths_and_duplicates(tmp_path):
    write_planted(tmp_path / "data", 60)
    with check_data(tmp_path / "data", length=Length("words", 60)) as report:
        write_page(tmp_path / "page.html", report)
        page, again, errors = (tmp_path / "page.html").read_text(), render_page(report), report.errors
        first = next(report.iter_findings("schema"))
    assert page == again
    assert f'<dd class="value">{errors}</dd>' in page
    assert f"train.jsonl:{first.line}<" in page and "is a required property" in page
    for words in ("no JSON: 2", "delete_note", "Optional arguments", "urgent", "Lengths", "window 60", "Duplicates"):
        assert words in page
    assert not re.search(r"<script|src=|https?://(?!www.w3.org)", page)


def test_the_page_of_clean_data_says_so(tmp_path):
    write_clean(tmp_path, {"train": 60})
    with check_data(tmp_path) as report:
        assert "Nothing is wrong." in render_page(report)


def test_text_of_others_stays_text(tmp_path):
    write(tmp_path, {"train": [b'{"<b>": "\\u202e"}', note("drop 1", 1)]})
    with check_data(tmp_path) as report:
        page = render_page(report)
    assert "<b>" not in page and "&lt;b&gt;" in page


@pytest.mark.parametrize("lines", [[b"{"], [note("drop 1", 1)]], ids=["no line to read", "one line"])
def test_little_data_has_a_page(tmp_path, lines):
    write(tmp_path, {"train": lines})
    with check_data(tmp_path) as report:
        assert "Faults" in render_page(report)
