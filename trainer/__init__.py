"""Weighted alternating least squares: matrices and factors in files, no pipelines and no cloud."""

import os

# Training alternates between the threads of BLAS and those of the compiled kernels. Both wait in a loop by
# default and take the cores from each other: five times slower where anything else runs. They read these
# once, when NumPy and OpenMP are loaded.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
