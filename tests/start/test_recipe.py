"""The recipe as a whole: rounds with a tiny model, stopped and gone on with."""

from dataclasses import replace

import pytest

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.start import recipe
from dualtune_mlx.start.recipe import ARGUMENTS, SELECTOR, Round, make_start_bundle
from dualtune_mlx.training.session import StepTaken
from tests import tiny

ROUNDS = (
    Round("arguments", ARGUMENTS, 2),
    Round("selector", SELECTOR, 1),
    Round("selector", replace(SELECTOR, requests=4), 1),
)
SMALL = {"rank": 2, "alpha": 4.0, "layers": "all", "cards": "name", "checkpoint_every": 1, "warmup": 0}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A tiny model on the disk, and rounds of a few steps."""
    folder = tiny.save(tmp_path / "model")
    monkeypatch.setattr(recipe, "EMBEDDED", str(folder))
    monkeypatch.setattr(recipe, "OPTIONS", {**recipe.OPTIONS, **SMALL, "model": str(folder), "template": tiny.TEMPLATE})
    few = [domain for domain in recipe.read_corpus() if domain.name in ("notebox", "abacus", "jukebox")]
    monkeypatch.setattr(recipe, "read_corpus", lambda: few)
    monkeypatch.setattr(recipe, "HELD_OUT", ("notebox",))
    monkeypatch.setattr(recipe, "FITTED", 3)


@pytest.mark.usefixtures("small")
def test_a_recipe_that_was_stopped_goes_on_and_ends_in_a_packed_bundle(tmp_path):
    class StoppedError(Exception):
        pass

    def stop(event):
        if isinstance(event, StepTaken) and event.job.stage == "selector":
            raise StoppedError

    work = tmp_path / "work"
    with pytest.raises(StoppedError):
        make_start_bundle(tmp_path / "nothing", work, ROUNDS, stop)
    trained = Bundle.open(work / "1-arguments" / "bundle").stages["arguments", ""].content_hash
    bundle = make_start_bundle(tmp_path / "nothing", work, ROUNDS)
    assert Bundle.open(work / "1-arguments" / "bundle").stages["arguments", ""].content_hash == trained
    assert set(bundle.stages) == {("selector", ""), ("arguments", "")}
    assert bundle.tools == () and bundle.evidence is not None
    first, second = (Bundle.open(work / name / "bundle") for name in ("2-selector", "3-selector"))
    assert first.stages["selector", ""].training["start"] == trained
    assert second.stages["selector", ""].training["start"] == first.stages["selector", ""].content_hash
    assert make_start_bundle(tmp_path / "nothing", work, ROUNDS).stages == bundle.stages
