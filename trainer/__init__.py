"""Weighted alternating least squares: matrices and factors in files, no pipelines and no cloud."""

import os

# Training alternates between the threads of BLAS and those of the kernels. BLAS' wait in a loop by default
# and keep the cores from the others: five times slower where anything else runs. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
