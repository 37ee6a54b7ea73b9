"""Write `sam/` and `sam.npz` of this folder: transformers' SAM on random weights.

    python -m tests.seggpt.golden.make_sam_golden

Needs torch==2.13.0 and transformers; the tests that read the files need neither.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports] (no dependency of ours)
import transformers  # pyright: ignore[reportMissingImports] (as above)

FOLDER = Path(__file__).parent
SIZE, PATCH = 24, 4  # 6 x 6 patches in windows of 4: they do not tile it
IMAGES, PROMPTS = 2, 2
TABLES = ("iou_token.weight", "mask_tokens.weight", "positional_embedding")
CASES = ("point", "points", "box", "points_box", "points_mask", "box_mask")


def main() -> None:
    """Write the weights, the inputs and what the reference makes of them."""
    reference = make_reference()
    reference.save_pretrained(FOLDER / "sam")
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "image": rng.normal(size=(IMAGES, SIZE, SIZE, 3)).astype(np.float32),
        "points": rng.uniform(0, SIZE, (IMAGES, PROMPTS, 3, 2)).astype(np.float32),
        "labels": rng.integers(0, 2, (IMAGES, PROMPTS, 3)),
        "boxes": rng.uniform(0, SIZE, (IMAGES, PROMPTS, 4)).astype(np.float32),
        "mask": (4 * rng.normal(size=(IMAGES, SIZE, SIZE))).astype(np.float32),
    }
    arrays |= run_reference(reference, arrays)
    np.savez_compressed(FOLDER / "sam.npz", **arrays)


def run_reference(reference: transformers.SamModel, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the picture's embedding, and masks and scores of every case."""
    answers: dict[str, Any] = {}
    with torch.no_grad():
        pixels = torch.tensor(arrays["image"]).permute(0, 3, 1, 2)
        embedding = reference.get_image_embeddings(pixels)
        answers["embedding"] = embedding.permute(0, 2, 3, 1).numpy()
        for case in CASES:
            for multimask in (False, True):
                output = reference(
                    image_embeddings=embedding,
                    multimask_output=multimask,
                    **prompt_of(case, arrays),
                )
                name = f"{case}_{'three' if multimask else 'one'}"
                answers[f"{name}_masks"] = output.pred_masks.numpy()
                answers[f"{name}_scores"] = output.iou_scores.numpy()
    return answers


def prompt_of(case: str, arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the reference's arguments for a case."""
    prompt = {}
    if case.startswith("point"):
        count = 3 if case.startswith("points") else 1
        prompt["input_points"] = torch.tensor(arrays["points"][:, :, :count])
        prompt["input_labels"] = torch.tensor(arrays["labels"][:, :, :count])
    if "box" in case:
        prompt["input_boxes"] = torch.tensor(arrays["boxes"])
    if case.endswith("mask"):
        prompt["input_masks"] = torch.tensor(arrays["mask"][:, None])
    return prompt


def make_reference() -> transformers.SamModel:
    """Build a small model with every weight far from its first value.

    As the library starts them, the vision tower is almost zero and the Fourier matrix is huge: a
    comparison of such models says nothing.
    """
    vision = {
        "hidden_size": 24,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIZE,
        "patch_size": PATCH,
        "window_size": 4,
        "global_attn_indexes": [1],
        "num_pos_feats": 8,
        "mlp_ratio": 2.0,
    }
    prompts = {
        "hidden_size": 16,
        "image_size": SIZE,
        "patch_size": PATCH,
        "mask_input_channels": 16,
    }
    decoder = {
        "hidden_size": 16,
        "mlp_dim": 24,
        "iou_head_hidden_dim": 16,
        "layer_norm_eps": 1e-5,  # the authors' own; the library's is another
    }
    config = transformers.SamConfig(
        vision_config=vision,
        prompt_encoder_config=prompts,
        mask_decoder_config=decoder,
    )
    return shake(transformers.SamModel(config))


def make_published_reference() -> transformers.SamModel:
    """Build the published ViT-B, with random weights."""
    decoder = {"layer_norm_eps": 1e-5}
    return shake(transformers.SamModel(transformers.SamConfig(mask_decoder_config=decoder)))


def shake(reference: transformers.SamModel) -> transformers.SamModel:
    """Give every weight a random value of the size that trained ones have, or more."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            noise = torch.randn_like(parameter)
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * noise)
            elif parameter.ndim == 1 or "rel_pos" in name or "pos_embed" in name:
                parameter.copy_(0.3 * noise)
            elif len(parameter) == 1 or name.endswith(TABLES):
                parameter.copy_(noise)
            else:
                parameter.copy_(1.2 * noise / parameter[0].numel() ** 0.5)
    return reference.eval()


if __name__ == "__main__":
    main()
