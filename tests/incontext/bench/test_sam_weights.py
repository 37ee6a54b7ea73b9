import dataclasses

import numpy as np
import pytest

from incontext.bench.sam_weights import draw_state, to_params
from incontext.device import choose_device
from incontext.prompts.engine import SAMEngine
from incontext.prompts.promptable import Promptable
from seggpt.config import SAMConfig

TINY = dataclasses.replace(
    SAMConfig.sam_base(),
    image_size=64,
    width=32,
    depth=2,
    heads=2,
    window_size=3,
    global_blocks=(1,),
    prompt_width=32,
    decoder_heads=2,
    decoder_mlp=16,
)


def make_model(state):
    place = choose_device("cpu")
    return Promptable(SAMEngine(TINY, to_params(state, TINY), device=place, dtype="float32"))


def test_they_fill_a_model_and_its_masks_are_blobs():
    model = make_model(draw_state(TINY))
    state = model.encode(np.full((48, 64, 3), 99, np.uint8))
    masks = model.predict(state, points=[[20, 30]]).masks()[0]
    assert masks.shape == (3, 48, 64)
    for mask in masks:
        borders = (mask[:, 1:] != mask[:, :-1]).sum()
        assert borders < 0.1 * mask.size


def test_they_are_the_same_every_time():
    first, second = draw_state(TINY), draw_state(TINY)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)


def test_a_peer_takes_them_and_finds_the_same():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.SamConfig(
        vision_config={
            "image_size": 64,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "window_size": 3,
            "global_attn_indexes": [1],
            "mlp_dim": 128,
            "output_channels": 32,
            "num_pos_feats": 16,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64},
        mask_decoder_config={
            "hidden_size": 32,
            "num_attention_heads": 2,
            "mlp_dim": 16,
            "iou_head_hidden_dim": 32,
        },
    )
    peer = transformers.SamModel(config).eval()
    state = draw_state(TINY)
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    model = make_model(state)
    encoded = model.encode(np.full((64, 64, 3), 99, np.uint8))
    embedding = torch.from_numpy(np.asarray(encoded.embedding).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        theirs = peer(image_embeddings=embedding, input_points=torch.tensor([[[[20.0, 30.0]]]]))
    ours = model.predict(encoded, points=[[20, 30]])
    np.testing.assert_allclose(ours.low_res[0], theirs.pred_masks[0, 0], atol=1e-3)
