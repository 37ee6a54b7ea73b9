"""Attention within one image: global, or in windows."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from seggpt.attention import Heads, Loop, RelativePosition, looped, picture_grid, self_attention

# Logits of a window: from here on one window at a time takes 0.6 times as long on a CPU.
_LARGE = 1 << 18


def picture_attention(
    q: Heads, k: Heads, v: Heads, position: RelativePosition, *, shape: tuple[int, int]
) -> Heads:
    """Let every patch of a picture of `shape` (height, width) in patches see every other."""
    return self_attention(q, k, v, position, picture_grid(*shape))


def window_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    position: RelativePosition,
    *,
    shape: tuple[int, int],
    window: int,
    padding: Float[Array, "3 heads hd"],
) -> Heads:
    """Let the patches of each window see each other.

    Where windows do not tile the grid it grows to the right and the bottom by patches with
    `padding` for query, key and value. They take part as all others do: SAM was trained so
    (image_encoder.py of its authors, `window_partition`).
    """
    gh, gw = shape
    rows, cols = -(-gh // window), -(-gw // window)

    def cut(heads: Heads, fill: Float[Array, "heads hd"]) -> Float[Array, "windows s heads hd"]:
        lattice = heads.reshape(-1, gh, gw, *heads.shape[2:])
        if (gh, gw) != (rows * window, cols * window):
            whole = (len(heads), rows * window, cols * window, *heads.shape[2:])
            lattice = jnp.broadcast_to(fill, whole).at[:, :gh, :gw].set(lattice)
        split = lattice.reshape(-1, rows, window, cols, window, *heads.shape[2:])
        return split.swapaxes(2, 3).reshape(-1, window * window, *heads.shape[2:])

    grid = picture_grid(window, window)

    def run(loop: Loop, windows: tuple[Array, Array, Array]) -> Array:
        def look(heads: tuple[Array, Array, Array]) -> Array:
            """Attend in one window."""
            q, k, v = (a[None] for a in heads)
            return self_attention(q, k, v, position, grid)[0]

        return loop(look, windows)

    windows = tuple(cut(heads, fill) for heads, fill in zip((q, k, v), padding, strict=True))
    out = looped(run, q.shape[2] * window**4, windows, large=_LARGE)
    split = out.reshape(-1, rows, cols, window, window, *q.shape[2:])
    lattice = split.swapaxes(2, 3).reshape(-1, rows * window, cols * window, *q.shape[2:])
    return lattice[:, :gh, :gw].reshape(q.shape)
