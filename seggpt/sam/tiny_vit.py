"""TinyViT, the image encoder of MobileSAM: convolutions first, then attention in windows.

As in mobile_sam/modeling/tiny_vit_sam.py of MobileSAM's authors. Their batch norms are part of the
convolutions before them (`seggpt.weights.sam.family`): weights can be used here, not trained.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from seggpt.vit import Linear, trunc_normal

Stage = tuple[int, int, int, int]  # width, depth, heads, window
Feats = Float[Array, "b h w c"]

EXPANSION = 4  # of the hidden layers of convolutions and MLPs
# torch's default, which their authors leave; the neck has 1e-6.
LayerNorm = partial(nnx.LayerNorm, epsilon=1e-5)
_gelu = partial(jax.nn.gelu, approximate=False)


class TinyViT(nnx.Module):
    """A stem of stride 4, and stages between which the grid is halved, but not before the last."""

    def __init__(self, stages: Sequence[Stage], *, rngs: nnx.Rngs) -> None:
        widths = [width for width, *_ in stages]
        self.stem1 = Conv(3, widths[0] // 2, stride=2, rngs=rngs)
        self.stem2 = Conv(widths[0] // 2, widths[0], stride=2, rngs=rngs)
        self.stages = nnx.List(
            nnx.List(
                Block(width, heads=heads, window=window, rngs=rngs)
                if index
                else ConvBlock(width, rngs=rngs)
                for _ in range(depth)
            )
            for index, (width, depth, heads, window) in enumerate(stages)
        )
        last = len(stages) - 1
        self.merges = nnx.List(
            Merge(widths[index - 1], widths[index], stride=1 if index == last else 2, rngs=rngs)
            for index in range(1, len(stages))
        )

    def __call__(
        self, image: Float[Array, "b h w 3"], *, remat: bool = False
    ) -> Float[Array, "b gh gw d"]:
        """Encode normalised pictures, each by itself."""
        return self.taps(image, remat=remat)[-1]

    def taps(
        self, image: Float[Array, "b h w 3"], *, remat: bool = False
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Return what each stage gives to the next, and the last one's result."""
        feats, found = self.stem2(_gelu(self.stem1(image))), []
        for index, blocks in enumerate(self.stages):
            for block in blocks:
                feats = (jax.checkpoint(block) if remat else block)(feats)
            if index < len(self.merges):
                feats = self.merges[index](feats)
            found.append(feats)
        return tuple(found)


class Conv(nnx.Module):
    """A 3 x 3 convolution with zero padding and a bias; `depthwise` keeps channels apart."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        depthwise: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.stride, self.groups = stride, inputs if depthwise else 1
        shape = (3, 3, inputs // self.groups, outputs)
        self.kernel = nnx.Param(trunc_normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, feats: Feats) -> Float[Array, "b newh neww o"]:
        """Apply the convolution."""
        found = jax.lax.conv_general_dilated(
            feats,
            self.kernel[...].astype(feats.dtype),
            (self.stride, self.stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        return found + self.bias[...].astype(feats.dtype)


class ConvBlock(nnx.Module):
    """Each pixel by itself, then channels by themselves, then pixels again."""

    def __init__(self, width: int, *, rngs: nnx.Rngs) -> None:
        hidden = EXPANSION * width
        self.conv1 = Linear(width, hidden, rngs=rngs)
        self.conv2 = Conv(hidden, hidden, depthwise=True, rngs=rngs)
        self.conv3 = Linear(hidden, width, rngs=rngs)

    def __call__(self, feats: Feats) -> Feats:
        """Add what the three find; unlike elsewhere the sum goes through the activation."""
        hidden = _gelu(self.conv2(_gelu(self.conv1(feats))))
        return _gelu(feats + self.conv3(hidden))


class Merge(nnx.Module):
    """The step to another width, and with a stride of 2 to half the grid."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, rngs: nnx.Rngs) -> None:
        self.conv1 = Linear(inputs, outputs, rngs=rngs)
        self.conv2 = Conv(outputs, outputs, stride=stride, depthwise=True, rngs=rngs)
        self.conv3 = Linear(outputs, outputs, rngs=rngs)

    def __call__(self, feats: Feats) -> Float[Array, "b newh neww o"]:
        """Apply all three."""
        return self.conv3(_gelu(self.conv2(_gelu(self.conv1(feats)))))


class Block(nnx.Module):
    """Attention in windows, a convolution without a residual, and an MLP."""

    def __init__(self, width: int, *, heads: int, window: int, rngs: nnx.Rngs) -> None:
        self.attn = WindowAttention(width, heads=heads, window=window, rngs=rngs)
        self.local = Conv(width, width, depthwise=True, rngs=rngs)
        self.norm = LayerNorm(width, rngs=rngs)
        self.fc1 = Linear(width, EXPANSION * width, rngs=rngs)
        self.fc2 = Linear(EXPANSION * width, width, rngs=rngs)

    def __call__(self, feats: Feats) -> Feats:
        """Apply all three."""
        feats = self.local(feats + self.attn(feats))
        return feats + self.fc2(_gelu(self.fc1(self.norm(feats))))


class WindowAttention(nnx.Module):
    """Attention inside windows, with a bias for how far apart rows and columns are.

    Where windows do not tile the grid, zeros to its right and bottom take part.
    """

    def __init__(self, width: int, *, heads: int, window: int, rngs: nnx.Rngs) -> None:
        self.heads, self.window = heads, window
        self.norm = LayerNorm(width, rngs=rngs)
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.biases = nnx.Param(jnp.zeros((heads, window**2)))

    def __call__(self, feats: Feats) -> Feats:
        """Let the cells of each window see each other."""
        b, h, w, c = feats.shape
        side = self.window
        rows, cols = -(-h // side), -(-w // side)
        whole = jnp.pad(feats, ((0, 0), (0, rows * side - h), (0, cols * side - w), (0, 0)))
        split = whole.reshape(b, rows, side, cols, side, c).swapaxes(2, 3)
        found = self._look(split.reshape(-1, side * side, c))
        found = found.reshape(b, rows, cols, side, side, c).swapaxes(2, 3)
        return found.reshape(b, rows * side, cols * side, c)[:, :h, :w]

    def _look(self, tokens: Float[Array, "windows n c"]) -> Float[Array, "windows n c"]:
        # Each head's query, key and value lie side by side, not all queries first.
        qkv = self.qkv(self.norm(tokens)).reshape(*tokens.shape[:2], self.heads, -1)
        q, k, v = jnp.split(qkv.swapaxes(1, 2), 3, axis=-1)
        scaled = q * (1.0 / np.sqrt(q.shape[-1]))
        logits = jnp.matmul(scaled, k.swapaxes(-1, -2), preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits + self.biases[...][:, _distances(self.window)], axis=-1)
        return self.proj((weights.astype(v.dtype) @ v).swapaxes(1, 2).reshape(tokens.shape))


def _distances(window: int) -> Int[np.ndarray, "n n"]:
    """Return where the table has the bias of two cells: by rows apart, then by columns apart."""
    rows, cols = np.divmod(np.arange(window**2), window)
    apart = [np.abs(axis[:, None] - axis) for axis in (rows, cols)]
    return apart[0] * window + apart[1]
