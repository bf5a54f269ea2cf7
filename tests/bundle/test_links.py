"""A bundle's links lead nowhere else, and what is no file is not read."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dualtune_mlx import DualTune
from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.bundle.verify import find_problems
from dualtune_mlx.engine.warm import warm
from dualtune_mlx.errors import AdapterError, BundleError, CheckpointError, PromptError, UsageError
from dualtune_mlx.prompts import Template
from dualtune_mlx.training.checkpoints import ARRAYS, FACTS, Checkpoints
from dualtune_mlx.training.jobs import Job
from dualtune_mlx.training.options import TrainOptions
from dualtune_mlx.training.run import RunSetup, TrainingRun
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.bundle.test_manifest import FACTS as TRAINING
from tests.bundle.test_manifest import READ, base, bundle, change, empty  # noqa: F401
from tests.training.data import trajectories


@pytest.fixture
def outside(tmp_path) -> Path:
    """A folder of somebody else's, with something to lose."""
    folder = tmp_path / "outside"
    for name in (
        "letter.txt",
        "checkpoints/step-000001/state.json",
        "prefixes/a.safetensors",
        "x/adapters.safetensors",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


def add(bundle: Bundle, stage: str) -> None:  # noqa: F811
    bundle.add_adapter(stage, "", adapter_for(tiny.model().bank, 7, "turn"), training=TRAINING, tools=[READ])


def train(bundle: Bundle) -> None:  # noqa: F811
    base = tiny.model()  # noqa: F811
    setup = RunSetup(base, tiny.renderer(base), trajectories(), trajectories(), bundle.folder.parent / "trained")
    run = TrainingRun(Job("selector"), TrainOptions(steps=1, batch_size=1, rank=2, checkpoint_every=0), setup)
    for resume in (False, True):
        run.train(resume=resume)


def warm_up(bundle: Bundle) -> None:  # noqa: F811
    with DualTune.load(bundle.folder, model=tiny.model()) as dualtune:
        warm(dualtune)


LINKS = {
    ".lock": ("letter.txt", lambda b: add(b, "selector")),
    "selector": ("x", lambda b: add(b, "selector")),
    "arguments": ("x", lambda b: add(b, "arguments")),
    "prefixes": ("prefixes", warm_up),
    "../trained/runs": ("", train),
    "../trained/runs/selector": ("", train),
    "../trained/runs/selector/checkpoints": ("checkpoints", train),
    "../trained/runs/selector/.lock": ("letter.txt", train),
}


@pytest.mark.parametrize(("link", "target", "work"), [(link, *case) for link, case in LINKS.items()], ids=LINKS)
def test_nothing_is_written_or_removed_through_a_link(bundle, outside, link, target, work):  # noqa: F811
    place = bundle.folder / link
    shutil.rmtree(place, ignore_errors=True)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside / target)
    before = contents(outside)
    with pytest.raises(UsageError, match=f"{place.name}(?s:.*)fix: remove the link") as raised:
        work(bundle)
    assert "link" in str(raised.value)
    assert contents(outside) == before


def test_tidying_up_stays_in_the_bundle(bundle, tmp_path):  # noqa: F811
    """A manifest that names a path outside, or a link to one, has nothing moved or removed there."""
    content = bundle.stages["selector", ""].content_hash
    for name in ("victim", f"victim.new-{content[:12]}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "letter").write_text("mine")
    (bundle.folder / f"x.new-{content[:12]}").mkdir()
    change(bundle.folder, "stages", "selector", "", "path", value="../victim")
    Bundle.open(bundle.folder)
    assert not (bundle.folder / f"x.new-{content[:12]}").exists()
    assert {path.name for path in tmp_path.glob("victim*")} == {"victim", f"victim.new-{content[:12]}"}
    shutil.rmtree(bundle.folder / "arguments")
    (bundle.folder / "arguments").symlink_to(tmp_path)
    (tmp_path / ".tmp-dualtune-1").write_text("")
    Bundle.open(bundle.folder)
    assert len(list(tmp_path.glob("*victim*/letter"))) == 2 and (tmp_path / ".tmp-dualtune-1").exists()


def test_a_locked_file_keeps_what_is_in_it(bundle):  # noqa: F811
    (bundle.folder / ".lock").write_text("notes")
    add(bundle, "selector")
    assert (bundle.folder / ".lock").read_text() == "notes"


def test_a_bundle_whose_files_are_links_is_read(bundle, tmp_path):  # noqa: F811
    """The Hugging Face cache keeps folders of links to files."""
    copy = tmp_path / "snapshot"
    for path in [path for path in bundle.folder.rglob("*") if path.is_file()]:
        link = copy / path.relative_to(bundle.folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    assert Bundle.open(copy).load_adapter("selector").content_hash == bundle.load_adapter("selector").content_hash


def to_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def to_device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


READERS = {
    MANIFEST: (BundleError, lambda folder: Bundle.open(folder)),
    "selector/adapters.safetensors": (AdapterError, lambda folder: Bundle.open(folder).load_adapter("selector")),
    "selector/adapter_config.json": (AdapterError, lambda folder: Bundle.open(folder).load_adapter("selector")),
    "template.jinja": (PromptError, lambda folder: Bundle.open(folder).load_template()),
    "words.safetensors": (BundleError, lambda folder: Bundle.open(folder).load_words()),
    ".lock": (UsageError, lambda folder: Bundle.open(folder).set_prefixes(["a"])),
}


@pytest.mark.parametrize("spoil", [to_pipe, to_device])
@pytest.mark.parametrize("name", READERS)
def test_pipes_and_devices_are_not_read(empty, tmp_path, name, spoil):  # noqa: F811
    from tests.bundle.test_words import EVIDENCE, make

    template = tmp_path / "own.jinja"
    template.write_text(Template("chatml").source + " ")
    own = replace(empty, template=str(template), template_hash=Template(str(template)).hash)
    add(own, "selector")
    Bundle.open(own.folder).set_words(make(), EVIDENCE)
    spoil(own.folder / name)
    error, read = READERS[name]
    with pytest.raises(error, match=f"{Path(name).name}"):
        read(own.folder)
    assert find_problems(own.folder) or name == ".lock"


@pytest.mark.parametrize("spoil", [to_pipe, to_device])
@pytest.mark.parametrize("name", [ARRAYS, FACTS])
def test_nor_are_those_of_a_checkpoint(tmp_path, name, spoil):
    folder = tmp_path / "c" / "step-000001"
    folder.mkdir(parents=True)
    (folder / FACTS).write_text('{"run": "r", "sha256": ""}')
    spoil(folder / name)
    with pytest.raises(CheckpointError, match="cannot be read(?s:.*)no file, but a pipe"):
        Checkpoints(tmp_path / "c", "r", 1).latest()


@pytest.mark.parametrize("spoil", [to_pipe, to_device])
def test_nor_are_those_of_prefixes(bundle, spoil):  # noqa: F811
    (bundle.folder / "prefixes").mkdir()
    spoil(bundle.folder / "prefixes" / f"{'0' * 32}.safetensors")
    with pytest.warns(match="prefix file is ignored(?s:.*)no file, but a pipe"):
        warm_up(bundle)
