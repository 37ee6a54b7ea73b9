"""The published size: ViT-L against transformers, from both files that people have.

    python -m pytest -m slow tests/seggpt/test_parity_large.py

Needs torch and transformers, 12 GB of memory, 5 GB of disk and some minutes.
"""

from pathlib import Path

import numpy as np
import pytest

from seggpt.model import INSTANCE

SIZE = 448
pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.fixture(scope="module")
def reference():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.SegGptForImageSegmentation(transformers.SegGptConfig()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Away from the special first values, yet of the scale that training leaves.
            parameter.add_(0.02 * torch.randn_like(parameter))
            if "rel_pos" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("dialect", ["huggingface", "authors"])
def test_the_published_size_equals_the_reference(tmp_path: Path, reference, dialect) -> None:
    torch = pytest.importorskip("torch")
    from tests.seggpt.golden.make_golden import channels_first, channels_last
    from tests.seggpt.test_parity import load_model, paint
    from tests.seggpt.weights.test_published_torch import authors_name

    if dialect == "huggingface":
        path = tmp_path
        reference.save_pretrained(path, max_shard_size="500MB")
    else:
        path = tmp_path / "seggpt_vit_large.pth"
        state = {authors_name(name): array for name, array in reference.state_dict().items()}
        torch.save({"model": state}, path)
    rng = np.random.default_rng(0)
    names = ("query", "example", "target")
    arrays = {name: rng.normal(size=(1, SIZE, SIZE, 3)).astype(np.float32) for name in names}
    with torch.no_grad():
        wanted = reference(*map(channels_first, arrays.values()), embedding_type="instance")
    want = channels_last(wanted.pred_masks)[:, SIZE:]
    assert np.std(want) > 0.1
    np.testing.assert_allclose(paint(load_model(path), arrays, INSTANCE), want, atol=1e-4)
