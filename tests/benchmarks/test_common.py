"""What every benchmark shares: ratios, the value it reports, a process of its own, and how it is started."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path

import pytest

from dualtune_mlx.benchmarks import common
from dualtune_mlx.cli import bench
from dualtune_mlx.errors import TrainingError
from tests.cli.conftest import dualtune


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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


@pytest.mark.processes
def test_a_function_runs_in_a_process_of_its_own():
    assert common.run_isolated(os.getpid) != os.getpid()


@pytest.mark.processes
def test_an_error_in_that_process_is_the_caller_s():
    with pytest.raises(ZeroDivisionError):
        common.run_isolated(divmod, 1, 0)


@pytest.mark.processes
def test_a_killed_process_is_said_to_be_one():
    with pytest.raises(TrainingError, match="memory") as caught:
        common.run_isolated(kill_myself)
    assert caught.value.where == "kill_myself"


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_the_command_and_the_script_are_the_same(name, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(f"dualtune_mlx.benchmarks.{name}.run", lambda quick, out: asked.append(quick) or {"n": 1})
    assert dualtune("bench", name, "--json").stdout == '{\n  "n": 1\n}\n'
    file, script = tmp_path / "result.json", Path(common.__file__).with_name(f"{name}.py")
    monkeypatch.setattr(sys, "argv", [str(script), "--quick", "--json", str(file)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert (ended.value.code, asked) == (0, [False, True])
    assert json.loads(file.read_text()) == {"n": 1}


def test_every_benchmark_is_a_script_and_a_command():
    folder = Path(common.__file__).parent
    scripts = {file.stem for file in folder.glob("*.py") if "common.main(__file__)" in file.read_text(encoding="utf-8")}
    assert {name for name in scripts if name != "common"} == set(bench.BENCHMARKS)
