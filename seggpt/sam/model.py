"""SAM: image encoder, prompt encoder and mask decoder."""

from typing import ClassVar

from flax import nnx
from jaxtyping import Array, Float, Int

from seggpt.config import HeadsConfig, SAMConfig
from seggpt.prompts import Guidance, MaskDecoder, PromptEncoder
from seggpt.sam.tiny_vit import TinyViT
from seggpt.vit import LayerNorm, Linear, ViT

PIXELS = 4  # of a mask along a patch's side

Embedding = Float[Array, "i gh gw e"]


class Heads(nnx.Module):
    """What answers prompts about an encoded picture.

    `reach` is how many patches beyond a part of the picture `draw` must see to draw the part.
    """

    reach: ClassVar[int] = 0
    parts: ClassVar[tuple[type[PromptEncoder], type[MaskDecoder]]] = (PromptEncoder, MaskDecoder)

    def __init__(self, config: HeadsConfig, *, rngs: nnx.Rngs) -> None:
        prompt_encoder, mask_decoder = self.parts
        self.prompt_encoder = prompt_encoder(config, rngs=rngs)
        self.mask_decoder = mask_decoder(config, rngs=rngs)

    def decode(
        self,
        embedding: Embedding,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
    ) -> tuple[Float[Array, "p 4 h w"], Float[Array, "p 4"]]:
        """Answer each prompt with the logits of four masks and their predicted IoU.

        There is one picture for all prompts, or one for each. `coords` and `labels` are those of
        `PromptEncoder.points`, `mask` that of `PromptEncoder.dense`. The first mask is for a clear
        prompt, the other three for one that may mean several things.
        """
        tokens, image = self.look(embedding, coords, labels, mask=mask)
        _, gh, gw, _ = embedding.shape
        return self.draw(tokens, image, shape=(gh, gw)), self.mask_decoder.scores(tokens)

    def look(
        self,
        embedding: Embedding,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
        guidance: Guidance | None = None,
    ) -> tuple[Float[Array, "p t d"], Float[Array, "p n f"]]:
        """Do the part of `decode` that masks and scores are then made of, each by itself."""
        _, gh, gw, _ = embedding.shape
        prompt, present = self.prompt_encoder.points(coords, labels)
        image = embedding.reshape(-1, gh * gw, embedding.shape[-1])
        image = image + self.prompt_encoder.dense(mask)
        places = self.prompt_encoder.grid((gh, gw), patch=self.prompt_encoder.side // gh)
        return self.mask_decoder.look(
            image, prompt, image_places=places, present=present, guidance=guidance
        )

    def draw(
        self,
        tokens: Float[Array, "p t d"],
        image: Float[Array, "#p n e"],
        *,
        shape: tuple[int, int],
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks of what `look` found, or of a part of its patches."""
        return self.mask_decoder.masks(tokens, image, shape=shape)


class SAM(Heads):
    """A ViT with a neck, and heads; the published SAM and MobileSAM are presets.

    Pictures are normalised RGB (`canvas.normalize`), `image_size` pixels square; what does not
    fill the square has zeros to its right and below (`seggpt.frame`).
    """

    encoder: ClassVar[tuple[str, ...]] = ("vit", "neck")  # the parts that `encode` reads

    def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        stages = config.stages
        self.vit = TinyViT(stages, rngs=rngs) if stages else ViT(config.vit, rngs=rngs)
        self.neck = Neck(config.width, config.prompt_width, rngs=rngs)
        super().__init__(config, rngs=rngs)

    def encode(self, image: Float[Array, "i h w 3"], *, remat: bool = False) -> Embedding:
        """Encode pictures, once for any number of prompts."""
        return self.neck(self.vit(image, remat=remat))


class Neck(nnx.Module):
    """Two convolutions that bring a ViT's width to the heads'."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs) -> None:
        self.conv1 = Linear(inputs, width, use_bias=False, rngs=rngs)
        self.norm1 = LayerNorm(width, rngs=rngs)
        self.conv2 = nnx.Conv(width, width, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        self.norm2 = LayerNorm(width, rngs=rngs)

    def __call__(self, feats: Float[Array, "i gh gw c"]) -> Embedding:
        """Apply both layers, each with its norm."""
        return self.norm2(self.conv2(self.norm1(self.conv1(feats))))
