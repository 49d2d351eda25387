"""The timing loop against a clock that the test turns."""

from __future__ import annotations

import gc
import os
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.device.job import Job, Limits, MeterChoice, Subject
from bench.device.timing import RunQueue, collect, drop_preempted, measure, median_width, repeat, warm_up
from bench.device.worker import send_timed
from bench.errors import InvalidInput
from bench.types import Clock as Whose
from bench.types import Precision


class Clock:
    """Counts nanoseconds only when something takes time."""

    def __init__(self):
        self.ns = 0

    def __call__(self):
        return self.ns


class Work:
    """Takes the next of its durations, the last for ever."""

    def __init__(self, clock, durations):
        self.clock, self.durations, self.calls = clock, list(durations), 0

    def __call__(self):
        self.clock.ns += self.durations[min(self.calls, len(self.durations) - 1)]
        self.calls += 1


@pytest.fixture
def no_queue(tmp_path):
    return RunQueue(tmp_path)


def test_every_call_is_one_sample_in_the_order_asked_for(no_queue):
    clock = Clock()
    a, b = Work(clock, [100]), Work(clock, [300])
    samples = collect([a, b, b, a], 3, no_queue, now=clock)
    assert samples.elapsed_ns.tolist() == [[100, 300, 300, 100]] * 3
    assert samples.waits_ns.shape == (3, 0)


def test_the_device_clock_is_read_after_each_call(no_queue):
    clock = Clock()
    samples = collect([Work(clock, [5])], 4, no_queue, device=[lambda: 7], now=clock)
    assert samples.device_ns.tolist() == [[7]] * 4


@pytest.fixture
def kernel(tmp_path):
    """A queue whose kernel says what the test writes: `kernel.wait(ns)` makes the thread wait."""

    class Kernel:
        waited = 0
        path = tmp_path / "proc/thread-self/schedstat"

        def wait(self, ns):
            self.waited += ns
            self.path.write_text(f"{self.waited * 3} {self.waited} 17\n")

    told = Kernel()
    told.path.parent.mkdir(parents=True)
    told.wait(1_000)
    told.queue = RunQueue(tmp_path)
    return told


def test_what_a_sample_waited_is_its_own_and_no_others_in_any_order_of_subjects(kernel):
    clock = Clock()
    waits = iter([0, 0, 70_000, 0, 5, 0, 0, 90_000])

    def run():
        kernel.wait(next(waits))

    kernel.wait(1_000_000)  # before the first sample: nobody's
    samples = collect([run, run, run, run], 2, kernel.queue, now=clock)
    assert samples.waits_ns.tolist() == [[0, 0, 70_000, 0], [5, 0, 0, 90_000]]


def test_the_wait_is_read_once_between_two_samples(kernel, monkeypatch):
    reads = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *at: reads.append(at) or pread(*at))
    collect([lambda: None, lambda: None], 10, kernel.queue)
    assert len(reads) == 21


def test_warm_up_goes_on_while_runs_get_faster(no_queue):
    clock = Clock()
    work = Work(clock, [1000 - 20 * n for n in range(40)] + [200])
    rounds, steady = warm_up([work], no_queue, 1.0, now=clock)
    assert steady
    assert rounds >= 40


def test_warm_up_that_never_settles_says_so(no_queue):
    clock = Clock()
    work = Work(clock, [int(1e9 * 0.9**n) for n in range(200)])
    rounds, steady = warm_up([work], no_queue, 5.0, now=clock)
    assert not steady
    assert rounds > 0


@pytest.mark.parametrize("milliseconds", [1, 31, 200, 3000])
def test_an_inference_of_any_length_becomes_steady_without_minutes_of_warm_up(no_queue, milliseconds):
    clock = Clock()
    slow_start = Work(clock, [4 * milliseconds * 1_000_000, milliseconds * 1_000_000])
    rounds, steady = warm_up([slow_start], no_queue, 0.5, now=clock)
    assert steady
    assert rounds == slow_start.calls
    assert clock.ns <= max(0.5e9, 8 * milliseconds * 1e6)


def test_noise_alone_becomes_steady_however_slow(no_queue):
    clock, random = Clock(), np.random.default_rng(3)
    work = Work(clock, (2e8 * np.exp(random.normal(0, 0.1, 3000))).astype(int).tolist())
    found = [warm_up([work], no_queue, 0.5, now=clock)[1] for _ in range(200)]
    assert sum(found) >= 190


def test_a_quiet_inference_converges_and_a_wild_one_meets_the_time_limit(no_queue):
    clock = Clock()
    quiet = measure(Work(clock, [1000]), no_queue, Limits(), now=clock)
    assert quiet.stopped == "converged"
    assert len(quiet.samples.elapsed_ns) == Limits().min_samples
    wild = np.random.default_rng(0).integers(1_000_000, 90_000_000, 5000).tolist()
    loud = measure(Work(clock, wild), no_queue, Limits(time_s=1.0, width=0.001), now=clock)
    assert loud.stopped == "time limit"


@pytest.mark.parametrize(("seconds", "most_s"), [(0.04, 3.75), (0.3, 3.75), (1, 4), (7, 7)])
def test_a_slow_inference_keeps_the_time_that_a_launch_has(no_queue, seconds, most_s):
    clock = Clock()
    work = Work(clock, [int(seconds * 1e9)])
    timed = measure(work, no_queue, Limits(time_s=3.0, warmup_s=0.5), now=clock)
    assert timed.stopped == "time limit"
    assert len(timed.samples.elapsed_ns) == work.calls - timed.warmup
    assert 3.0 <= len(timed.samples.elapsed_ns) * seconds <= most_s


def test_the_fifth_chunk_of_samples_ends_where_it_began_in_time(no_queue):
    clock = Clock()
    timed = measure(Work(clock, [31_000_000]), no_queue, Limits(time_s=3.0), now=clock)
    assert (timed.stopped, len(timed.samples.elapsed_ns)) == ("converged", 120)


def test_the_profile_of_a_slow_inference_gets_as_many_runs_as_fit_in_time(tmp_path):
    said: list[object] = []
    session = SimpleNamespace(clock=Whose.HOST, bind=lambda _: partial(time.sleep, 0.04))
    job = Job(task="measure", session="a:B", subjects=(), limits=Limits(time_s=0.1, warmup_s=0.0))
    assert send_timed(job, SimpleNamespace(send=said.append), session, {}, tmp_path) in (1, 2)
    (timed,) = said
    assert 2 <= len(timed.samples_ns) <= 4


def test_no_sample_is_dropped_between_the_chunks(no_queue):
    clock = Clock()
    durations = np.random.default_rng(1).integers(1, 1000, 3000).tolist()
    work = Work(clock, durations)
    timed = measure(work, no_queue, Limits(max_samples=777, width=0.0), now=clock)
    assert timed.stopped == "sample limit"
    assert timed.samples.elapsed_ns.ravel().tolist() == durations[timed.warmup : timed.warmup + 777]


def test_preempted_samples_do_not_count():
    elapsed = np.array([10, 11, 900])
    assert drop_preempted(elapsed, np.array([0, 20_000, 20_001])).tolist() == [10, 11]
    assert drop_preempted(elapsed, np.array([], dtype=np.int64)).tolist() == [10, 11, 900]


def test_the_width_of_too_few_samples_is_unknown_and_of_equal_ones_zero():
    assert median_width(np.array([5, 5])) == float("inf")
    assert median_width(np.full(100, 5)) == 0.0


def test_the_interval_of_the_median_holds_it_95_times_in_100():
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        samples = np.sort((generator.exponential(size=101) * 1e6).astype(np.int64))
        reach = int(np.ceil(0.98 * np.sqrt(101)))
        held += samples[50 - reach] <= np.log(2) * 1e6 <= samples[50 + reach]
    assert 370 <= held <= 396


def test_the_kernel_says_how_long_this_thread_waited():
    queue = RunQueue(Path("/"))
    if not queue.known:
        pytest.skip("this kernel has no /proc/thread-self/schedstat")
    before = queue.waited()
    for _ in range(50):
        os.sched_yield()
    assert queue.waited() >= before
    queue.close()


def test_repeating_runs_as_often_as_said():
    calls = []
    repeat(lambda: calls.append(1), 5)()
    assert len(calls) == 5


def test_timing_leaves_the_garbage_collector_alone(no_queue):
    assert gc.isenabled()
    collect([lambda: None], 2, no_queue)
    assert gc.isenabled()


def test_a_job_reads_back_equal_and_anything_else_is_refused():
    precision = Precision(asked="int8", keep_float=("/fc1/MatMul", "a,b"), stayed_float=("head",))
    subject = Subject(path="p", digest="d", options={"x": 1}, precision=precision)
    job = Job(task="measure", session="a:B", subjects=(subject,), meters=(MeterChoice(path="m:M", options={"x": 1}),))
    assert Job.from_json(job.to_json()) == job
    for text in ("", "[]", "{}", '{"task": 1}'):
        with pytest.raises(InvalidInput):
            Job.from_json(text)
