"""``dualtune plan``: what it says, and that it leaves nothing behind."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from dualtune_mlx.cli import main
from dualtune_mlx.cli.plan import duration
from dualtune_mlx.data import write_split, write_tools
from tests import tiny
from tests.training.data import TOOLS, trajectories


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    tiny.save(tmp_path / "model")
    write_split(tmp_path / "data", "train", trajectories(12))
    write_split(tmp_path / "data", "valid", trajectories(3))
    write_tools(tmp_path / "data", TOOLS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_says_memory_batch_and_time_for_each_stage(workplace):
    before = sorted(path.name for path in workplace.iterdir())
    result = CliRunner().invoke(main, ["plan", "--model", "model", "--data", "data", "--batch-size", "3", "--json"])
    assert result.exit_code == 0, result.output
    selector, arguments = json.loads(result.stdout)
    assert (selector["stage"], arguments["stage"]) == ("selector", "arguments")
    assert (selector["examples"], arguments["examples"]) == (12, 8)
    assert (selector["left_out"], arguments["left_out"]) == ({}, {"of tools without parameters": 4})
    assert "4 of tools without parameters" in result.stderr
    assert selector["batch_size"] == 3
    assert selector["prefix_tokens"] > 100
    assert selector["largest_batch"] > 100
    assert 0 < selector["memory_per_example"] < selector["peak_memory"]
    assert 0 < selector["least_seconds"] <= selector["seconds"] <= selector["greatest_seconds"]
    assert sorted(path.name for path in workplace.iterdir()) == before


def test_it_takes_the_file_that_training_takes(workplace):
    (workplace / "night.yaml").write_text(
        "model: model\ndata: data\nbundle: bundle\nsteps: 7\nmemory_budget: 0.5\narguments: {epochs: 3}\n"
    )
    result = CliRunner().invoke(main, ["plan", "--config", "night.yaml", "--json", "plan.json"])
    assert result.exit_code == 0, result.output
    values = json.loads((workplace / "plan.json").read_text())
    assert [value["steps"] for value in values] == [7, 3]
    assert {value["budget"] for value in values} == {2**29}
    assert "0.5 GiB" in result.output
    assert not (workplace / "bundle").exists()


@pytest.mark.usefixtures("workplace")
def test_along_the_hierarchy_a_prefix_has_fewer_tools():
    command = ["plan", "--model", "model", "--data", "data", "--json"]
    flat, along = (
        json.loads(CliRunner().invoke(main, [*command, "--routing", routing]).stdout) for routing in ("auto", "always")
    )
    assert all(one["prefix_tokens"] < other["prefix_tokens"] for one, other in zip(along, flat, strict=True))


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "data"], "--model"),
        (["--model", "model", "--data", "nowhere"], "cannot be read"),
        (["--model", "model", "--data", "data", "--rank", "0"], "out of range"),
    ],
)
def test_a_wrong_call_is_one_message(arguments, message):
    result = CliRunner().invoke(main, ["plan", *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("seconds", "text"), [(7, "0 min 07 s"), (754.6, "12 min 35 s"), (7384, "2 h 03 min")])
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text
