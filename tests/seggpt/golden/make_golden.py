"""Write the files of this folder: transformers' SegGPT on random weights, stage by stage.

    python -m tests.seggpt.golden.make_golden

Needs torch==2.13.0 and transformers; the tests that read the files need neither.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports] (no dependency of ours)
import transformers  # pyright: ignore[reportMissingImports] (as above)

FOLDER = Path(__file__).parent
SIZE = 16
PATCH = 4
WIDE = (20, 28)  # height and width of a picture that the model was not made for


def main() -> None:
    """Write the weights, the inputs and what the reference makes of them."""
    reference = make_reference()
    reference.save_pretrained(FOLDER / "seggpt")
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: rng.normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
        for name in ("query", "example", "target", "answer")
    }
    masked = rng.random((2, 2 * (SIZE // PATCH) ** 2)) < 0.5
    inputs = {
        "pixel_values": channels_first(arrays["query"]),
        "prompt_pixel_values": channels_first(arrays["example"]),
        "prompt_masks": channels_first(arrays["target"]),
        "labels": channels_first(arrays["answer"]),
    }
    with torch.no_grad():
        plain = {name: value for name, value in inputs.items() if name != "labels"}
        for kind in ("semantic", "instance"):
            output = reference(**plain, embedding_type=kind, output_hidden_states=True)
            arrays[f"{kind}_painted"] = channels_last(output.pred_masks[:, :, SIZE:])
        for index, hidden in enumerate(output.hidden_states):
            arrays[f"instance_block_{index}"] = hidden.flatten(1, 2).numpy()
        output = reference(
            **inputs, embedding_type="semantic", bool_masked_pos=torch.tensor(masked)
        )
    arrays |= {
        "masked": masked,
        "masked_painted": channels_last(output.pred_masks),
        "masked_loss": output.loss.numpy(),
    }
    arrays |= paint_wide(reference, rng)
    np.savez_compressed(FOLDER / "seggpt.npz", **arrays)


def paint_wide(
    reference: transformers.SegGptForImageSegmentation, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Paint pictures that are larger than the tables of positions, and not square."""
    names = ("wide_query", "wide_example", "wide_target")
    arrays = {name: rng.normal(size=(1, *WIDE, 3)).astype(np.float32) for name in names}
    patches = reference.model.embeddings.patch_embeddings
    before, patches.image_size = patches.image_size, (2 * WIDE[0], WIDE[1])
    with torch.no_grad():
        half = (WIDE[0] // PATCH) * (WIDE[1] // PATCH)
        painted = reference(
            *map(channels_first, arrays.values()),
            bool_masked_pos=torch.arange(2 * half)[None] >= half,
            embedding_type="instance",
        )
    patches.image_size = before
    return arrays | {"wide_painted": channels_last(painted.pred_masks[:, :, WIDE[0] :])}


def make_reference() -> transformers.SegGptForImageSegmentation:
    """Build a small model with every weight away from its special first value."""
    config = transformers.SegGptConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=[2 * SIZE, SIZE],
        patch_size=PATCH,
        pretrain_image_size=8,
        mlp_dim=32,
        decoder_hidden_size=4,
        merge_index=0,
        intermediate_hidden_state_indices=[0, 1, 2],
    )
    torch.manual_seed(0)
    reference = transformers.SegGptForImageSegmentation(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return reference


def channels_first(array: np.ndarray) -> torch.Tensor:
    """Turn (b, h, w, c) into torch's (b, c, h, w)."""
    return torch.tensor(array).permute(0, 3, 1, 2)


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    """Turn (b, c, h, w) into (b, h, w, c)."""
    return tensor.permute(0, 2, 3, 1).numpy()


if __name__ == "__main__":
    main()
