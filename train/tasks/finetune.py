"""The in-context task with its encoder trained, too."""

from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, PyTree

from data.feature_samples import SampleBatch
from seggpt.config import InContextConfig
from seggpt.encoder import Embedding, Encoder
from seggpt.in_context.model import InContextModel
from seggpt.weights import save_weights
from seggpt.weights.encoder import load_encoder
from seggpt.weights.keys import Keys
from train.config import TrainConfig
from train.tasks.cached import split_in_context
from train.tasks.in_context import InContextTask, Paint, merge_samples, paint_batch

ENCODER = "encoder.safetensors"


class FinetuneTask(InContextTask):
    """Windows of cached views are encoded anew in every step, as pictures of their own.

    Weights are `model` and `encoder`; each is a file of its own in the end.
    """

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        super().__init__(config, mesh)
        self.depth = self.model.encoder.depth

    def init(self) -> PyTree:
        """Return the first weights, and the encoder's."""
        encoder = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), self.encoder.params)
        return {"model": super().init(), "encoder": encoder}

    def make_painter(self) -> Paint:
        """Return what paints a batch's queries with the encoder as it is in the weights."""
        return encoding_painter(self.model, remat=self.config.remat)

    def save(self, path: Path, params: PyTree, metadata: dict[str, str]) -> None:
        """Write the encoder beside the weights, which name it."""
        target = path.with_name(ENCODER)
        about = {"source": f"{self.encoder_path.stem}, fine-tuned"}
        config = self.model.encoder.to_dict()
        save_weights(target, params["encoder"], config=config, metadata=about)
        own = metadata | {
            "encoder": ENCODER,
            "encoder_sha256": load_encoder(target).sha256,
            "train_sets": ",".join(sorted(self.trained_before.union(self.sets))),
        }
        save_weights(path, params["model"], config=self.model.to_dict(), metadata=own)


def encoding_painter(config: InContextConfig, *, remat: bool) -> Paint:
    """Return what paints a batch's queries, whose views it encodes first."""
    graphdef, _ = split_in_context(config)
    abstract = nnx.eval_shape(lambda: Encoder(config.encoder, rngs=Keys(0)))
    encoder_graphdef, _ = nnx.split(abstract, nnx.Param)

    def encode(params: PyTree, image: Array) -> Embedding:
        return nnx.merge(encoder_graphdef, params)(image)

    def paint(params: PyTree, batch: SampleBatch) -> Array:
        def embed(model: InContextModel, features: ArrayLike, images: ArrayLike) -> Embedding:
            del features
            rgb = (merge_samples(jnp.asarray(images)) + 1) / 2
            found = (jax.checkpoint(encode) if remat else encode)(params["encoder"], rgb)
            return jax.tree.map(lambda a: a.astype(model.mask_token[...].dtype), found)

        return paint_batch(nnx.merge(graphdef, params["model"]), batch, embed)

    return paint
