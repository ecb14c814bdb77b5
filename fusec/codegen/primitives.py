"""The vocabulary of kernels: every name that generated source may call.

Plain Numba promotes small integers, branches on zero divisors, and orders NaNs, shifts and mixed
signs as Python or C do. These primitives do exactly what NumPy's loops do, on one type, and without
a branch wherever a loop over them should become vector code. Names begin with ``i`` for wrapping
integers, ``f`` for floats, ``c`` for complex numbers; casts, comparisons and ``select`` take any
type. The math functions are ``mathlib``'s, ``folds`` has the reductions of blocks, ``lanes`` those
of what a loop computes, ``searches`` first places, ``streams`` stores past the caches, ``division``
quotients of many numbers by one, ``tiles`` transpositions, ``pointers`` the arithmetic of
addresses, ``blas_calls`` what calls BLAS.
"""

from fusec.codegen.blas_calls import *  # noqa: F403
from fusec.codegen.casts import *  # noqa: F403
from fusec.codegen.column_folds import *  # noqa: F403
from fusec.codegen.complexes import *  # noqa: F403
from fusec.codegen.division import *  # noqa: F403
from fusec.codegen.floats import *  # noqa: F403
from fusec.codegen.folds import *  # noqa: F403
from fusec.codegen.integers import *  # noqa: F403
from fusec.codegen.lanes import *  # noqa: F403
from fusec.codegen.mathlib.intrinsics import *  # noqa: F403
from fusec.codegen.pointers import *  # noqa: F403
from fusec.codegen.products import *  # noqa: F403
from fusec.codegen.searches import *  # noqa: F403
from fusec.codegen.streams import *  # noqa: F403
from fusec.codegen.tiles import *  # noqa: F403
