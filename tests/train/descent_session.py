"""A session in numpy, small and exact: what the loop and its states need of one, and no framework."""

from __future__ import annotations

import numpy as np

from porting.backends import feed
from porting.backends.protocol import Counters, StepResult


class Descent:
    """Moves one weight towards the batch's mean, by momentum; the rate follows the number of updates."""

    def __init__(self, size=3):
        self.w, self.m, self.v = (np.full(size, value, np.float32) for value in (1, 0, 0))
        self.now = Counters()

    def weights(self):
        return {"w": self.w.copy()}

    def slots(self):
        return {"m": {"w": self.m.copy()}, "v": {"w": self.v.copy()}}

    def counters(self):
        return self.now

    def load(self, tensors):
        self.w = dict(feed.accepted("descent", {"w": self.w.shape}, tensors))["w"].copy()

    def resume(self, counters, slots):
        found = feed.accepted_moments("descent", {"w": self.w.shape}, slots)
        (self.m,), (self.v,) = ([part.copy() for part in found[role]] for role in ("m", "v"))
        self.now = counters

    def step(self, batch):
        gap = self.w - np.float32(batch["x"].mean())
        self.m = np.float32(0.9) * self.m + gap
        self.v = np.float32(0.99) * self.v + gap * gap
        self.w = self.w - np.float32(0.1 / (1 + self.now.updates)) * self.m
        self.now = Counters(self.now.steps + 1, self.now.updates + 1, 2.0, self.now.good + 1)
        return StepResult(float(gap @ gap), 0.1 / self.now.updates, float(abs(gap).sum()))
