"""SAM's relatives behind `Promptable`, everything mode and the command line."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from incontext import AutomaticMaskGenerator, Predictor
from incontext.cli import main
from incontext.device import choose_device
from incontext.prompts.engine import SAMEngine
from incontext.prompts.promptable import Promptable
from seggpt.config import SAMConfig
from seggpt.errors import PromptError
from seggpt.prompts import make_slots
from seggpt.sam.family import make_sam
from seggpt.weights import save_weights

SIDE = 64  # pixels of the models' squares: 4 x 4 patches


def tiny(**changes: Any) -> SAMConfig:
    fields: dict[str, Any] = {"image_size": SIDE, "patch_size": 16, "width": 8, "heads": 2}
    fields |= {"depth": 2, "window_size": 2, "global_blocks": (1,), "prompt_width": 16}
    fields |= {"decoder_heads": 2, "decoder_mlp": 12}
    return SAMConfig(**(fields | changes))


STAGES = ((8, 1, 2, 7), (8, 1, 2, 3), (8, 1, 2, 3), (12, 1, 3, 2))
MOBILE: dict[str, Any] = {"stages": STAGES, "width": 12, "depth": 1, "heads": 3}
MOBILE |= {"window_size": 0, "global_blocks": ()}
CONFIGS: dict[str, Callable[[], SAMConfig]] = {
    "mobile": lambda: tiny(**MOBILE),
    "light_hq": lambda: tiny(decoder="hq", **MOBILE),  # both ways in which an HQ-SAM is special
    "efficient": lambda: tiny(decoder="efficient", pos_side=2, window_size=0, global_blocks=()),
}


def random_model(name: str) -> tuple[SAMConfig, Any]:
    config = CONFIGS[name]()
    abstract = nnx.eval_shape(lambda: make_sam(config, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    shapes = nnx.as_pure(nnx.state(abstract, nnx.Param))
    return config, jax.tree.map(lambda a: (0.5 * rng.normal(size=a.shape)).astype(a.dtype), shapes)


def make_model(name: str) -> Promptable:
    place = choose_device("cpu")
    return Promptable(SAMEngine(*random_model(name), device=place, dtype="float32"))


@pytest.fixture(scope="module")
def hq() -> Promptable:
    return make_model("light_hq")


@pytest.fixture(scope="module")
def efficient() -> Promptable:
    return make_model("efficient")


def picture(height: int = 40, width: int = 60):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def test_everything_mode_finds_what_prompts_find(hq):
    """Only what a picture fills of the square is drawn there, and a patch more."""
    generator = AutomaticMaskGenerator(
        hq,
        points_per_side=1,
        pred_iou_thresh=-100.0,
        stability_score_thresh=0.0,
        box_nms_thresh=1.0,
    )
    image = picture()
    record = generator.generate(image)[0]
    answer = hq.predict(hq.encode(image), points=record["point_coords"])
    assert np.std(answer.low_res) > 0.01
    same = [(mask == record["segmentation"]).mean() for mask in answer.masks()[0]]
    assert max(same) == 1.0


def test_a_predictor_gives_the_embedding_alone(hq):
    predictor = Predictor(hq)
    predictor.set_image(picture())
    assert predictor.get_image_embedding().shape == (1, 16, 4, 4)


def test_half_precision_is_near(hq):
    engine = hq.engine
    params = jax.device_get(engine.params)
    half = Promptable(SAMEngine(engine.config, params, device=engine.device, dtype="bfloat16"))
    one, other = (np.asarray(m.encode(picture()).embedding) for m in (hq, half))
    assert other.dtype == np.float32
    assert np.abs(one - other).max() < 0.1 * np.abs(one).max()


def test_what_is_left_of_the_slots_changes_nothing(efficient):
    state = efficient.encode(picture())
    single = efficient.predict(state, points=[[10.0, 9.0]])
    graphdef, params = efficient.engine.graphdef, efficient.engine.params
    slots = make_slots(state.frame.place(np.array([[[10.0, 9.0]]])), np.array([[1]]), tight=True)
    decode = jax.jit(lambda p, *slots: nnx.merge(graphdef, p).decode(state.embedding, *slots))
    low_res, _ = decode(params, slots.coords, slots.labels)
    assert np.std(low_res) > 0.01
    np.testing.assert_allclose(single.low_res, low_res[:, 1:], atol=1e-4)


def test_a_picture_fills_the_square_of_efficient_sam_alone(hq, efficient):
    for model, inner, y in ((hq, (43, SIDE), 21.5), (efficient, (SIDE, SIDE), 32.0)):
        frame = model.encode(picture()).frame
        assert frame.inner == inner
        placed = frame.place_pixels(np.array([[30.0, 20.0]]))
        np.testing.assert_allclose(placed, [[32.0, y]])


def test_what_efficient_sam_has_not_learned_is_refused(efficient):
    state = efficient.encode(picture())
    with pytest.raises(PromptError, match="no background points"):
        efficient.predict(state, points=[[1.0, 1.0]], labels=[0])
    with pytest.raises(PromptError, match="reads no masks"):
        efficient.predict(state, points=[[1.0, 1.0]], mask=-np.ones((16, 16)))
    with pytest.raises(PromptError, match=r"7 points, .*takes 6; give fewer"):
        efficient.predict(state, points=np.ones((5, 2)), boxes=[1, 1, 9, 9])


def test_the_command_line_takes_a_relative(tmp_path):
    config, params = random_model("mobile")
    save_weights(tmp_path / "mobile.safetensors", params, config=config.to_dict())
    Image.fromarray(picture()).save(tmp_path / "x.png")
    arguments = [str(tmp_path / "x.png"), "--point", "30,20", "-o", str(tmp_path / "out")]
    model = ["--model", str(tmp_path / "mobile.safetensors")]
    assert main(["prompt", *arguments, *model]) == 0
    assert (tmp_path / "out" / "x.png").is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 15}, "is not of width 15"),
        ({"stages": STAGES[1:]}, "3 stages are not those of a patch_size of 16"),
        ({"stages": ((8, 1, 3, 7), *STAGES[1:])}, "are not width, depth, heads and window"),
    ],
)
def test_stages_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CONFIGS["mobile"](), **changes)


def test_hq_heads_need_a_block_without_windows():
    with pytest.raises(ValueError, match="no block without windows"):
        tiny(decoder="hq", global_blocks=())
