"""A product of matrices that adds in another order for each row: what some libraries do."""

import numpy as np
from small_models import Array


def shifting_product(x: Array, w: Array) -> Array:
    """x [.., M, K] times w [.., K, N]: row m adds from term 5 m on, one term after the other."""
    terms = x.shape[-1]
    result = np.zeros((*np.broadcast_shapes(x.shape[:-2], w.shape[:-2]), x.shape[-2], w.shape[-1]))
    result = result.astype(x.dtype)
    for row in range(x.shape[-2]):
        order = np.roll(np.arange(terms), -5 * row)
        for term in order.tolist():
            result[..., row, :] += x[..., row, term, None] * w[..., term, :]
    return result
