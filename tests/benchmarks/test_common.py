"""What every benchmark shares: ratios, the value it reports, what it prints, and how it is started."""

from __future__ import annotations

import io
import json
import os
import runpy
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.cli import bench
from tests.cli.conftest import dualtune


def test_a_ratio_is_ours_over_the_peer_s_with_the_widest_spread():
    assert common.ratio([4.0, 8.0, 6.0], [2.0, 3.0]) == {"median": 2.4, "min": 4 / 3, "max": 4.0, "n": 2}
    assert common.ratio([1.0], [10.0]) == {"median": 0.1, "min": 0.1, "max": 0.1, "n": 1}


def test_a_spread_says_how_many_there_were():
    assert common.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3}


def test_a_report_is_json_and_tells_nothing_about_the_owner():
    value = json.loads(json.dumps(common.report("x", [{"a": 1}], {"r": common.ratio([1.0], [2.0])}, {"c": 3})))
    assert list(value) == ["benchmark", "versions", "machine", "rows", "ratios", "counters"]
    assert set(value["versions"]) == {"dualtune-mlx", "mlx", "mlx-lm", "python"}
    assert set(value["machine"]) == {
        "system",
        "architecture",
        "processor",
        "cores",
        "memory_gib",
        "device",
        "blas",
    }
    about = json.dumps([value["versions"], value["machine"]])
    for private in (os.uname().nodename, str(Path.home()), str(Path.cwd())):
        assert private not in about


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ([1.0, 2.0], [4.0, 5.0], "0.333 (0.2 to 0.5)"),
        ([1.0, 4.5], [4.0, 5.0], "0.611 (0.2 to 1.12), not decided"),
        ([4.0, 5.0], [1.0, 4.5], "1.64 (0.889 to 5), not decided"),
        ([1.0], [4.0], "0.25, measured once"),
        ([1.0, 4.0], [2.0], "1.25 (0.5 to 2), measured once, not decided"),
    ],
)
def test_a_ratio_whose_spread_crosses_one_is_not_decided(ours, theirs, text):
    out = io.StringIO()
    common.print_ratios(Console(file=out, width=80), {"time": common.ratio(ours, theirs)})
    assert out.getvalue().splitlines()[1:] == [f"time: {text}"]


def test_goals_have_a_direction_and_may_be_unmeasured():
    out = io.StringIO()
    goals = {"time": common.Goal(0.5), "speed": common.Goal(2, at_least=True), "memory": common.Goal(0.1)}
    ratios = {"time": common.ratio([1.0], [2.0]), "speed": common.ratio([3.0], [2.0])}
    common.print_goals(Console(file=out, width=80), ratios, goals)
    assert out.getvalue().splitlines() == [
        "goal time at most 0.5: reached: 0.5",
        "goal speed at least 2: NOT reached: 1.5",
        "goal memory at most 0.1: NOT measured",
    ]


@pytest.mark.parametrize(("load", "busy"), [(0.4, False), (1.6, True)])
def test_a_busy_machine_is_said_and_stands_among_its_facts(load, busy, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 9.0, 9.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr("dualtune_mlx.benchmarks.calls.run", lambda quick, out: {"machine": {"cores": 4}, "rows": []})
    value = common.run("calls", True, Console(file=out, width=200))
    assert value == {"machine": {"cores": 4, "load_average": load, "busy": busy}, "rows": []}
    assert ("The machine is busy: load average 1.6 on 4 cores" in out.getvalue()) == busy


@pytest.mark.parametrize("name", bench.PLAIN)
def test_the_command_and_the_script_are_the_same(name, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        f"dualtune_mlx.benchmarks.{name}.run", lambda quick, out: asked.append(quick) or {"machine": {}}
    )
    assert set(json.loads(dualtune("bench", name, "--json").stdout)["machine"]) == {"load_average", "busy"}
    file, script = tmp_path / "result.json", Path(common.__file__).with_name(f"{name}.py")
    monkeypatch.setattr(sys, "argv", [str(script), "--quick", "--json", str(file)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert (ended.value.code, asked) == (0, [False, True])
    assert set(json.loads(file.read_text())["machine"]) == {"load_average", "busy"}


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("dualtune_mlx.benchmarks.calls.run", lambda quick, out: asked.append(quick))
    result = dualtune("bench", "calls", "--json", tmp_path)
    assert (result.exit_code, asked) == (2, [])
    assert "cannot be written" in result.output and "a folder" in result.output


def test_every_benchmark_is_a_script_and_a_command():
    folder = Path(common.__file__).parent
    scripts = {file.stem for file in folder.glob("*.py") if "common.main(__file__)" in file.read_text(encoding="utf-8")}
    assert scripts - {"common"} == set(bench.PLAIN)
    assert "unseen" in bench.MODULES


def test_a_measurement_is_kept_for_the_same_key(tmp_path):
    path, made = tmp_path / "kept.json", iter([{"n": 1}, {"n": 2}])
    key, other = common.key_of({"minutes": 1}, "tools"), common.key_of({"minutes": 2}, "tools")
    kept = [common.keep(path, one, lambda: next(made)) for one in (key, key, other)]
    assert kept == [{"n": 1}, {"n": 1}, {"n": 2}]
