"""The road from tools to a measured bundle, with a tiny model: it goes on where it was, and keeps up with its tools."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dualtune_mlx import DualTune
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.cli import main
from dualtune_mlx.errors import DualTuneError, UsageError
from dualtune_mlx.learning import options as learn_options
from dualtune_mlx.learning import road
from dualtune_mlx.learning.events import CommandStarted, Measured, PlanMade, StepsChosen
from dualtune_mlx.learning.focus import focus, leave_out_long, sample
from dualtune_mlx.learning.options import LearnOptions
from dualtune_mlx.learning.road import learn
from dualtune_mlx.training import ConfigFile, Job, TrainingSession, merge_config
from dualtune_mlx.training.session import RunSkipped, StepTaken
from tests import tiny
from tests.learning.notes import ADD, FIND, LIST

pytest.importorskip("datasketch", reason="needs the extra synth")
SMALL = {"rank": 2, "alpha": 4.0, "batch_size": 4, "layers": "all"}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(learn_options, "FROM_NOTHING", SMALL)
    monkeypatch.setattr(learn_options, "_length", lambda steps: {"steps": 3, "validate_every": 3})
    monkeypatch.setattr(road, "MOST_TOKENS", 24)


@pytest.fixture
def options(model) -> LearnOptions:
    return LearnOptions(model, minutes=0.01, measured=2, requests=30)


def of_kind(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def rounded(value: Any) -> Any:
    """A JSON value whose numbers have five digits: fused weights and low-rank ones differ in the last ones."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 5))


def written(request: str, **arguments: str) -> str:
    """A line with a request of a user's, which asks for a note."""
    call = {"type": "function", "function": {"name": "add_note", "arguments": arguments}, "server": "notes"}
    messages = [{"role": "user", "content": request}, {"role": "assistant", "tool_calls": [call]}]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def own_request(folder: Path) -> None:
    """A request of the user's own, as ``data ask`` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.jsonl").write_text(written("don't let me forget: milk", text="milk") + "\n")


def test_a_bundle_is_made_measured_and_not_made_again(tmp_path, options):
    events: list[Any] = []
    value = learn([ADD, LIST], tmp_path / "mine", options, report=events.append)
    assert (value["measured_on"], value["bundle"]) == ("held out", str(tmp_path / "mine"))
    assert value["before"]["n"] == value["after"]["n"] == 2
    assert [event.name for event in of_kind(events, Measured)] == ["before", "after"]
    assert of_kind(events, StepsChosen) and of_kind(events, StepTaken)
    assert [event.arguments[:2] for event in of_kind(events, CommandStarted)] == [
        ("data", "synthesize"),
        ("data", "split"),
        ("train", "selector"),
        ("train", "arguments"),
        ("bundle", "words"),
    ]
    assert "What was learned" in (tmp_path / "mine" / "report.html").read_text()
    with DualTune.load(tmp_path / "mine") as dualtune:
        assert not dualtune.compare_tools([ADD, LIST]) and dualtune.counts_words([ADD, LIST])
        assert dualtune.call("list them", [ADD, LIST], max_tokens=64)
    again: list[Any] = []
    assert learn([ADD, LIST], tmp_path / "mine", options, report=again.append) == value
    assert not of_kind(again, StepTaken) and not of_kind(again, Measured)
    assert len(of_kind(again, RunSkipped)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("link", ["data", "data/split", "before"])
def test_nothing_is_written_through_a_link(tmp_path, options, link):
    (tmp_path / "outside").mkdir()
    (tmp_path / "b" / link).parent.mkdir(parents=True)
    (tmp_path / "b" / link).symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match="through a link(?s:.*)fix: remove the link"):
        learn([ADD, LIST], tmp_path / "b", options)
    assert not list((tmp_path / "outside").iterdir())


def test_a_road_that_was_stopped_goes_on(tmp_path, options):
    def stop(event: object) -> None:
        if isinstance(event, StepTaken) and event.job.stage == "arguments":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn([ADD, LIST], tmp_path / "mine", options, report=stop)
    requests = (tmp_path / "mine/data/requests.jsonl").read_bytes()
    events: list[Any] = []
    learn([ADD, LIST], tmp_path / "mine", options, report=events.append)
    assert (tmp_path / "mine/data/requests.jsonl").read_bytes() == requests
    assert {event.job.stage for event in of_kind(events, StepTaken)} == {"arguments"}
    whole = learn([ADD, LIST], tmp_path / "other", options)
    again = json.loads((tmp_path / "mine/learn.json").read_text())["measured"]["after"]["report"]
    assert rounded(whole["after"]) == rounded(again)


def test_the_user_s_own_requests_are_what_counts(tmp_path, options):
    own_request(tmp_path / "mine/data")
    events: list[Any] = []
    value = learn([ADD, LIST], tmp_path / "mine", options, report=events.append)
    assert (value["measured_on"], value["after"]["n"]) == ("own", 1)
    assert "1 request of your own" in " ".join(of_kind(events, PlanMade)[0].plan.describe())


@pytest.mark.slow
def test_mended_requests_are_trained_on(tmp_path, options):
    learn([ADD, LIST], tmp_path / "mine", options)
    path = tmp_path / "mine/data/requests.jsonl"
    kept = path.read_text().splitlines(keepends=True)[:-4]
    path.write_text("".join(kept))
    events: list[Any] = []
    learn([ADD, LIST], tmp_path / "mine", options, report=events.append)
    assert path.read_text() == "".join(kept)
    assert of_kind(events, StepTaken)
    assert [event.name for event in of_kind(events, Measured)][-1] == "after", "other adapters are measured again"


def given_requests(path: Path, count: int = 20) -> Path:
    """Requests that somebody wrote, in a wording each; a text of theirs has what ends a line elsewhere."""
    words = [2 * chr(ord("a") + number) for number in range(count)]
    lines = [written(f"pray {word} put\u2028down: milk", text="milk") for word in words]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_given_requests_are_learned_beside_those_that_are_made(tmp_path, options):
    hand = given_requests(tmp_path / "hand.jsonl")
    events: list[Any] = []
    learn([ADD, LIST], tmp_path / "mine", options, more=[hand], report=events.append)
    data = tmp_path / "mine/data"
    made, given, *divided = (
        set((data / f"{name}.jsonl").read_text().strip().split("\n"))
        for name in ("requests", "split/more", "split/train", "split/valid")
    )
    assert len(given) == 20 and not made & given and divided[0] | divided[1] == made | given
    assert given & set((data / "train.jsonl").read_text().split("\n"))
    assert "20 requests that you give" in " ".join(of_kind(events, PlanMade)[0].plan.describe())
    assert "requests given" in (tmp_path / "mine/report.html").read_text()
    (split,) = (one.arguments for one in of_kind(events, CommandStarted) if one.arguments[:2] == ("data", "split"))
    before = {name: (data / f"split/{name}.jsonl").read_bytes() for name in ("train", "valid")}
    assert CliRunner().invoke(main, split).exit_code == 0
    assert before == {name: (data / f"split/{name}.jsonl").read_bytes() for name in before}, "the command does the same"


@pytest.mark.slow
def test_given_requests_that_changed_are_trained_on_anew(tmp_path, options):
    hand = given_requests(tmp_path / "hand.jsonl")
    learn([ADD, LIST], tmp_path / "mine", options, more=[hand])
    again: list[Any] = []
    learn([ADD, LIST], tmp_path / "mine", options, more=[hand], report=again.append)
    assert not of_kind(again, StepTaken)
    given_requests(hand, 15)
    events: list[Any] = []
    learn([ADD, LIST], tmp_path / "mine", options, more=[hand], report=events.append)
    assert of_kind(events, StepTaken) and not of_kind(events, StepsChosen)


def test_a_given_file_that_is_wrong_is_refused_before_anything_is_done(tmp_path, options):
    hand = tmp_path / "hand.jsonl"
    hand.write_text(written("put it down", note="milk") + "\n")
    events: list[Any] = []
    with pytest.raises(DualTuneError, match="hand.jsonl:1"):
        learn([ADD, LIST], tmp_path / "mine", options, more=[hand], report=events.append)
    assert not events and not (tmp_path / "mine/learn.json").exists()


@pytest.mark.slow
def test_requests_that_come_later_are_measured_without_training_again(tmp_path, options):
    learn([ADD, LIST], tmp_path / "mine", options)
    own_request(tmp_path / "mine/data")
    events: list[Any] = []
    value = learn([ADD, LIST], tmp_path / "mine", options, report=events.append)
    assert (value["measured_on"], value["before"]["n"], value["after"]["n"]) == ("own", 1, 1)
    assert not of_kind(events, StepTaken)


@pytest.mark.slow
def test_other_options_take_effect_on_a_bundle_that_is_there(tmp_path, options):
    learn([ADD, LIST], tmp_path / "mine", options)
    events: list[Any] = []
    learn([ADD, LIST], tmp_path / "mine", replace(options, minutes=0.02), report=events.append)
    assert of_kind(events, StepsChosen)
    before = (tmp_path / "mine/data/requests.jsonl").read_text()
    learn([ADD, LIST], tmp_path / "mine", replace(options, minutes=0.02, seed=1))
    assert (tmp_path / "mine/data/requests.jsonl").read_text() != before


def test_the_commands_that_are_named_do_the_same(tmp_path, options):
    events: list[Any] = []
    learn([ADD, LIST], tmp_path / "mine", options, report=events.append)
    stage, config = next(e.arguments for e in of_kind(events, CommandStarted) if e.arguments[0] == "train")[1:4:2]
    merged = merge_config(ConfigFile.read(config), {})
    session = TrainingSession(merged)
    assert session.train_one(Job(stage), skip=True, resume=True) is None, "this very run is finished"


def test_only_what_changed_is_learned_on_top_of_what_was(tmp_path, options):
    learn([ADD, LIST], tmp_path / "mine", options)
    before = Bundle.open(tmp_path / "mine")
    events: list[Any] = []
    value = learn([ADD, FIND], tmp_path / "mine", options, report=events.append)
    after = Bundle.open(tmp_path / "mine")
    assert [tool.name for tool in after.tools] == ["add_note", "find_notes"]
    assert set(after.stages) == {("selector", ""), ("arguments", ""), ("arguments", "notes/find_notes")}
    assert after.stages["arguments", ""] == before.stages["arguments", ""], "old adapters stay"
    assert after.stages["selector", ""] != before.stages["selector", ""]
    start = after.stages["arguments", "notes/find_notes"].training["start"]
    assert start == before.stages["arguments", ""].content_hash
    said = " ".join(of_kind(events, PlanMade)[0].plan.describe())
    assert "never trained: notes/find_notes" in said and "gone: notes/list_notes" in said
    assert value["before"]["n"] == value["after"]["n"]
    again: list[Any] = []
    learn([ADD, FIND], tmp_path / "mine", options, report=again.append)
    assert not of_kind(again, StepTaken)


def test_words_are_learned_from_all_requests_that_are_not_held_out(tmp_path, options):
    learn([ADD, LIST], tmp_path / "mine", options)
    assert Bundle.open(tmp_path / "mine").load_words().knows(["notes/add_note", "notes/list_notes", "respond"])
    assert not Bundle.open(tmp_path / "mine").load_words().knows(["notes/find_notes"])
    learn([ADD, LIST, FIND], tmp_path / "mine", options)
    assert Bundle.open(tmp_path / "mine").load_words().knows(["notes/find_notes"])
    data = tmp_path / "mine/data"
    made, held_out, used, valid, train = (
        set((data / f"{name}.jsonl").read_text().splitlines())
        for name in ("requests", "split/valid", "split/train", "valid", "train")
    )
    assert held_out and held_out | used == made and not held_out & used
    assert valid and valid <= held_out and train and train <= used


@pytest.mark.slow
def test_a_round_that_was_not_finished_begins_again_with_other_tools(tmp_path, options):
    def stop(event: object) -> None:
        if isinstance(event, StepTaken):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn([ADD, LIST], tmp_path / "mine", options, report=stop)
    learn([ADD, LIST, FIND], tmp_path / "mine", options)
    assert set(Bundle.open(tmp_path / "mine").stages) == {("selector", ""), ("arguments", "")}


@pytest.mark.slow
def test_a_new_tool_without_arguments_and_one_without_a_server_are_learned(tmp_path, options):
    learn([ADD, FIND], tmp_path / "mine", options)
    learn([ADD, FIND, LIST], tmp_path / "mine", options)
    assert set(Bundle.open(tmp_path / "mine").stages) == {("selector", ""), ("arguments", "")}
    alone = [replace(tool, server="") for tool in (ADD, FIND)]
    learn(alone[:1], tmp_path / "alone", options)
    before = Bundle.open(tmp_path / "alone").stages["arguments", ""].content_hash
    learn(alone, tmp_path / "alone", options)
    assert Bundle.open(tmp_path / "alone").stages["arguments", ""].content_hash != before


@pytest.mark.slow
def test_where_tools_are_only_gone_nothing_is_trained(tmp_path, options):
    learn([ADD, LIST, FIND], tmp_path / "mine", options)
    events: list[Any] = []
    learn([ADD, LIST], tmp_path / "mine", options, report=events.append)
    assert not of_kind(events, StepTaken) and of_kind(events, Measured)
    assert [tool.name for tool in Bundle.open(tmp_path / "mine").tools] == ["add_note", "list_notes"]


@pytest.mark.slow
def test_a_tool_that_changed_is_learned_again(tmp_path, options):
    learn([ADD, FIND], tmp_path / "mine", options)
    wider = replace(FIND, parameters={**FIND.parameters, "required": []})
    learn([ADD, wider], tmp_path / "mine", options)
    assert ("arguments", "notes/find_notes") in Bundle.open(tmp_path / "mine").stages


def test_a_later_round_learns_changed_tools_and_as_many_others():
    def line(name: str) -> str:
        call = {"function": {"name": name, "arguments": {}}, "server": "notes"}
        return json.dumps(
            {"messages": [{"role": "user", "content": name}, {"role": "assistant", "tool_calls": [call]}]}
        )

    lines = [line("old")] * 10 + [line("new")] * 3
    kept = focus(lines, {"notes/new"}, seed=1)
    assert (kept.count(line("new")), kept.count(line("old"))) == (3, 3)


@pytest.mark.parametrize(("given", "made", "kept"), [(3, 90, 3), (60, 90, 5), (60, 2, 8), (4, 4, 4)])
def test_given_requests_are_half_of_what_training_sees_where_there_are_so_many(given, made, kept):
    lines = [f"given {number}" for number in range(given)] + [f"made {number}" for number in range(made)]
    drawn = sample(lines, 10, 1, set(lines[:given]))
    assert len(drawn) == min(10, len(lines)) and sum(line.startswith("given") for line in drawn) == kept


def test_where_there_is_little_time_long_conversations_are_left_out(tmp_path, options, monkeypatch):
    def line(length: int, messages: int) -> str:
        return json.dumps({"messages": [{"content": "a" * length}] * messages})

    short, long = [line(20, 2)] * 3, line(90, 4)
    assert leave_out_long([*short, long]) == short
    assert leave_out_long([*short, line(900, 2)]) == [*short, line(900, 2)], "one request may have a long text"
    assert leave_out_long([]) == []
    lines = []
    for minutes in (0.01, 0.02):
        monkeypatch.setattr(road, "LONG_MINUTES", 0.02)
        learn([ADD, LIST], tmp_path / f"{minutes}", replace(options, minutes=minutes, requests=60))
        lines.append((tmp_path / f"{minutes}/data/train.jsonl").read_text().splitlines())
    assert max(map(len, lines[0])) < max(map(len, lines[1]))


def test_training_sees_no_more_requests_than_it_has_time_for():
    lines = [str(number) for number in range(100)]
    drawn = sample(lines, 7, seed=1)
    assert len(drawn) == 7 and drawn == sorted(drawn, key=int) and set(drawn) < set(lines)
    assert sample(lines, 200, seed=1) == lines
    assert LearnOptions(minutes=15).most_trained < LearnOptions(minutes=60).most_trained


@pytest.mark.parametrize("wrong", [{"minutes": 0.0}, {"measured": 0}, {"requests": -1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        LearnOptions(**wrong)
