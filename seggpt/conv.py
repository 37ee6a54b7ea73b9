"""A 3 x 3 convolution whose gradient is quick on a CPU, too."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class Conv3x3(nnx.Module):
    """A convolution with zero padding and a bias; `stride` 2 halves the grid, rounded up."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, rngs: nnx.Rngs) -> None:
        self.stride = stride
        init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.kernel = nnx.Param(init(rngs.params(), (3, 3, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, feats: Float[Array, "b h w c"]) -> Float[Array, "b newh neww o"]:
        """Apply the convolution."""
        run = conv3x3 if self.stride == 1 else partial(_conv, stride=self.stride)
        return run(feats, self.kernel[...].astype(feats.dtype)) + self.bias[...].astype(feats.dtype)


def _conv(
    feats: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"], stride: int
) -> Float[Array, "b newh neww o"]:
    return jax.lax.conv_general_dilated(
        feats,
        kernel,
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.custom_vjp
def conv3x3(
    feats: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]
) -> Float[Array, "b h w o"]:
    """Convolve with zero padding at stride 1.

    On XLA's CPU backend the kernel's own gradient is a convolution with a window as large as the
    image, four times slower than the matrix products below (jax 0.10.2, 112 x 112 x 96).
    """
    return _conv(feats, kernel, 1)


def _forward(
    feats: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c o"]
) -> tuple[Array, tuple[Array, Array]]:
    return _conv(feats, kernel, 1), (feats, kernel)


def _backward(saved: tuple[Array, Array], grads: Float[Array, "b h w o"]) -> tuple[Array, Array]:
    feats, kernel = saved
    of_feats = _conv(grads, kernel[::-1, ::-1].swapaxes(2, 3), 1)
    of_kernel = jax.lax.platform_dependent(
        feats, grads, cpu=_kernel_gradient, default=_native_kernel_gradient
    )
    return of_feats, of_kernel


def _kernel_gradient(
    feats: Float[Array, "b h w c"], grads: Float[Array, "b h w o"]
) -> Float[Array, "3 3 c o"]:
    """Add up one matrix product an image: its features against the nine shifts of the gradient."""
    _, h, w, c = feats.shape
    o = grads.shape[-1]
    padded = jnp.pad(grads, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def one(total: Array, image: tuple[Array, Array]) -> tuple[Array, None]:
        feat, grad = image
        shifts = [grad[2 - y : 2 - y + h, 2 - x : 2 - x + w] for y in range(3) for x in range(3)]
        columns = jnp.concatenate(shifts, axis=-1).reshape(h * w, 9 * o)
        return total + feat.reshape(h * w, c).T @ columns, None

    total, _ = jax.lax.scan(one, jnp.zeros((c, 9 * o), grads.dtype), (feats, padded))
    return total.reshape(c, 3, 3, o).transpose(1, 2, 0, 3)


def _native_kernel_gradient(
    feats: Float[Array, "b h w c"], grads: Float[Array, "b h w o"]
) -> Float[Array, "3 3 c o"]:
    shape = jax.ShapeDtypeStruct((3, 3, feats.shape[-1], grads.shape[-1]), feats.dtype)
    return jax.linear_transpose(lambda kernel: _conv(feats, kernel, 1), shape)(grads)[0]


conv3x3.defvjp(_forward, _backward)
