"""Distillation through the loop, interrupted and gone on with, against ModelZoo's trajectories and final weights."""

import numpy as np
import pytest
from tinybert_support import TASKS, Net, build, checkpoint, config, farthest, features, from_modelzoo, golden, initial

from porting.model.recipes import tinybert_mindspore
from porting.train.loop import Plan, train

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TRAJECTORY, WEIGHT = 2e-5, 3e-5  # the project's aims for distillation


class Golden:
    """The golden batches of a phase, in their order."""

    per_epoch = 10

    def __init__(self, phase):
        self.phase, self.inputs = phase, golden("train_inputs")

    def batch(self, epoch, number):
        assert epoch == 0
        return features(TASKS[self.phase], self.inputs, number)


@pytest.mark.parametrize("phase", TASKS)
@pytest.mark.parametrize(
    "framework",
    ["pytorch", pytest.param("mindspore", marks=pytest.mark.slow)],  # which compiles for half a minute
)
def test_distillation_stopped_and_gone_on_with(framework, phase, tmp_path, record_property):
    losses = []
    for steps in (4, 10):
        recipe = tinybert_mindspore(1e-3, steps=12, warmup=2)
        net = Net(framework, config(), build(TASKS[phase], "graph" if framework == "mindspore" else "eager"), recipe)
        net.load(initial(phase))
        plan = Plan(steps, tmp_path, {"phase": phase}, save_every=2)
        train(net.session, Golden(phase), plan, lambda _place, _step, result: losses.append(result.loss))
    assert len(losses) == 10
    off = np.abs(np.array(losses) - golden("trajectory")[f"{phase}/loss"]).max()
    record_property("trajectory", f"{off:.1e}")
    assert off <= TRAJECTORY
    state = golden(f"optimizer_after_{phase}")
    fit = {name: tensor for name, tensor in state.items() if name.startswith("fit_dense")}
    far, name = farthest(net.weights(), from_modelzoo(checkpoint(f"student_after_{phase}")) | fit)
    record_property("weights", f"{far:.1e}")
    assert far <= WEIGHT, name
