"""Measurements in processes of their own: what they give, what goes wrong in them, and their turns."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest
from rich.console import Console

from dualtune_mlx.benchmarks.processes import run_isolated, take_turns
from dualtune_mlx.errors import TrainingError
from tests.benchmarks.conftest import here
from tests.mcp.conftest import INTERRUPTIBLE


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def count_from(number: int) -> Iterator[tuple[int, int]]:
    while True:
        yield number, os.getpid()
        number += 1


def die_in_the_second_round() -> Iterator[int]:
    yield 1
    kill_myself()


@pytest.mark.processes
def test_a_function_runs_in_a_process_of_its_own():
    assert run_isolated(os.getpid) != os.getpid()


@pytest.mark.processes
def test_an_error_in_that_process_is_the_caller_s():
    with pytest.raises(ZeroDivisionError):
        run_isolated(divmod, 1, 0)


@pytest.mark.processes
def test_a_killed_process_is_said_to_be_one():
    with pytest.raises(TrainingError, match="memory") as caught:
        run_isolated(kill_myself)
    assert caught.value.where == "kill_myself"


@pytest.mark.processes
def test_every_method_has_a_process_for_all_its_rounds():
    found = take_turns(2, {"one": partial(count_from, 1), "ten": partial(count_from, 10)}, Console(file=io.StringIO()))
    assert {name: [number for number, _ in values] for name, values in found.items()} == {
        "one": [1, 2],
        "ten": [10, 11],
    }
    processes = {name: {process for _, process in values} for name, values in found.items()}
    assert len(processes["one"]) == len(processes["ten"]) == 1 and not processes["one"] & processes["ten"]


@pytest.mark.processes
def test_of_several_the_killed_process_is_named():
    methods = {"dies": die_in_the_second_round, "lives": partial(count_from, 1)}
    with pytest.raises(TrainingError, match="memory") as caught:
        take_turns(2, methods, Console(file=io.StringIO()))
    assert caught.value.where == "dies"


def wait_for_ever() -> Iterator[int]:
    print("begun", flush=True)
    time.sleep(60)
    yield 1


@pytest.mark.processes
def test_ctrl_c_ends_all_processes_at_once_without_a_word_of_theirs():
    code = (
        "from rich.console import Console\nfrom dualtune_mlx.benchmarks.processes import take_turns\n"
        "from tests.benchmarks.test_processes import wait_for_ever\n"
        "take_turns(1, {'one': wait_for_ever, 'other': wait_for_ever}, Console(stderr=True))"
    )
    command = [sys.executable, "-c", INTERRUPTIBLE + f"if __name__ == '__main__':\n exec({code!r})"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=30)
    assert said.count("Traceback") == said.count("KeyboardInterrupt") == 1 and "SpawnProcess" not in said


def test_methods_are_measured_in_turn(monkeypatch):
    here(monkeypatch)
    out = io.StringIO()
    take_turns(2, {("ours", "turn"): partial(count_from, 1), ("peer", ""): partial(count_from, 1)}, Console(file=out))
    assert out.getvalue().splitlines() == [
        "round 1 of 2: ours, turn",
        "round 1 of 2: peer",
        "round 2 of 2: ours, turn",
        "round 2 of 2: peer",
    ]
