"""The line from a request to stored cells: what is resumed, what ends a run, with cells that measure nothing."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from fake_records import record

from bench.config.target import load_target
from bench.errors import DiskFull, InvalidInput, Unavailable
from bench.line.plan import Request, find_settings
from bench.line.run import Surroundings, describe_move, find_interrupted, note_plan, plan_run, run
from bench.store import Store

REQUEST = Request(target="cpu", suite="smoke", models=("lenet5", "resnet8"), recipes=("int8", "float16"))


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "pressbench.db") as store:
        yield store


def begin(store, tmp_path, request=REQUEST, *, resume=False, failing=None, digest="", note=print):
    """Runs a request whose cells only note that they were asked for; raises `failing` from the third on."""
    asked = []

    def cell_of(cell, state):
        asked.append(cell)
        if failing and len(asked) > 2:
            raise failing
        return record(state.run_id, key=cell.key, digest=digest)

    around = Surroundings(
        store=store,
        cache=tmp_path,
        folder=tmp_path,
        progress=lambda *_: None,
        on_cell=lambda *_: None,
        run_cell=cell_of,
        note=note,
    )
    request, earlier = find_interrupted(request, store) if resume else (request, None)
    return run(plan_run(request), around, earlier=earlier)


def interrupted(store, tmp_path, **options):
    with pytest.raises(KeyboardInterrupt):
        begin(store, tmp_path, failing=KeyboardInterrupt(), **options)


@pytest.mark.parametrize(
    "again",
    [
        Request(target="cpu", suite="smoke"),
        Request(target="cpu", suite="smoke", models=("resnet8", "lenet5"), recipes=("float16", "int8")),
    ],
)
def test_a_run_is_resumed_by_its_suite_alone_or_by_the_same_options(store, tmp_path, again):
    interrupted(store, tmp_path)
    (begun,) = store.runs()
    assert begun.settings == find_settings(REQUEST)
    ended = begin(store, tmp_path, again, resume=True)
    assert ended.counts == {"ok": 6}
    assert [run.status for run in store.runs()] == ["finished"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": ("lenet5",)}, "begun with --model lenet5, resnet8, now --model is lenet5"),
        ({"recipes": ("int8",)}, "begun with --recipe float16, int8, now"),
        ({"backends": ("litert",)}, "begun with no --backend, now --backend is litert"),
        ({"data": ""}, "begun with no --dataset"),
        ({"launches": 10}, "begun with no --launches, now --launches is 10"),
        ({"time_s": 5.0}, "begun with no --time, now --time is 5.0"),
        ({"smallest_effect": 0.05}, "now --smallest-effect is 0.05"),
        ({"input_shape": (3, 8, 8)}, "now --input-shape is 3, 8, 8"),
    ],
)
def test_a_resumed_run_takes_no_other_options_in_silence(store, tmp_path, change, words):
    interrupted(store, tmp_path)
    with pytest.raises(InvalidInput, match=words):
        begin(store, tmp_path, Request(target="cpu", suite="smoke", **change), resume=True)
    assert [run.status for run in store.runs()] == ["interrupted"]


@pytest.mark.parametrize(("now", "noted"), [("one", 0), ("another", 1), ("", 0)])
def test_a_network_that_changed_while_its_run_was_interrupted_is_noted(store, tmp_path, now, noted):
    """Its finished cells are compared with the baseline that runs again."""
    interrupted(store, tmp_path, digest="one")
    said: list[str] = []
    begin(store, tmp_path, resume=True, digest=now, note=said.append)
    assert len([one for one in said if "the uncompressed network is another one than when run" in one]) == noted


def test_a_full_disk_interrupts_the_run_and_what_is_left_is_measured_later(store, tmp_path):
    with pytest.raises(DiskFull, match=r"disk full: run .* --resume"):
        begin(store, tmp_path, failing=OSError(errno.ENOSPC, "No space left on device"))
    assert [run.status for run in store.runs()] == ["interrupted"]
    assert len(store.records()) == 2
    assert begin(store, tmp_path, resume=True).counts == {"ok": 6}


def test_a_store_that_cannot_note_the_end_does_not_hide_what_ended_the_run(store, tmp_path, monkeypatch):
    def full(*_):
        raise Unavailable("disk full: the store")

    monkeypatch.setattr(Store, "finish_run", full)
    with pytest.raises(KeyboardInterrupt):
        begin(store, tmp_path, failing=KeyboardInterrupt())


def test_a_target_with_a_reach_nobody_built_is_refused_before_a_run_is_begun(store, tmp_path):
    (tmp_path / "mine.toml").write_text('name = "mine"\nreach = "carrier-pigeon"\n[[backend]]\nname = "ort"\n')
    with pytest.raises(InvalidInput, match=r"unknown reach 'carrier-pigeon' .*known: .*local"):
        begin(store, tmp_path, Request(target=str(tmp_path / "mine.toml"), suite="smoke"))
    assert not store.runs()


@pytest.mark.parametrize(
    ("target", "function", "words"),
    [
        ("cpu", "nowhere_at_all:before", "--preprocess or --postprocess: package nowhere_at_all cannot be found"),
        ("cpu", "before", "--preprocess: key 'measure.preprocess': 'before' is not package.module:function"),
        ("arm-emulated", "json:loads", "target arm-emulated counts instructions and times nothing"),
        ("ethos-u55", "json:loads", "target ethos-u55 estimates with vela and times nothing"),
    ],
)
def test_functions_that_cannot_be_timed_are_refused_before_a_run_is_begun(store, tmp_path, target, function, words):
    with pytest.raises(InvalidInput, match=words):
        begin(store, tmp_path, Request(target=target, suite="smoke", preprocess=function))
    assert not store.runs()


@pytest.mark.parametrize("target", ["arm-emulated", "ethos-u55"])
def test_inference_without_a_pause_is_refused_where_nothing_is_timed(tmp_path, target):
    (tmp_path / "mine.toml").write_text('name = "mine"\nmodels = ["lenet5"]\n[measure]\nsustain_s = 60.0\n')
    with pytest.raises(InvalidInput, match=rf"sustain_s: target {target} .* and times nothing: leave .* sustain_s out"):
        plan_run(Request(target=target, suite=str(tmp_path / "mine.toml")))


def test_a_run_that_another_machine_began_says_so_where_machines_are_measured(store, tmp_path):
    """Its times were of both, and nothing said so."""
    interrupted(store, tmp_path)
    (begun,) = store.runs()
    moved = replace(begun, machine={**begun.machine, "cpu": "of a laptop"})
    plan, noted = plan_run(REQUEST), list[str]()
    note_plan(plan, begun, noted.append)
    assert noted == list(plan.notes)
    note_plan(plan, moved, noted.append)
    assert noted[len(plan.notes)].startswith(f"run {begun.run_id} was begun on another machine (cpu of a laptop, here ")
    assert describe_move(moved, load_target("jetson")) == ""
