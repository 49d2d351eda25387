"""The columns of cells.csv, declared once: `table` fills them, the page and docs/columns.md explain them.

`python -m tools.columns` writes docs/columns.md; a test compares it with this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number"]
NOT_COMPILED = "no file was compiled"
NOT_MEASURED = "the cell was not measured, or its target does not measure time"
NO_BASELINE = "its baseline has no such figure in this run"
NO_REFERENCE = (
    "no reference outputs of the same shape exist, or the network's own random numbers explain the difference"
)
NO_SAMPLES = "an older version measured the cell"
NO_START = "the kernel does not say when a process began, an older version measured the cell"
NOT_COUNTED = "the target or backend does not count it"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvColumn:
    """One column. `unit`: "" for text and plain counts. `empty`: when the field is empty; "" is never.

    A fraction is between 0 and 1. `meaning` and `empty` are short phrases without a full stop.
    """

    name: str
    kind: Kind
    unit: str = ""
    meaning: str
    empty: str = ""


def _text(name: str, meaning: str, empty: str = "") -> CsvColumn:
    return CsvColumn(name=name, kind="text", meaning=meaning, empty=empty)


def _integer(name: str, unit: str, meaning: str, empty: str = "") -> CsvColumn:
    return CsvColumn(name=name, kind="integer", unit=unit, meaning=meaning, empty=empty)


def _number(name: str, unit: str, meaning: str, empty: str) -> CsvColumn:
    return CsvColumn(name=name, kind="number", unit=unit, meaning=meaning, empty=empty)


IDENTITY = (
    _text("run_id", "the run that measured the cell"),
    _text("started_at", "when the cell began, ISO 8601 with its time zone"),
    _text("target", "name of the target"),
    _text(
        "device",
        "the device as it describes itself: a CPU, a GPU, an emulated CPU or a simulator",
        "the cell ended before its device was opened",
    ),
    _text("backend", "label of the backend in the target"),
    _text("backend_version", "version of the runtime that ran", "no session was opened"),
    _text("model", "name of the model with its arguments"),
    _text(
        "weights_from",
        "where the weights of the uncompressed network come from: trained here, a checkpoint, the user's function or file",
        "an older version measured the cell",
    ),
    _text("data", "the data set of the run, which judges every model that it fits", "the run had none"),
    _text(
        "inputs",
        "what was fed to judge the outputs: samples of a test set or of `--input-data`, or drawn inputs and their values",
        "an older version measured the cell, or nothing ran",
    ),
    _text("recipe", "name of the recipe"),
    _text(
        "calibration",
        "samples that the ranges of static int8 come from: a data set or file and how many, or random inputs",
        "nothing was calibrated",
    ),
    _integer("batch", "inputs", "inputs in one inference"),
    _integer("threads", "threads", "threads the runtime may use"),
    _text("status", "`ok`, `inconclusive`, `untrusted`, `skipped` or `failed`"),
    _text("reason", "why the status is what it is, and notes", "there is nothing to say"),
    _text(
        "budget",
        "`pass`; `fail:` with each figure over its limit; `unknown:` with the limited figures that are missing",
        "the target has no budget",
    ),
    _text("clock", "whose clock timed it: `host`, `device` or `simulated`"),
)
COST = (
    _integer("params", "", "parameters of the deployed file", NOT_COMPILED),
    _integer("nonzero_params", "", "parameters that are not zero", NOT_COMPILED),
    _integer(
        "macs",
        "MACs",
        "multiply-accumulates of one input; 1 MAC = 2 FLOPs",
        f"{NOT_COMPILED}, or no rule counts one of its operators",
    ),
    _integer("flops", "FLOPs", "floating-point operations of one input, or as many integer ones", "`macs` is empty"),
    _integer("file_bytes", "bytes", "size of the deployed file, zeros included", NOT_COMPILED),
    _integer(
        "entropy_bytes",
        "bytes",
        "size of the weights after entropy coding",
        "the recipe ends with a quantizer of the runtime, or the model was brought as a file",
    ),
    _number(
        "compression_ratio",
        "ratio",
        "file of the baseline over this file; above 1 is smaller",
        f"{NO_BASELINE}, or {NOT_COMPILED}",
    ),
)
QUALITY = (
    _number(
        "accuracy",
        "fraction",
        "top-1 accuracy of the deployed file in its own runtime",
        "the cell was not run, its data set does not fit the model, or the task is not classification",
    ),
    _number(
        "accuracy_low",
        "fraction",
        "lower end of Wilson's 95 % interval of `accuracy`",
        f"`accuracy` is empty, or {NO_SAMPLES}",
    ),
    _number("accuracy_high", "fraction", "upper end of that interval", "`accuracy_low` is empty"),
    _integer(
        "test_samples",
        "",
        "test samples behind `accuracy` or `score`, without corruptions and other data sets",
        f"both are empty, or {NO_SAMPLES}",
    ),
    _number(
        "accuracy_drop_pp",
        "percentage points",
        "accuracy of the baseline minus this accuracy; positive is worse",
        f"`accuracy` is empty, or {NO_BASELINE}",
    ),
    _number(
        "accuracy_drop_low_pp",
        "percentage points",
        "lower end of the 95 % interval of that drop, from the samples that only one of both has right",
        f"`accuracy_drop_pp` is empty, the cell is a baseline, or {NO_SAMPLES}",
    ),
    _number(
        "accuracy_drop_high_pp", "percentage points", "upper end of that interval", "`accuracy_drop_low_pp` is empty"
    ),
    _text(
        "score_name",
        "what `score` is: the accuracy, or the score of the task",
        "`score` is empty",
    ),
    _number(
        "score",
        "score's unit",
        "score of the deployed file in its own runtime, by the task; of a classification, the accuracy",
        "the cell was not run, or its data set does not fit the model",
    ),
    _number(
        "score_low",
        "score's unit",
        "lower end of the 95 % interval of `score`: Wilson's of an accuracy, else a jackknife over 20 groups of samples",
        f"`score` is empty, or {NO_SAMPLES}",
    ),
    _number("score_high", "score's unit", "upper end of that interval", "`score_low` is empty"),
    _number(
        "score_drop",
        "score's unit",
        "how much worse the score is than the baseline's; positive is worse, also of a score that should be low",
        f"`score` is empty, or {NO_BASELINE}",
    ),
    _number(
        "score_drop_low",
        "score's unit",
        "lower end of the 95 % interval of that drop, on the same samples",
        "`score_drop` is empty, the cell is a baseline, or it has no interval",
    ),
    _number("score_drop_high", "score's unit", "upper end of that interval", "`score_drop_low` is empty"),
    _number(
        "shifted_accuracy",
        "fraction",
        "mean accuracy over corruptions of the test data",
        "the suite does not set `shifts`, or the inputs are not images whose channels are for certain the first or the last axis",
    ),
    _number(
        "output_max_abs_err",
        "output's unit",
        "largest difference of a float output from the uncompressed reference",
        NO_REFERENCE,
    ),
    _number(
        "output_relative_rms",
        "ratio",
        "root mean square of that difference over the reference's spread, of the output that is furthest away",
        NO_REFERENCE,
    ),
    _number(
        "top1_agreement",
        "fraction",
        "inputs for which this file and the uncompressed reference name the same class",
        f"no output is a class or a score for each, or {NO_REFERENCE}",
    ),
)
LATENCY = (
    _number("latency_mean_ms", "ms", "mean over all samples that were not preempted", NOT_MEASURED),
    _number(
        "latency_p50_ms",
        "ms",
        "median over launches of each launch's median, for one inference of a whole batch",
        "the cell was not measured, and no simulator models its time",
    ),
    _number("latency_p90_ms", "ms", "90 % of the samples take at most this", "there are fewer than 29 samples"),
    _number("latency_p99_ms", "ms", "99 % of the samples take at most this", "there are fewer than 299 samples"),
    _number(
        "latency_p50_low_ms",
        "ms",
        "lower end of the 95 % interval of `latency_p50_ms`",
        "there are fewer than 3 launches",
    ),
    _number("latency_p50_high_ms", "ms", "upper end of that interval", "there are fewer than 3 launches"),
    _integer("samples", "", "timed inferences behind the latencies", NOT_MEASURED),
    _number(
        "clean_share",
        "fraction",
        "samples whose thread waited at most 20 µs for a CPU",
        f"the device's kernel does not report waits, or {NOT_MEASURED}",
    ),
    _number(
        "throughput_per_s", "inputs/s", "inputs per second, inferences one after another", "`latency_p50_ms` is empty"
    ),
)
SPEEDUP = (
    _number(
        "speedup",
        "ratio",
        "time of the baseline over time of this, interleaved in one process; above 1 is faster; exactly 1 for a baseline",
        "the cell was not compared with its baseline",
    ),
    _number(
        "speedup_low", "ratio", "lower end of its 95 % interval over launches", "there are fewer than 3 comparisons"
    ),
    _number("speedup_high", "ratio", "upper end of that interval", "there are fewer than 3 comparisons"),
    _text(
        "speedup_verdict",
        "`faster` or `slower`: the whole interval lies beyond `smallest_effect`; `same`: it lies within; else `inconclusive`",
        "the cell was not compared with its baseline, or is one",
    ),
    _number(
        "smallest_effect",
        "fraction",
        "the share by which the time must differ to count as faster or slower",
        "the cell was not compared with its baseline, or is one",
    ),
    _number(
        "promised_speedup",
        "ratio",
        "MACs of the baseline over MACs of this, without those whose weight is zero",
        f"`macs` is empty here or for the baseline, or {NO_BASELINE}",
    ),
)
COLD = (
    _number(
        "cold_start_ms",
        "ms",
        "from the start of a process to its first answer: the sum of the next four, median over launches",
        f"{NO_START}, or {NOT_MEASURED}",
    ),
    _number(
        "process_start_ms",
        "ms",
        "start of the process: Python, NumPy and the worker, to 10 ms, median over launches",
        f"{NO_START}, or {NOT_MEASURED}",
    ),
    _number(
        "runtime_load_ms",
        "ms",
        "import of the runtime, median over launches",
        f"an older version measured the cell, or {NOT_MEASURED}",
    ),
    _number("load_ms", "ms", "time to load the file and open a session, median over launches", NOT_MEASURED),
    _number(
        "first_inference_ms",
        "ms",
        "the first inference, before any warm-up, median over launches",
        f"an older version measured the cell, or {NOT_MEASURED}",
    ),
)
UNSUSTAINED = "the suite does not set `sustain_s`"
SUSTAINED = (
    _number(
        "sustained_first_ms",
        "ms",
        "median of the first second of back-to-back inference, while the device is cold",
        f"{UNSUSTAINED}, or {NOT_MEASURED}",
    ),
    _number(
        "sustained_p50_ms",
        "ms",
        "median after heat has settled: of the last third of `sustain_s`",
        f"latency still changed at the end, {UNSUSTAINED}, or {NOT_MEASURED}",
    ),
    _number(
        "sustained_slowdown",
        "ratio",
        "`sustained_p50_ms` over `sustained_first_ms`; above 1 is slower",
        "`sustained_p50_ms` is empty",
    ),
    _number(
        "settled_after_s",
        "s",
        "seconds after which latency stays within 5 % of `sustained_p50_ms`",
        "`sustained_p50_ms` is empty",
    ),
)
NO_FUNCTIONS = "no `--preprocess` or `--postprocess` was given"
END_TO_END = (
    _number(
        "end_to_end_ms",
        "ms",
        "pre-processing, inference and post-processing of one batch by the host's clock, median over launches",
        f"{NO_FUNCTIONS}, or {NOT_MEASURED}",
    ),
    _number(
        "preprocess_ms",
        "ms",
        "median of the user's pre-processing, on the device; near 0 without one",
        "`end_to_end_ms` is empty",
    ),
    _number(
        "postprocess_ms",
        "ms",
        "median of the user's post-processing, on the device; near 0 without one",
        "`end_to_end_ms` is empty",
    ),
    _number(
        "processing_share",
        "fraction",
        "share of both in the end-to-end time",
        "`end_to_end_ms` is empty",
    ),
)
RESOURCES = (
    _integer(
        "memory_model_bytes",
        "bytes",
        "host memory left by loading the model, median over launches",
        "the cell was not measured, or the device does not report memory",
    ),
    _integer(
        "memory_peak_bytes",
        "bytes",
        "worst growth of host memory beyond the imported runtime, or a simulated device's memory",
        "the cell was not measured, or the device does not report memory",
    ),
    _number("power_w", "W", "mean power while running, idle power included", "no meter was read"),
    _number(
        "energy_per_inference_mj",
        "mJ",
        "energy of one input, idle power subtracted",
        "no meter was read, or the energy is below the meter's resolution",
    ),
    _text("energy_source", "the meter, `measured:NAME` or `modelled:NAME`; `none: REASON` where there is no figure"),
)
COUNTS = (
    _integer("cycles", "cycles", "clock cycles of one inference, simulated or estimated", NOT_COUNTED),
    _integer("initiation_interval", "cycles", "cycles between two inputs of a pipeline", NOT_COUNTED),
    _integer("lut", "", "look-up tables of an FPGA", NOT_COUNTED),
    _integer("ff", "", "flip-flops of an FPGA", NOT_COUNTED),
    _integer("dsp", "", "multiplier blocks of an FPGA", NOT_COUNTED),
    _integer("bram", "", "memory blocks of an FPGA", NOT_COUNTED),
    _text(
        "count_sources",
        "where each count comes from: a simulator of the logic, a synthesiser, an estimate or a formula",
        NOT_COUNTED,
    ),
    _integer("instructions", "", "instructions of one inference, counted in an emulator", NOT_COUNTED),
    _integer("memory_accesses", "", "loads and stores of one inference, counted in an emulator", NOT_COUNTED),
)
CSV_COLUMNS = (
    *IDENTITY,
    *COST,
    *QUALITY,
    *LATENCY,
    *SPEEDUP,
    *COLD,
    *SUSTAINED,
    *END_TO_END,
    *RESOURCES,
    *COUNTS,
    _text("digest", "SHA-256 of the deployed file", NOT_COMPILED),
)
"""The columns of cells.csv, in order. A missing figure is an empty field, never 0."""
COLUMN_OF = {column.name: column for column in CSV_COLUMNS}
