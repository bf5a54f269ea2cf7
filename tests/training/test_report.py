"""The report of a run: a whole page, whatever the run was like, in which no stranger's text does anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.pages import charts
from dualtune_mlx.training import Progress
from dualtune_mlx.training.report import Report, render, write_report
from dualtune_mlx.training.report.page import TOKEN_KINDS

EVIL = '<script>alert("1")</script>\'&amp;'
VOID = {"meta", "wbr"}


class Page(HTMLParser):
    """Elements, their text, and whether they close in the order in which they were opened."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_"): value for name, value in wanted.items()}  # class is a word of Python's
        return [own for name, own in self.elements if name == tag and wanted.items() <= own.items()]


def steps(count: int, loss: Callable[[int], float] = lambda step: 2.0 / step, validate: int = 50) -> list[Progress]:
    return [
        Progress(
            step=step,
            steps=count,
            loss=loss(step),
            learning_rate=5e-4 * (1 - (step - 1) / count),
            gradient_norm=1.0 + step % 7,
            tokens_per_second=900.0 + step % 11,
            peak_memory=3 * 2**30,
            padding=0.1,
            seconds=0.5,
            validation_loss=loss(step) * 1.1 if validate and (step % validate == 0 or step == count) else None,
        )
        for step in range(1, count + 1)
    ]


def report(count: int = 200, **changes: object) -> Report:
    run = steps(count)
    base = Report(
        title="selector",
        model="SmolLM2-135M-Instruct",
        facts={"examples": "1,120", "finished": "all steps done"},
        options={"rank": 16, "learning_rate": 5e-4, "targets": ["*"], "steps": count},
        steps=run,
        best_step=count,
        best_loss=run[-1].validation_loss or 0.0,
        accuracy=(226, 240),
        counts={"git/log": (40, 5), "filesystem/read_file": (60, 0)},
        notes=["3 examples were cut to the window"],
        examples=[[("<|im_start|>", "prefix"), ("user", "context"), ("\n", "active"), ("git", "learned")]],
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def lines(source: str) -> list[list[tuple[float, float]]]:
    """The charts' polylines; the legend's have no decimals."""
    found = re.findall(r'<polyline class="\w+" points="([\d., -]*\.[\d., -]*)"', source)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in found]


def test_the_page_says_what_the_run_came_to() -> None:
    page = Page(render(report()))
    for text in ("selector", "SmolLM2-135M-Instruct", "1,120", "0.011", "at step 200 of 200", "94.2%", "226 of 240"):
        assert text in page.text
    assert page.all("body", class_="selector")
    assert Page(render(report(title="arguments · git/log"))).all("body", class_="arguments")


def test_the_page_needs_nothing_but_itself() -> None:
    source = render(report())
    page = Page(source)
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in page.elements)
    assert not re.search(r"https?:|url\(|@import|javascript:", source)
    assert page.all("meta", content="default-src 'none'; style-src 'unsafe-inline'")


def test_charts_are_told_to_those_who_do_not_see_them() -> None:
    page = Page(render(report()))
    pictures = page.all("svg", role="img")
    assert len(pictures) == 5
    ids = [own["id"] for _, own in page.elements if "id" in own]
    assert len(ids) == len(set(ids))
    for picture in pictures:
        title, about = str(picture["aria-labelledby"]).split()
        assert {"id": title} in page.all("title")
        assert {"id": about} in page.all("desc")


@pytest.mark.parametrize(
    "changes",
    [
        {"title": EVIL},
        {"model": EVIL},
        {"facts": {EVIL: EVIL}},
        {"options": {EVIL: EVIL, "nested": {EVIL: [EVIL]}}},
        {"counts": {EVIL: (3, 1)}},
        {"notes": [EVIL]},
        {"examples": [[(EVIL, "learned")]]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_text_of_others_stays_text(changes: dict[str, Any]) -> None:
    page = Page(render(report(**changes)))
    usual = Page(render(report()))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in usual.elements}
    assert {name for _, own in page.elements for name in own} <= {name for _, own in usual.elements for name in own}
    assert EVIL in page.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\n", "↵\n"),
        ("\t", "⇥"),
        ("a\x00b", "a␀b"),
        ("\x1b[31m", "␛[31m"),
        ("\u202egnp.exe", "⟨U+202E⟩gnp.exe"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u00a0", "⟨U+00A0⟩"),
        (" word", " word"),
        ("    ", "····"),
        ("end ", "end·"),
        ("", "∅"),
    ],
)
def test_what_cannot_be_seen_in_a_token_is_marked(text: str, shown: str) -> None:
    cell = re.search(r'<div class="tokens"><span class="learned">(.*?)</span></span>', render(own_tokens(text)), re.S)
    assert cell
    assert re.sub(r"<[^>]*>", "", cell[1]) == shown


def own_tokens(*texts: str, kind: str = "learned") -> Report:
    return report(examples=[[(text, kind) for text in texts]])


def test_text_outside_tokens_cannot_hide_characters_either() -> None:
    page = Page(render(report(title="a\u202eb", notes=["c\x00d"], options={"e": "f\ud800"})))
    assert not re.search("[\x00\u202e\ud800]", page.text)


@pytest.mark.parametrize(("kind", "shown"), [("prefix", 120), ("context", 120), ("active", 120), ("learned", 600)])
def test_long_runs_of_tokens_are_cut_in_the_middle(kind: str, shown: int) -> None:
    texts = [f"<{index}>" for index in range(4000)]
    page = Page(render(own_tokens(*texts, kind=kind)))
    assert f"… {4000 - shown:,} tokens …" in page.text
    ends = shown // 2
    for index in (0, ends - 1, 4000 - ends, 3999):
        assert f"<{index}>" in page.texts
    for index in (ends, 3999 - ends):
        assert f"<{index}>" not in page.texts
    assert f"4,000 {kind}" in page.text
    assert "tokens …" not in Page(render(own_tokens(*texts[:shown], kind=kind))).text


def test_a_prefix_that_two_examples_share_is_shown_once() -> None:
    first, other = ([(f"<{name}{index}>", "prefix") for index in range(200)] for name in "ab")
    learned = [("git", "learned")]
    page = Page(render(report(examples=[[*first, *learned], [*first, *learned], [*other, *learned]])))
    assert page.text.count("… 80 tokens …") == 2
    assert page.text.count("… 200 tokens as above …") == 1
    assert page.text.count("<a0>") == page.text.count("<b0>") == 1
    context = [("x", "context")] * 200
    assert "as above" not in Page(render(report(examples=[context, context, []]))).text


def test_every_kind_of_token_is_in_the_legend() -> None:
    page = Page(render(report()))
    assert all(page.all("b", class_=kind) for kind in TOKEN_KINDS)


@pytest.mark.parametrize("tools", [1, 20, 21, 300])
def test_all_tools_are_listed_and_many_are_folded(tools: int) -> None:
    page = Page(render(report(counts={f"server/tool{index}": (index, 1) for index in range(tools)})))
    assert len(page.all("td", class_="name")) == tools
    assert len(page.all("details")) == (tools > 20)


def test_empty_parts_are_left_out() -> None:
    page = Page(render(report(facts={}, options={}, accuracy=None, counts={}, notes=[], examples=[])))
    for name in ("notes", "data", "examples", "configuration"):
        assert not page.all("h2", id=name)
    assert "Right tool" not in page.text


@pytest.mark.parametrize(("accuracy", "shown"), [((240, 240), "100%"), ((2999, 3000), "99.9%"), ((1, 5000), "0.1%")])
def test_all_right_is_said_only_of_all(accuracy: tuple[int, int], shown: str) -> None:
    assert shown in Page(render(report(accuracy=accuracy))).text


def test_without_validation_nothing_is_called_the_best() -> None:
    page = Page(render(report(steps=steps(100, validate=0), accuracy=(0, 0))))
    assert "Best validation loss" not in page.text
    assert "validation was not measured" in page.text
    assert not page.all("circle", class_="ring")
    assert not page.all("polyline", class_="validation")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_of_few_steps_has_its_charts(count: int) -> None:
    source = render(report(count))
    assert len(Page(source).all("svg", role="img")) == 5
    assert "nan" not in source.lower()
    assert Page(source).all("circle", class_="each" if count == 1 else "ring")


@pytest.mark.parametrize(
    "loss",
    [
        lambda step: 0.0,
        lambda step: 1.5,
        lambda step: 1e-30 * step,
        lambda step: 3e38 / step,
        lambda step: 3e38 if step == 100 else 1e-40,
        lambda step: float(step % 2),
        lambda step: 1e6 + step % 2,
    ],
)
def test_no_loss_is_drawn_outside_its_chart(loss: Callable[[int], float]) -> None:
    run = steps(200, loss)
    source = render(report(steps=run, best_loss=min(step.validation_loss or 4e38 for step in run)))
    Page(source)
    assert not re.search(r"\b(nan|inf)\b", source)
    assert lines(source)
    assert all(0 <= x <= charts.GRID and 0 <= y <= charts.GRID for line in lines(source) for x, y in line)


def test_a_long_run_makes_no_long_page() -> None:
    sources = [render(report(count)) for count in (10_000, 100_000)]
    for source in sources:
        assert len(source) < 120_000
        assert all(len(line) <= charts.POINTS for line in lines(source))
    assert len(lines(sources[0])) == 8


def test_the_same_run_makes_the_same_page() -> None:
    assert render(report()) == render(report())


def test_the_page_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    write_report(path, report())
    whole = path.read_text(encoding="utf-8")
    assert whole == render(report())
    with pytest.raises(KeyError):
        write_report(path, report(examples=[[("a", "no such kind")]]))
    assert path.read_text(encoding="utf-8") == whole
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", report())


def test_thinning_keeps_ends_and_spikes() -> None:
    pairs = [(float(step), 1.0) for step in range(100_000)]
    pairs[54_321] = (54_321.0, 9.0)
    pairs[12_345] = (12_345.0, 0.1)
    kept = charts.thin(pairs)
    assert len(kept) <= charts.POINTS
    assert {pairs[0], pairs[12_345], pairs[54_321], pairs[-1]} <= set(kept)
    assert kept == sorted(kept)
    assert charts.thin(pairs[:600]) == pairs[:600]


def test_smoothing_keeps_a_constant_and_calms_noise() -> None:
    assert charts.smooth([0.3] * 100) == pytest.approx([0.3] * 100)
    assert charts.smooth([2.0]) == [2.0]
    noisy = [1.0 + (-1) ** step * 0.5 for step in range(400)]
    assert all(abs(value - 1) < 0.1 for value in charts.smooth(noisy)[5:-5])


@pytest.mark.parametrize(
    ("low", "high", "count", "labels"),
    [
        (0, 2.3, 6, ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]),
        (0, 5e-4, 3, ["0", "2e-4", "4e-4", "6e-4"]),
        (0, 1234, 3, ["0", "500", "1,000", "1,500"]),
        (1.5, 1.5, 4, ["1.3", "1.4", "1.5", "1.6", "1.7"]),
        (0, 0, 3, ["0.0", "0.5", "1.0"]),
        (1e6, 1.1e6, 3, ["1e6", "1.05e6", "1.1e6"]),
    ],
)
def test_even_ticks_are_round(low: float, high: float, count: int, labels: list[str]) -> None:
    assert charts.linear_axis(low, high, count).labels() == labels


@pytest.mark.parametrize(
    ("values", "is_log", "labels"),
    [
        ([0.1, 3.0], False, None),
        ([0.05, 3.0], True, ["0.05", "0.1", "0.2", "0.5", "1", "2"]),
        ([0.0, 0.5, 1.0], False, None),
        ([0.0, 0.01, 1.0], True, None),
        ([1e-30, 1.0], True, ["1e-6", "1e-4", "0.01", "1"]),
    ],
)
def test_a_wide_range_is_logarithmic(values: list[float], is_log: bool, labels: list[str] | None) -> None:
    axis = charts.fitting_axis(values, 6)
    assert axis.logarithmic is is_log
    assert labels is None or axis.labels() == labels
    assert all(0 <= axis.place(value) <= 1 for value in values)


@pytest.mark.parametrize(
    ("first", "last", "ticks"),
    [(1, 200, (0, 50, 100, 150, 200)), (1, 1, (0, 1, 2)), (501, 1000, (600, 700, 800, 900, 1000)), (1, 3, (1, 2, 3))],
)
def test_steps_are_whole(first: int, last: int, ticks: tuple[int, ...]) -> None:
    assert charts.steps_axis(first, last, 6).ticks == ticks


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.03124, "0.0312"),
        (3.12e-7, "3.12e-7"),
        (5e-4, "5e-4"),
        (12345.6, "12,346"),
        (999.7, "1,000"),
        (2e6, "2e6"),
    ],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert charts.number(value) == shown
