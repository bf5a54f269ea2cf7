"""How the start bundle is made: all sources, sets of tools drawn anew in each round, and a round of training on them.

make_start_bundle("DATA", "WORK", report=print)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.engine.evidence import fit_bundle
from dualtune_mlx.files import write_text
from dualtune_mlx.models import EMBEDDED, load_model
from dualtune_mlx.start.domain import Domain, keep_usable
from dualtune_mlx.start.packing import lend_adapter, pack_bundle
from dualtune_mlx.start.renaming import Renaming
from dualtune_mlx.start.sets import SAID, SetOptions, SetSampler, draw_lines, make_trajectory
from dualtune_mlx.start.sources.bfcl import read_bfcl
from dualtune_mlx.start.sources.clinc import read_clinc
from dualtune_mlx.start.sources.corpus import read_corpus
from dualtune_mlx.start.sources.meta_tool import read_meta_tool
from dualtune_mlx.start.sources.seal_tools import read_seal_tools
from dualtune_mlx.start.sources.wordings import read_wordings
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.training import Job, TrainingSession, merge_config
from dualtune_mlx.training.session import SessionCallback

SOURCES: Mapping[str, Callable[[Path], Iterator[Domain]]] = {
    "bfcl": read_bfcl,
    "clinc": read_clinc,
    "meta_tool": read_meta_tool,
    "seal_tools": read_seal_tools,
    "wordings": read_wordings,
}
"""What reads each folder of data."""
HELD_OUT = (
    *("airgrid-bases", "docbase", "homenet-router", "inkpress-blog", "notebox", "parcelpost", "pdf-workbench"),
    *("runlog-ml", "swimlane-kanban", "team-calendar", "thrift-bank", "transit-live", "xl-workbench"),
)
"""Servers of the corpus that are not trained on: they validate, and the weight of words is fitted to them."""
FITTED = 25
"""Requests of each held-out server that the weight of words is fitted to."""
SELECTOR = SetOptions(weights=SAID, sizes=(2, 6), mixed=1.0, masked=0.0)
"""Tools that are easily told apart. With tools of one server from the start, nothing was learned in 3,000 requests."""
_SOURCES = ("corpus", "wordings", "seal_tools", "bfcl", "meta_tool", "clinc")
MIXED = SetOptions(
    weights=dict(zip(_SOURCES, (12, 3, 2, 2, 1.5, 1.5), strict=True)), sizes=(3, 8), mixed=0.45, masked=0.05
)
"""Half of the sets are of tools of one server."""
OWN = SetOptions(
    weights=dict(zip(_SOURCES, (16, 2, 2, 1.5, 1.5, 1), strict=True)), sizes=(4, 9), mixed=0.15, masked=0.05
)
"""Most sets are of tools of one server, as a user has them."""
ARGUMENTS = SetOptions(requests=6, sizes=(1, 1), respond=0.0, with_arguments=True)
"""Arguments are written in view of the chosen tool alone."""
OPTIONS: Mapping[str, Any] = {
    "model": EMBEDDED,
    "template": "chatml",
    "cards": "signature",
    "argument_card": "prefix",
    "routing": "never",
    "epochs": 1.0,
    "batch_size": 4,
    "accumulate": 2,
    "rank": 16,
    "alpha": 64.0,
    "layers": "last:16",
    "activation": "turn",
    "warmup": 8,
    "validate_every": 0,
}
"""How each round trains: once over its requests, so that what is seen is new."""


@dataclass(frozen=True)
class Round:
    """A round of training on sets of its own. It goes on from the stage's last one, or else from another stage's."""

    stage: str
    """``selector`` or ``arguments``."""
    options: SetOptions
    """What sets of tools."""
    sets: int
    """How many sets."""
    seed: int = 0
    """The seed that the sets are drawn with."""
    learning_rate: float = 1e-3
    """The highest learning rate."""
    schedule: str = "cosine"
    """How the learning rate falls."""


ROUNDS = (
    Round("arguments", ARGUMENTS, 520, seed=1),
    Round("selector", SELECTOR, 300, seed=4),
    Round("selector", MIXED, 320, seed=11, learning_rate=7e-4),
    Round("selector", OWN, 420, seed=12, learning_rate=7e-4),
    Round("arguments", ARGUMENTS, 640, seed=21, learning_rate=7e-4),
)
"""The rounds that made the bundle that comes with the package."""


def make_start_bundle(
    data: Path, work: Path, rounds: Sequence[Round] = ROUNDS, report: SessionCallback = lambda _: None
) -> Bundle:
    """Make a start bundle as ``WORK/bundle``. What is in ``work`` already is not made again.

    Args:
        data: a folder with those of the sources that are there, each under its name (see ``SOURCES``).
        work: gets a folder for each round, with its data and its bundle.
        rounds: the rounds of training.
        report: called with every event of training; can stop it.

    Raises:
        DataError: when a source cannot be read.
        ModelError, TrainingError: when a round cannot be trained.
    """
    domains = read_sources(data)
    last: dict[str, Path] = {}
    for number, one in enumerate(rounds, 1):
        folder = work / f"{number}-{one.stage}"
        if not (folder / "data" / "train.jsonl").exists():
            write_round(folder / "data", domains, one)
        values = {**OPTIONS, "data": str(folder / "data"), "bundle": str(folder / "bundle")}
        values |= {"learning_rate": one.learning_rate, "schedule": one.schedule}
        if last:
            values["start"] = str(last.get(one.stage) or _lend(last, one.stage, folder / "start"))
        TrainingSession(merge_config(None, values)).train_one(Job(one.stage), report, skip=True, resume=True)
        last[one.stage] = folder / "bundle"
    folder = work / "bundle"
    packed = Bundle.open(folder) if folder.exists() else pack_bundle(list(last.values()), folder)
    if packed.evidence is None:
        packed, _ = fit_bundle(packed, load_model(EMBEDDED), held_out_requests(domains))
    return packed


def _lend(last: Mapping[str, Path], stage: str, folder: Path) -> Path:
    """What a stage without an adapter begins with: that of a stage that has learned to read tools already."""
    other, source = next(iter(last.items()))
    return folder if (folder / MANIFEST).exists() else lend_adapter(source, other, stage, folder)


def held_out_requests(domains: Sequence[Domain]) -> list[Trajectory]:
    """Some requests for each server that is held out, with all its tools."""
    rng = random.Random(0)
    return [
        make_trajectory(request, Renaming.none(domain.tools))
        for domain in divide(domains)[1]
        for request in rng.sample(domain.requests, FITTED)
    ]


def read_sources(data: Path) -> list[Domain]:
    """All domains: our own corpus, and those of the other sources that lie in the folder."""
    found = list(read_corpus())
    for name, read in SOURCES.items():
        if (data / name).is_dir():
            found += read(data / name)
    return [keep_usable(domain) for domain in found]


def divide(domains: Sequence[Domain]) -> tuple[list[Domain], list[Domain]]:
    """The domains that are trained on, and those that are held out."""
    held_out = [domain for domain in domains if domain.source == "corpus" and domain.name in HELD_OUT]
    return [domain for domain in domains if domain not in held_out], held_out


def write_round(folder: Path, domains: Sequence[Domain], one: Round) -> None:
    """Write a round's data: ``train.jsonl``, and ``valid.jsonl`` with a set of each held-out domain."""
    train, held_out = divide(domains)
    unserved = [domain for domain in train if not domain.tools]
    valid = SetSampler([*held_out, *unserved], one.options, seed=0)
    write_text(folder / "valid.jsonl", draw_lines(valid, len(held_out)))
    write_text(folder / "train.jsonl", draw_lines(SetSampler(train, one.options, one.seed), one.sets))
