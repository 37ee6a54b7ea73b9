"""A hash of a model's architecture and weights, whatever device or precision it runs in."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree


def fingerprint(config: Mapping[str, Any], params: PyTree, below: str = "") -> str:
    """Hash the architecture, every number as it is stored, and the fingerprint of what is below.

    `config` has fields that JSON can hold; `below` is of the model whose features this one reads.
    """
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    digest.update(below.encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf, np.float32).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]
