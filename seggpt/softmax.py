"""The two matrix products of attention around its softmax, with gradients that are quick on a CPU.

The gradients of keys and values are products of a transposed (n, m) matrix and an (n, d) one. XLA's
CPU backend takes three times as long to write such a product as (m, d) than as (d, m), and would
fold the transposition that follows back into the product: hence the barrier (jax 0.10.2, 256
queries and keys of 32 features).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Saved = tuple[Array, ...]  # what the gradient needs


@jax.custom_vjp
def dot_products(q: Float[Array, "n d"], k: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Return q k^T in float32."""
    return _product(q, k.T)


def _dot_products(q: Array, k: Array) -> tuple[Array, Saved]:
    return _product(q, k.T), (q, k)


def _dot_products_gradient(saved: Saved, grads: Float[Array, "n m"]) -> tuple[Array, Array]:
    q, k = saved
    rounded = grads.astype(q.dtype)
    return rounded @ k, _transposed_product(q, rounded)


dot_products.defvjp(_dot_products, _dot_products_gradient)


@jax.custom_vjp
def softmax_mean(logits: Float[Array, "n m"], v: Float[Array, "m d"]) -> Float[Array, "n d"]:
    """Return softmax(logits) v, in the type of v; the sum is divided by after the product."""
    return _softmax_mean(logits, v)[0]


def _softmax_mean(logits: Array, v: Array) -> tuple[Array, Saved]:
    exps = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    inverse = 1 / exps.sum(axis=-1, keepdims=True)
    mean = (_product(exps.astype(v.dtype), v) * inverse).astype(v.dtype)
    return mean, (exps, inverse, v, mean)


def _softmax_mean_gradient(saved: Saved, grads: Float[Array, "n d"]) -> tuple[Array, Array]:
    exps, inverse, v, mean = saved
    scaled = grads.astype(jnp.float32) * inverse
    along = (scaled * mean).sum(axis=-1, keepdims=True)
    scaled = scaled.astype(v.dtype)
    of_logits = exps * (_product(scaled, v.T) - along)
    return of_logits, _transposed_product(scaled, exps.astype(v.dtype))


softmax_mean.defvjp(_softmax_mean, _softmax_mean_gradient)


def _product(a: Float[Array, "n k"], b: Float[Array, "k m"]) -> Float[Array, "n m"]:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _transposed_product(a: Float[Array, "n d"], b: Float[Array, "n m"]) -> Float[Array, "m d"]:
    """Return b^T a."""
    return jax.lax.optimization_barrier(a.T @ b).T
