"""What solvers of several processes have to agree on.

Eigenvectors are unique but for their signs, and for rotations where eigenvalues are equal. Processors of
other models choose others, and factors that refer to different bases cannot be put together.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Agreed = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Returns the same array, one process's, to all processes that solve rows of the same problem."""


def itself(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the array, which a single process agrees on with nobody."""
    return array
