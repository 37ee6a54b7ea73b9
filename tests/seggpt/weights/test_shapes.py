import pytest

from seggpt.weights.shapes import ShapeError, infer_config, match_shape, spell_shape

LARGE = {"d": 1024, "p": 16, "n": 197, "k": 64, "m": 4096, "v": 111, "w": 55, "c": 64, "t": 4}


def test_letters_are_learnt_in_order_and_then_compared():
    values = {}
    assert match_shape("d 3 p p", shape=(8, 3, 4, 4), values=values)
    assert values == {"d": 8, "p": 4}
    assert not match_shape("3*d d", shape=(24, 9), values=values)
    assert match_shape("p*p*c t*d", shape=(32, 16), values=values)
    assert values == {"d": 8, "p": 4, "c": 2, "t": 2}
    assert spell_shape("p*p*c t*d z", values=values) == "(32, 16, z)"


@pytest.mark.parametrize("shape", [(8, 3, 4), (8, 3, 4, 5), (8, 1, 4, 4), ()])
def test_shapes_that_do_not_fit_are_told(shape):
    assert not match_shape("d 3 p p", shape=shape, values={})


@pytest.mark.parametrize("shape", [(33, 16), (0, 16)])
def test_a_letter_needs_a_whole_number(shape):
    assert not match_shape("p*p*c t*d", shape=shape, values={"p": 4, "d": 8})


def test_the_published_size_gives_the_published_config():
    assert infer_config(LARGE, depth=24, type_tokens=True, published={}) == {
        "image_size": 448,
        "patch_size": 16,
        "width": 1024,
        "depth": 24,
        "heads": 16,
        "mlp_ratio": 4.0,
        "pos_grid": [14, 14],
        "decoder_width": 64,
        "merge_block": 2,
        "taps": [5, 11, 17, 23],
        "attention": "mutual",
        "type_tokens": True,
        "rel_pos": True,
        "activation": "gelu",
    }


@pytest.mark.parametrize(
    ("depth", "merge_block", "taps"),
    [(12, 2, [2, 5, 8, 11]), (8, 1, [1, 3, 5, 7]), (4, 0, [0, 1, 2, 3]), (2, 0, [0, 0, 1, 1])],
)
def test_other_depths_tap_the_ends_of_the_quarters(depth, merge_block, taps):
    config = infer_config(LARGE, depth=depth, type_tokens=True, published={})
    assert (config["merge_block"], config["taps"]) == (merge_block, taps)


def test_a_config_json_decides_what_shapes_do_not_tell():
    published = {"merge_index": 1, "intermediate_hidden_state_indices": [3, 4, 5, 6]}
    config = infer_config(LARGE, depth=7, type_tokens=True, published=published)
    assert (config["merge_block"], config["taps"]) == (1, [3, 4, 5, 6])


def test_without_relative_tables_the_config_json_tells_heads_and_size():
    values = {letter: n for letter, n in LARGE.items() if letter not in "kvw"}
    published = {
        "num_attention_heads": 8,
        "image_size": [512, 256],
        "use_relative_position_embeddings": False,
    }
    config = infer_config(values, depth=4, type_tokens=True, published=published)
    assert (config["heads"], config["image_size"], config["rel_pos"]) == (8, 256, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 198}, "not a square"),
        ({"n": 1}, "not a square"),
        ({"v": 110}, "two stacked"),
        ({"w": 54}, "two stacked"),
        ({"k": 63}, "does not divide into heads"),
    ],
)
def test_shapes_of_no_model_are_refused(changes, message):
    with pytest.raises(ShapeError, match=message):
        infer_config(LARGE | changes, depth=24, type_tokens=True, published={})


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ({"hidden_size": 512}, "hidden_size is 512, but 1024"),
        ({"image_size": [896, 896]}, "image_size"),
        ({"patch_size": [16, 14]}, "patch_size"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', but gelu"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps"),
        ({"qkv_bias": False}, "qkv_bias"),
        ({"merge_index": 6}, "merge_index"),
        ({"merge_index": "2"}, "merge_index"),
        ({"intermediate_hidden_state_indices": [5, 11, 17, 24]}, "4 blocks of 24"),
        ({"intermediate_hidden_state_indices": [5, 11, 17]}, "4 blocks of 24"),
        ({"intermediate_hidden_state_indices": {}}, "4 blocks of 24"),
        ({"hidden_size": {"a": ["x" * 1000]}}, "hidden_size"),
    ],
)
def test_a_config_json_that_contradicts_is_refused(published, message):
    with pytest.raises(ShapeError, match=message) as caught:
        infer_config(LARGE, depth=24, type_tokens=True, published=published)
    assert len(str(caught.value)) < 200


def test_the_config_json_of_the_library_agrees():
    published = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": [896, 448],
        "patch_size": 16,
        "pretrain_image_size": 224,
        "mlp_dim": 4096,
        "decoder_hidden_size": 64,
        "merge_index": 2,
        "beta": 0.01,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "num_channels": 3,
        "use_relative_position_embeddings": True,
        "drop_path_rate": 0.1,
        "intermediate_hidden_state_indices": [5, 11, 17, 23],
    }
    assert infer_config(LARGE, depth=24, type_tokens=True, published=published) == infer_config(
        LARGE, depth=24, type_tokens=True, published={}
    )
