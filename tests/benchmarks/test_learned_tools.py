"""The benchmark of ``dualtune learn`` on servers without wordings, with a tiny model."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from dualtune_mlx.benchmarks import learned_tools
from dualtune_mlx.benchmarks.learned_tools import METHODS
from dualtune_mlx.errors import UsageError
from dualtune_mlx.learning import options, road
from tests import tiny
from tests.benchmarks.test_unseen_tools import folder  # noqa: F401
from tests.cli.conftest import dualtune

pytest.importorskip("datasketch", reason="needs the extra synth")


@pytest.fixture
def run(folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(learned_tools, "EMBEDDED", model := str(tiny.save(folder / "model")))
    monkeypatch.setattr(learned_tools, "LearnOptions", lambda minutes: options.LearnOptions(model, 0.01, requests=30))
    monkeypatch.setattr(options, "FROM_NOTHING", {"rank": 2, "alpha": 4.0, "batch_size": 4, "layers": "all"})
    monkeypatch.setattr(options, "_length", lambda steps: {"steps": 2, "validate_every": 2})
    monkeypatch.setattr(road, "MOST_TOKENS", 16)
    written = io.StringIO()

    def run(**given):
        out = Console(file=written, width=120)
        return learned_tools.run(False, out, folder / "lists", folder / "work", **given), written.getvalue()

    return run


@pytest.mark.slow
def test_every_server_is_learned_and_asked_in_every_way(run, folder, monkeypatch):  # noqa: F811
    value, written = run()
    measured = {(row["server"], row["method"]) for row in value["rows"]}
    assert measured == {
        (server, method) for server in ("all", "small", "notes", "papers") for method in METHODS if method != "start"
    }, "a model without a start bundle has no row for it"
    assert all((folder / "work" / server / "words.safetensors").exists() for server in ("notes", "papers"))
    assert value["counters"]["minutes"] == 0.01 and value["counters"]["seconds"]["n"] == 2
    assert "goal, small servers: tool at least 90%: " in written
    monkeypatch.setattr(learned_tools, "learn", None)
    again, _ = run(servers=("notes",))
    assert again["rows"][-2:] == [row for row in value["rows"] if row["server"] == "notes"], "nothing is learned again"
    assert {row["server"] for row in again["rows"]} == {"all", "small", "notes"}


def test_a_server_without_requests_is_refused(run):
    with pytest.raises(UsageError, match="gone"):
        run(servers=("gone",))


def test_its_options_are_for_it_alone(tmp_path):
    assert "needs --work" in dualtune("bench", "learned", "--lists", tmp_path).output
    result = dualtune("bench", "unseen", "--lists", tmp_path, "--minutes", 3)
    assert result.exit_code == 2 and "goes with the benchmark 'learned' only" in result.output


def test_the_script_is_the_command():
    assert 'common.main("learned")' in Path(learned_tools.__file__).read_text(encoding="utf-8")
