"""Prints what LiteRT's benchmark_model prints. Arguments: how to behave (JSON), then its flags."""

import json
import sys
import time
from pathlib import Path

told = json.loads(sys.argv[1])
flags = dict(word[2:].split("=", 1) for word in sys.argv[2:])
size = Path(flags["graph"]).stat().st_size
us = told.get("us", 1000)
if told.get("fast") and size == told["fast"]:
    us //= 2
if "say" in told:
    print(told["say"], file=sys.stderr)
    sys.exit(told.get("code", 0))
if told.get("hang"):
    sys.stdout.write("INFO: STARTING!\n")
    sys.stdout.flush()
    time.sleep(600)
count = told.get("count", 400)
more = f" p5={us - 10} median={us + 1} p95={us + 30}" if told.get("median", True) else ""
delegate = """INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: XNNPACK delegate created.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate."""
delegate = told.get("delegate", delegate if flags["use_xnnpack"] == "true" else "")
runs = f"count={count} first={us + 40} curr={us} min={us - 20} max={us + 50} avg={us + 2:.6g} std={told.get('std', 5)}{more}"
text = f"""INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [{flags["num_runs"]}]
INFO: Num threads: [{flags["num_threads"]}]
INFO: Graph: [{flags["graph"]}]
INFO: Loaded model {flags["graph"]}
{delegate}
INFO: The input model file size (MB): {size / 1e6}
INFO: Initialized session in 8.75ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: {told.get("warm", f"count=2 first={3 * us} curr={us} min={us} max={3 * us} avg={2 * us} std={us}")}

INFO: Running benchmark for at least 1 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: {told.get("runs", runs)}

INFO: Inference timings in us: Init: 8750, First inference: {3 * us}, Warmup (avg): {2 * us}, Inference (avg): {us + 2}
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
"""
if told.get("memory", True):
    text += "INFO: Memory footprint delta from the start of the tool (MB): init=5.25 overall=10.5\n"
print(text, file=sys.stderr)
