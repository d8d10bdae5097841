"""Robust k-center: the smallest radius that covers all but a share of the samples, by a mixed-integer program."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, vstack
from scipy.spatial.distance import cdist

from mcdal.selection.k_center import k_center, part
from mcdal.stack import Matrix
from mcdal.values import Ids


def robust_k_center(
    ids: Ids, vectors: Float[Matrix, "n d"], centres: Bool[np.ndarray, " n"], budget: int, outliers: int
) -> tuple[list[int], float]:
    """Positions of `budget` further centres, and the radius within which all but `outliers` samples have a centre.

    Sener and Savarese 2018, Alg. 2: from the greedy solution's radius, bisect over the distances that occur; at each, ask
    whether centres exist (Eq. 6 of the paper): y_j = 1 for labeled j, sum y = labeled + budget, every sample assigned to a
    centre within the radius or one of the outliers. For small pools: the program has up to n^2 variables.
    """
    greedy, _ = k_center(ids, vectors, centres, budget)
    wide = part(vectors, slice(None)).double().numpy()
    between = cdist(wide, wide)
    chosen = np.concatenate([np.flatnonzero(centres), greedy]).astype(np.int64)
    upper = float(between[:, chosen].min(1).max())
    radii = np.unique(between[between <= upper])
    low, high = 0, len(radii) - 1  # the greedy radius is one of them, and feasible
    best, radius = greedy, upper
    while low < high:
        middle = (low + high) // 2
        found = _feasible(between <= radii[middle], centres, budget, outliers)
        if found is None:
            low = middle + 1
        else:
            high, best, radius = middle, found, float(radii[middle])
    return best, radius


def _feasible(
    near: Bool[np.ndarray, "n n"], centres: Bool[np.ndarray, " n"], budget: int, outliers: int
) -> list[int] | None:
    """Centres that cover all but `outliers` samples where `near` says who covers whom; None where there are none.

    Variables: y_j (is j a centre) and z_i (is i left out). With coverage alone the assignment x_ij need not be written out:
    sum over near j of y_j + z_i >= 1 has the same solutions.
    """
    n = len(near)
    rows, columns = np.nonzero(near)
    cover = coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, 2 * n))
    slack = coo_array((np.ones(n), (np.arange(n), n + np.arange(n))), shape=(n, 2 * n))
    counts = np.zeros((2, 2 * n))
    counts[0, :n], counts[1, n:] = 1, 1
    total = int(centres.sum()) + budget
    constraints = LinearConstraint(
        vstack([cover + slack, coo_array(counts)]).tocsr(),
        np.concatenate([np.ones(n), [total, 0]]),
        np.concatenate([np.full(n, np.inf), [total, outliers]]),
    )
    lower = np.concatenate([centres.astype(float), np.zeros(n)])
    found = milp(np.zeros(2 * n), integrality=1, bounds=Bounds(lower, np.ones(2 * n)), constraints=constraints)
    if found.x is None:
        return None
    return [int(j) for j in np.flatnonzero(np.round(found.x[:n]) > 0) if not centres[j]]
