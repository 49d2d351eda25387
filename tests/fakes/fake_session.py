"""A session whose model is a JSON file: {"gain": 2.0, "behave": "...", "noise": 0.0, "boxes": 2}; what it does wrong is asked for."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from bench.device.session import Session, SessionFacts
from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.records import LayerTime
from bench.types import FLOAT32, Clock, TensorSpec


class FakeSession(Session):
    clock = Clock.HOST
    opened = 0

    def __init__(self, told, batch):
        self.told = told
        self.batch = batch
        self.random = np.random.default_rng()

    @classmethod
    def open(cls, path: Path, *, threads, batch, options, precision=FLOAT32):
        told = json.loads(path.read_text())
        behave = told.get("behave", "")
        if behave == "hang":
            Path(told["pidfile"]).write_text(str(os.getpid()))
            time.sleep(600)
        if behave == "hang with a child":
            if os.fork() == 0:
                Path(told["pidfile"]).write_text(str(os.getpid()))
                time.sleep(600)
            time.sleep(600)
        if behave == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if behave == "crash":
            raise RuntimeError("the runtime broke")
        cls.opened += 1
        if behave == "alone" and cls.opened > 1:
            raise RuntimeError("no room for two")
        if behave == "print":
            print("a runtime's chatter")
            sys.stdout.flush()
            os.write(1, b"chatter below Python\n")
        errors = {"unsupported": Unsupported, "unavailable": Unavailable, "invalid": InvalidInput}
        if behave in errors:
            raise errors[behave](f"this file is {behave}")
        return cls(told, batch)

    def inputs(self):
        return (TensorSpec(name="x", shape=(self.batch, 4)),)

    def run(self, feed):
        if self.told.get("behave") == "nan":
            return (np.full((self.batch, 3), np.nan, np.float32),)
        x = feed["x"] * self.told["gain"]
        scores = np.stack([x.sum(axis=1), x[:, 0], x[:, 1]], axis=1).astype(np.float32)
        scores += self.random.normal(0, self.told.get("noise", 0), scores.shape).astype(np.float32)
        if "boxes" not in self.told:
            return (scores,)
        length = self.told["boxes"] + int(8 * feed["x"][0, 0])  # as many as the input has
        return scores, np.full((length, 4), x[0, 0], np.float32)

    def outputs(self):
        return ("scores", "boxes") if "boxes" in self.told else ("scores",)

    def bind(self, feed):
        busy = self.told.get("busy", 2000)
        ballast = np.ones(self.told.get("ballast_bytes", 8) // 8)

        if self.told.get("behave") == "never steady":
            lasts = iter(0.16 - 0.012 * number for number in range(12))  # steps a busy machine does not hide
            return lambda: time.sleep(next(lasts, 0.002))

        def one():
            total = float(ballast[0])
            for index in range(busy):
                total += index
            return total

        return one

    def facts(self):
        return SessionFacts(version="fake 1", fallbacks=tuple(self.told.get("fallbacks", ())))

    def profile(self, feed, runs):
        if self.told.get("behave") == "no profile":
            raise Unavailable("the profiler is missing")
        if self.told.get("behave") == "profile too large":
            raise MemoryError
        return (LayerTime(name="only", operator="Fake", mean_us=1.0, runs=runs),)

    def close(self):
        self.told = {}


class FakeDeviceSession(FakeSession):
    """One whose own clock says 30 ns for each unit of work, on every machine."""

    clock = Clock.DEVICE

    def device_ns(self):
        return 30 * self.told["busy"]
