"""Laws of a store written by an older pressbench: it reads, reports and plans as it did then."""

from __future__ import annotations

import csv
import re
import zlib
from dataclasses import replace

import pytest
from fake_records import record, run
from hypothesis import given
from hypothesis import strategies as st
from old_store import FINISHED, GOLDEN, INTERRUPTED, unpack_old_store
from pydantic import TypeAdapter

from bench.errors import InvalidInput
from bench.line.plan import Request, make_plan
from bench.records import Execution, Record
from bench.report.page import render_page
from bench.report.page.execution_notes import describe_execution
from bench.report.table import write_csv
from bench.store import Store
from bench.store.codec import RECORDS, RUNS, StoredRecord, StoredRun, pack, pack_record, unpack_record, unpack_run
from bench.types import Precision, Status

WROTE = {
    "ort/baseline": {
        "partitions": "6 nodes on CPU",
        "kernels": "float32 asked for",
        "layout": "no transposes seen",
        "time": "FusedGemm ×2: 50 %, Gemm ×1: 28 %, Reshape ×1: 22 %",
    },
    "ort/int8": {
        "partitions": "20 nodes on CPU",
        "kernels": "int8 asked for",
        "layout": "no transposes seen",
        "number types": "QuantizeLinear ×1, DequantizeLinear ×1 (29 % of the time)",
        "time": "QGemm ×3: 58 %, QuantizeLinear ×1: 16 %, Reshape ×1: 13 %",
    },
    "litert/baseline": {
        "partitions": "4 of 4 operators delegated in 1 partition",
        "kernels": "xnnpack",
        "layout": "channels last, no transposes seen",
    },
    "litert/int8": {
        "partitions": "6 of 6 operators delegated in 1 partition",
        "kernels": "xnnpack, int8",
        "layout": "channels last, no transposes seen",
        "number types": "Convert (NC) ×2",
    },
    "pytorch/baseline": {
        "kernels": "float32, eager",
        "layout": "no transposes seen",
        "time": "linear ×3: 60 %, relu ×2: 25 %, flatten ×1: 15 %",
    },
    "pytorch/int8": {},
}
"""What the page of that time said of the finished run."""
DIFFERENT = {
    "ort/baseline": {"kernels": "float32"},
    "litert/baseline": {"kernels": "XNNPACK, float32"},
    "litert/int8": {"kernels": "XNNPACK, int8"},
}
"""Today a float32 file delivers float32, and libraries have the names their makers gave them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("old")
    unpack_old_store(place)
    return place


@pytest.fixture(scope="module")
def old(folder):
    """Its runs and records, as read today."""
    with Store.open(folder / "results" / "pressbench.db") as store:
        return store.runs(), store.records()


def test_the_csv_is_the_one_that_was_written_then_column_by_column(old, tmp_path):
    write_csv(old[1], tmp_path / "cells.csv")
    with (tmp_path / "cells.csv").open(newline="") as now, (GOLDEN / "cells.csv").open(newline="") as then:
        rows, wrote = list(csv.DictReader(now)), list(csv.DictReader(then))
    assert [name for name in rows[0] if name in wrote[0]] == list(wrote[0])
    assert len(rows) == len(wrote) == 11
    for name in wrote[0]:
        assert [rounded(row[name]) for row in rows] == [rounded(row[name]) for row in wrote], name


def rounded(cell: str) -> str:
    """Floats to 12 digits: sums differ in the last one between CPUs with and without AVX-512."""
    return f"{float(cell):.12g}" if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", cell) else cell


def test_what_its_int8_cells_were_calibrated_on_is_read_from_their_facts(old):
    measured = [cell for cell in old[1] if cell.recipe == "int8" and cell.status is Status.OK]
    assert measured
    assert all(re.fullmatch(r"\d+ samples of the training set of .*, seed 0", cell.calibration) for cell in measured)
    assert not any(cell.calibration for cell in old[1] if cell.recipe != "int8")


@pytest.mark.parametrize(
    ("before", "after"),
    [(Status.OK, Status.UNTRUSTED), (Status.INCONCLUSIVE, Status.UNTRUSTED), (Status.SKIPPED, Status.SKIPPED)],
)
def test_a_cell_calibrated_on_random_inputs_is_no_longer_trusted(before, after):
    said = "256 samples of seeded random inputs (no data set is named), seed 0"
    cell = record(status=before, facts={"compress": {"calibration": said}})
    read = unpack_record(pack(RECORDS, StoredRecord(record_version=2, record=cell)), "a cell")
    assert (read.status, read.calibration) == (after, said)
    assert "int8 ranges come from random inputs, not from data" in read.reasons


def test_its_runs_are_those_that_ended_then(old):
    assert [(run.run_id, run.status) for run in old[0]] == [(FINISHED, "finished"), (INTERRUPTED, "interrupted")]


def test_the_page_says_of_its_cells_what_it_said_then(old):
    finished = [cell for cell in old[1] if cell.run_id == FINISHED]
    said = {
        f"{cell.backend}/{cell.recipe}": {note.what: note.text for note in describe_execution(cell)}
        for cell in finished
    }
    assert {key: said[key] for key in WROTE} == {
        key: {**wrote, **DIFFERENT.get(key, {})} for key, wrote in WROTE.items()
    }


def test_its_page_claims_no_revision_for_that_was_the_folders(old):
    page = render_page(old[1], old[0])
    assert "<dd>0.1.0</dd>" in page
    assert "621b4a1" not in page


def test_a_plan_of_today_has_the_keys_that_were_made_then(folder, old, monkeypatch):
    monkeypatch.chdir(folder)
    runs, records = old
    for run_ in runs:
        plan = make_plan(TypeAdapter(Request).validate_python(dict(run_.request)))
        planned = {(cell.backend.title, cell.recipe.name): (cell.key, cell.baseline_key) for cell in plan.cells}
        stored = {(r.backend, r.recipe): (r.key, r.baseline_key) for r in records if r.run_id == run_.run_id}
        assert len(planned) == {FINISHED: 9, INTERRUPTED: 3}[run_.run_id]
        assert stored.items() <= planned.items()


def first_version(**changes: object) -> Record:
    """A record that version 1 stored, read today."""
    stored = StoredRecord(record_version=1, record=record(**changes))
    return unpack_record(pack(RECORDS, stored), "a cell")


def test_an_ort_record_of_version_1_names_the_layers_it_kept_float():
    options = {"precision": "int8", "float_layers": "stem,head", "keep_float": True}
    found = first_version(facts={"compile": {"session_options": options}})
    assert found.precision == Precision(asked="int8", keep_float=("stem", "head"))
    assert found.execution is None


def test_a_pytorch_record_of_version_1_tells_layers_kept_from_layers_that_stayed():
    done = {"precision": "int8", "int8": {"float_layers": ["a", "b", "c"], "left_float": ["b"]}}
    ran = {
        "mode": "compile",
        "precision": "int8",
        "channels_last": True,
        "kernels": {"qconv": 3},
        "sparse_layers": ["a"],
    }
    found = first_version(facts={"compile": done, "session": ran})
    assert found.precision == Precision(asked="int8", keep_float=("a", "c"), stayed_float=("b",))
    assert found.execution == Execution(
        precision="int8", mode="compile", layout="channels_last", kernels={"qconv": 3}, sparse_layers=("a",)
    )


def test_a_trt_record_of_version_1_counts_the_types_it_multiplies_in():
    layers = {"multiplying": [{"takes": "int8"}, {"takes": "int8"}, {"takes": ""}, "not a layer"]}
    done = {"session_options": {"asked": "int8", "float_layers": ""}, "kept_float": {"stem": "too narrow"}}
    found = first_version(facts={"session": {"gpu": "A GPU", "layers": layers}, "compile": done})
    assert found.execution == Execution(library="TensorRT", device="A GPU", multiplying={"int8": 2, "unknown": 2})
    assert found.precision == Precision(asked="int8", keep_float=("stem",))


def test_a_litert_record_of_version_1_says_what_was_delegated_and_converted():
    ran = {
        "kernels": "xnnpack",
        "layout": "model",
        "operators": {"CONV_2D": 8},
        "delegated": 7,
        "partitions": 2,
        "not_delegated": {"CONV_2D": 1},
        "integer_tensors_converted_outside_timing": ["input"],
    }
    done = {"session_options": {"asked": "int8"}, "arithmetic": "float32", "left_float": ["head"]}
    found = first_version(facts={"session": ran, "compile": done})
    assert found.precision == Precision(asked="int8", delivered="float32", stayed_float=("head",))
    assert found.execution == Execution(
        library="XNNPACK",
        operators={"CONV_2D": 8},
        delegated=7,
        partitions=2,
        not_delegated={"CONV_2D": 1},
        converted_outside=("input",),
    )


@pytest.mark.parametrize("odd", [None, 3, "text", ["a"]])
def test_facts_of_version_1_that_are_not_a_mapping_say_nothing(odd):
    found = first_version(facts={"session": odd, "compile": odd})
    assert (found.precision, found.execution) == (None, None)


def test_facts_of_version_1_of_another_kind_than_their_backend_wrote_say_nothing():
    odd = {
        "operators": 3,
        "partitions": "x",
        "layout": {},
        "kernels": [1],
        "layers": "text",
        "nodes_by_provider": {"a": "b"},
    }
    found = first_version(facts={"session": odd, "compile": {"session_options": 3, "int8": [], "kept_float": 7}})
    assert found.execution == Execution()
    assert found.precision == Precision(asked="float32", delivered="float32")


KEYS = [
    *("kernels", "layout", "operators", "delegated", "partitions", "not_delegated", "nodes_by_provider", "layers"),
    *("session_options", "int8", "kept_float", "left_float", "float_layers", "precision", "multiplying", "takes"),
]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.sampled_from(["", "a,b", "model"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["compile", "session", "machine"]), ODD))
def test_any_facts_of_version_1_upgrade_to_a_record_that_can_be_stored_and_shown(facts):
    found = first_version(facts=facts)
    assert unpack_record(pack_record(found), "a cell") == found
    assert all(note.text for note in describe_execution(found))


def test_upgrading_keeps_the_facts_as_they_were():
    facts = {"session": {"kernels": "xnnpack"}, "compile": {"arithmetic": "int8"}}
    assert first_version(facts=facts).facts == facts


def test_a_record_of_today_is_not_upgraded():
    mine = record(facts={"session": {"kernels": "xnnpack"}}, execution=Execution(library="mine"))
    assert unpack_record(pack_record(mine), "a cell") == mine


def test_a_run_of_version_1_loses_the_revision_of_the_users_folder():
    assert unpack_run(pack(RUNS, StoredRun(record_version=1, run=run())), "a run") == replace(run(), revision="")


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was_is_damage(version):
    packed = zlib.compress(f'{{"record_version": {version}}}'.encode())
    with pytest.raises(InvalidInput, match="a cell is damaged"):
        unpack_record(packed, "a cell")
