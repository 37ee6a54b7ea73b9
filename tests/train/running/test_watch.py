from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from PIL import Image

from tests.train.tiny import tiny_config, tiny_model
from train.running.watch import WEIGHTS, Watch
from train.state import TrainState
from train.tasks import Task

CONFIG = replace(
    tiny_config(tiny_model("mutual")), steps=4, eval_every=1, log_every=1, release="best"
)


class Scored(Task):
    """Weights are their own score."""

    @property
    def sets(self):
        return ["a"]

    @property
    def depth(self):
        return 0

    def __init__(self):
        self.saved = []

    def evaluate(self, params):
        return params and ({"iou": params["w"]}, lambda: Image.new("RGB", (2, 2)))

    def save(self, path, params, metadata):
        assert path.name == WEIGHTS
        self.saved.append((params["w"], metadata["step"]))


def watch_all(watch, scores, *, start=0):
    for step, score in enumerate(scores, start=start):
        state = TrainState(step, None, score and {"w": np.float64(score)}, None)
        if step == 0:
            watch.before(step, state)
        else:
            watch.after(step, state, {"loss": jnp.ones(()), "grad_norm": jnp.ones(())}, {})


def test_the_weights_that_did_best_are_released(tmp_path):
    task = Scored()  # pyright: ignore[reportAbstractUsage]
    watch = Watch(CONFIG, task, out=tmp_path, saved={})
    watch_all(watch, [0.3, 0.2, 0.5, 0.4])
    assert task.saved == [(0.3, "0"), (0.5, "2")]
    assert watch.keeps_best
    again = Watch(CONFIG, task, out=tmp_path, saved=watch.get_state())
    watch_all(again, [0.45], start=4)
    assert len(task.saved) == 2
    assert (again.best, again.best_step) == (0.5, 2)


def test_a_run_that_starts_from_anothers_checkpoint_releases_its_own(tmp_path):
    task = Scored()  # pyright: ignore[reportAbstractUsage]
    saved = {"skipped": 1, "best": 0.5, "best_step": 2}
    watch = Watch(CONFIG, task, out=tmp_path, saved=saved, is_own=False)
    watch.before(3, TrainState(3, None, {"w": np.float64(0.4)}, None))
    assert task.saved == [(0.4, "3")]
    assert (watch.skipped, watch.best, watch.best_step) == (1, 0.4, 3)


def test_without_held_out_samples_or_unasked_nothing_is_kept(tmp_path):
    for config, scores in ((CONFIG, [None, None]), (replace(CONFIG, release="last"), [0.3, 0.5])):
        task = Scored()  # pyright: ignore[reportAbstractUsage]
        watch = Watch(config, task, out=tmp_path, saved={})
        watch_all(watch, scores)
        assert not watch.keeps_best
        assert not task.saved
