"""What a machine has and lacks: everything that is not there says how to get it."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from importlib.metadata import PackageNotFoundError

import pytest

from dualtune_mlx import linux, machine
from dualtune_mlx.machine import Check, check_machine


def check_named(what: str) -> Check:
    return {check.what: check for check in check_machine()}[what]


def test_each_thing_is_looked_for_once():
    names = [check.what for check in check_machine()]
    assert names == ["machine", "MLX", "Metal", "BLAS", "MCP", "smollm2-135m", "Node.js"]


def test_what_is_there_is_ok(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(machine, "version", lambda name: "9.9")
    monkeypatch.setattr(linux, "openblas_is_loaded", lambda: True)
    lacking = {check.what for check in check_machine() if not check.ok}
    assert lacking <= {"Metal"}
    assert check_named("MCP").found == "mcp 9.9"


def test_what_is_not_there_says_how_to_get_it(monkeypatch):
    def version(name: str) -> str:
        if name == "mcp":
            raise PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(machine, "version", version)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(linux, "openblas_is_loaded", lambda: False)
    lacking = {check.what: check.fix for check in check_machine() if not check.ok}
    assert lacking.keys() >= {"BLAS", "MCP", "smollm2-135m", "Node.js"}
    assert all(lacking.values())


@pytest.mark.parametrize("loaded", [True, False])
def test_a_mac_has_its_own_blas(monkeypatch, loaded):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(linux, "openblas_is_loaded", lambda: loaded)
    assert check_named("BLAS") == Check("BLAS", True, "Accelerate")
