"""Memory shared by Python and the runtime's own machine code, as ctypes structures.

Each structure is declared once: Python fills it in, `native_source` reads it under the same names.
Sizes are bytes, shapes and strides are NumPy's (strides in bytes), pointers are addresses.
"""

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_double, c_int, c_int64, c_uint8, c_void_p

i64, f64, ptr, byte = c_int64, c_double, c_void_p, c_uint8
i64s, ptrs, f64s, bytes_ = POINTER(i64), POINTER(ptr), POINTER(f64), POINTER(byte)

OPEN = 1 << 31  # bit of Pool.state: workers may join; the bits below it count those inside
COUNT = OPEN - 1
EPOCH = 32  # bits of Pool.state above this one number the jobs
ARENAS, SCRATCHES = 4, 16  # blocks for temporaries and for scratch that a pool keeps
HUGE, ADVICE, PAGE = 4 << 20, 14, 2 << 20  # from HUGE bytes, ask for huge pages (MADV_HUGEPAGE)
KEPT, RESULTS = 32 << 10, 64  # bytes of results from which on their memory is kept; how many blocks
LARGE = 8 << 20  # bytes of temporaries from which on their memory is kept with that of results
HEADER = 64  # bytes before a block's memory: its alignment, with room for two words
SCALAR = 32  # bytes of the largest NumPy scalar (clongdouble)
LINE = 16  # words between what callers write and what workers poll: two cache lines
CPU_WORDS = 16  # of Linux's cpu_set_t
RANGES = 64  # parts that the rows of a job are shared out in, at most
PLACED = 3  # workers that a pool places on processors itself, see `place`
OWNDATA, WHOLE = 4, 0x501  # NumPy's flags: owns its memory; contiguous, aligned and writable
DOMAIN = 389047  # of NumPy's arrays in tracemalloc
OUT_OF_MEMORY = -1  # status of a program that got no memory
STOPPED = 1 << 32  # what rounds that have ended give for each of them
CONTEXT_VAR, DICT_ITEM, CELL = 0, 1, 2  # kinds of Guard


class Object(Structure):
    """The head of a Python object; in ctypes objects `data` is the address of their memory."""

    _fields_ = (("refcount", i64), ("type", ptr), ("data", ptr))


class Array(Structure):
    """NumPy's PyArrayObject_fields, fixed by NumPy's binary interface."""

    _fields_ = (
        ("refcount", i64), ("type", ptr), ("data", ptr), ("nd", c_int), ("dims", i64s),
        ("strides", i64s), ("base", ptr), ("descr", ptr), ("flags", c_int), ("weakrefs", ptr),
        ("buffer_info", ptr), ("handler", ptr),
    )  # fmt: skip


class Descr(Structure):
    """The head of NumPy's _PyArray_Descr; kind: its letters, byte order and number as one word."""

    _fields_ = (("refcount", i64), ("type", ptr), ("scalar_type", ptr), ("kind", i64))


class Time(Structure):
    """C's struct timespec."""

    _fields_ = (("seconds", i64), ("nanoseconds", i64))


C_FUNCTIONS = (
    ("malloc", CFUNCTYPE(ptr, i64)),
    ("free", CFUNCTYPE(None, ptr)),
    ("memcpy", CFUNCTYPE(ptr, ptr, ptr, i64)),
    ("memset", CFUNCTYPE(ptr, ptr, c_int, i64)),
)
THREAD_FUNCTIONS = (
    ("clock_gettime", CFUNCTYPE(c_int, c_int, ptr)),
    ("pthread_mutex_init", CFUNCTYPE(c_int, ptr, ptr)),
    ("pthread_mutex_lock", CFUNCTYPE(c_int, ptr)),
    ("pthread_mutex_unlock", CFUNCTYPE(c_int, ptr)),
    ("pthread_cond_init", CFUNCTYPE(c_int, ptr, ptr)),
    ("pthread_cond_wait", CFUNCTYPE(c_int, ptr, ptr)),
    ("pthread_cond_signal", CFUNCTYPE(c_int, ptr)),
    ("pthread_cond_broadcast", CFUNCTYPE(c_int, ptr)),
)
LINUX_FUNCTIONS = (
    ("madvise", CFUNCTYPE(c_int, ptr, i64, c_int)),
    ("sched_getcpu", CFUNCTYPE(c_int)),
    ("sched_setaffinity", CFUNCTYPE(c_int, c_int, i64, i64s)),
)
PYTHON_FUNCTIONS = (
    ("Py_IncRef", CFUNCTYPE(None, ptr)),
    ("Py_DecRef", CFUNCTYPE(None, ptr)),
    ("PyErr_Clear", CFUNCTYPE(None)),
    ("PyErr_Occurred", CFUNCTYPE(ptr)),
    ("PyErr_SetNone", CFUNCTYPE(None, ptr)),
    ("PyFloat_AsDouble", CFUNCTYPE(f64, ptr)),
    ("PyLong_AsLongLong", CFUNCTYPE(i64, ptr)),
    ("PyLong_AsVoidPtr", CFUNCTYPE(ptr, ptr)),
    ("PyLong_FromLongLong", CFUNCTYPE(ptr, i64)),
    ("PyTraceMalloc_Track", CFUNCTYPE(c_int, c_int, ptr, i64)),
    ("PyTuple_New", CFUNCTYPE(ptr, i64)),
    ("PyTuple_SetItem", CFUNCTYPE(c_int, ptr, i64, ptr)),
    ("PyDict_GetItem", CFUNCTYPE(ptr, ptr, ptr)),
    ("PyCell_Get", CFUNCTYPE(ptr, ptr)),
    ("PyObject_GetAttr", CFUNCTYPE(ptr, ptr, ptr)),
    ("PyObject_CallNoArgs", CFUNCTYPE(ptr, ptr)),
    ("PyType_IsSubtype", CFUNCTYPE(c_int, ptr, ptr)),
    ("PyContextVar_Get", CFUNCTYPE(c_int, ptr, ptr, ptr)),
    ("PyEval_SaveThread", CFUNCTYPE(ptr)),
    ("PyEval_RestoreThread", CFUNCTYPE(None, ptr)),
)
ARRAY_FUNCTIONS = (  # and their places in NumPy's table
    ("PyArray_NewFromDescr", CFUNCTYPE(ptr, ptr, ptr, c_int, i64s, i64s, ptr, c_int, ptr), 94),
    ("PyArray_Scalar", CFUNCTYPE(ptr, ptr, ptr, ptr), 60),
    ("PyDataMem_GetHandler", CFUNCTYPE(ptr), 305),
)
ARRAY_TYPE, DEFAULT_HANDLER = 2, 306  # places of PyArray_Type and its memory in NumPy's table


class Api(Structure):
    """Functions and objects of C, Python and NumPy, so that machine code has no link to resolve."""

    _fields_ = (
        *C_FUNCTIONS, *THREAD_FUNCTIONS, *LINUX_FUNCTIONS, *PYTHON_FUNCTIONS,
        *(f[:2] for f in ARRAY_FUNCTIONS),
        ("array_type", ptr), ("float_type", ptr), ("none", ptr), ("type_error", ptr),
        ("miss", ptr), ("error", ptr), ("default_handler", ptr), ("handler", ptr),
    )  # fmt: skip


class Handler(Structure):
    """NumPy's PyDataMem_Handler: who allocates the memory of arrays (NEP 49)."""

    _fields_ = (
        ("name", ctypes.c_char * 127), ("version", c_uint8), ("context", ptr),
        ("malloc", ptr), ("calloc", ptr), ("realloc", ptr), ("free", ptr),
    )  # fmt: skip


Kernel = CFUNCTYPE(i64, i64, i64, i64s, ptrs)


class Ref(Structure):
    """A kernel's pointer argument: `offset` bytes into a buffer of the program."""

    _fields_ = (("buffer", i64), ("offset", i64))


class PartRef(Structure):
    """A pointer argument of a part: one of the step's, or (-1) a place in its scratch.

    That one is `offset` bytes on, less `every` bytes for each index that the step is at.
    """

    _fields_ = (("pointer", i64), ("offset", i64), ("every", i64))


class Part(Structure):
    """One of several kernels that a step runs for a few rows at a time.

    For outer indices [first, last) of the step it does its own from first * factor + low up to
    (last - 1) * factor + high, of `count` that there are, each of `rows` rows.
    """

    _fields_ = (
        ("entry", Kernel), ("count", i64), ("rows", i64), ("factor", i64), ("low", i64),
        ("high", i64), ("ints", i64s), ("refs", POINTER(PartRef)), ("nptrs", i64),
    )  # fmt: skip


class Chain(Structure):
    """What `chain` is given in place of integers. each: outer indices at a time."""

    _fields_ = (
        ("each", i64), ("nparts", i64), ("nptrs", i64), ("scratch_slot", i64),
        ("parts", POINTER(Part)),
    )  # fmt: skip


class Step(Structure):
    """One kernel launch over rows [0, total), worth one more thread per `chunk` rows."""

    _fields_ = (
        ("entry", Kernel), ("total", i64), ("chunk", i64),
        ("ints", i64s), ("refs", POINTER(Ref)), ("nptrs", i64),
        ("scratch_bytes", i64), ("scratch_slot", i64), ("spin", i64),
    )  # fmt: skip


class Block(Structure):
    """The header of a block of memory: what to free, and how many bytes follow the header."""

    _fields_ = (("raw", ptr), ("size", i64))


class Pool(Structure):
    """The workers, the one job they share, and memory kept between calls.

    state: job number << EPOCH | OPEN | workers inside; a worker joins by counting itself in while
        the job is open, so that one that wakes late finds a closed door and no caller waits for it.
    status, step, pointers, limit: the job: the first status that is not 0, ...
    ranges: its rows in one range a thread, `LINE` words each: first row nobody took, end. whole:
        they begin at multiples of it. entered: workers that ever came, each has a number by that.
    busy: a caller owns the job. waiting: it sleeps until the last worker leaves. parked: workers
        asleep. workers: threads started; room: most threads that may be.
    results: blocks of dropped results, `kept` bytes in all, at most `keep_results` of them as
        config.keep_bytes says when a result is made; oldest: the slot to empty next. sizes: of the
        last block in each slot, so that the search looks at blocks that may do.
    cpus: the processors granted to the process, empty where workers are not placed; avoided: the
        one that the workers `ids` were last told to leave to the caller.
    """

    _fields_ = (
        ("api", POINTER(Api)), ("step", POINTER(Step)), ("pointers", ptrs), ("limit", i64),
        ("workers", i64), ("room", i64), ("spin_ns", i64), ("clock", i64), ("spinning", i64),
        ("nranges", i64), ("whole", i64), ("status", i64),
        ("machine", i64), ("grow", ptr), ("thread_var", ptr), ("config", ptr), ("name", ptr),
        ("keep_bytes", i64), ("cpus", i64 * CPU_WORDS), ("ids", i64 * PLACED), ("placing", i64),
        ("avoided", i64), ("_0", i64 * LINE),
        ("state", i64), ("stopping", i64), ("parked", i64), ("waiting", i64), ("_1", i64 * LINE),
        ("ranges", i64 * (RANGES * LINE)), ("entered", i64), ("busy", i64), ("_2", i64 * LINE),
        ("sizes", i64 * RESULTS), ("results", i64 * RESULTS),
        ("kept", i64), ("keep_results", i64), ("oldest", i64),
        ("keep_name", ptr),
        ("arenas", i64 * (ARENAS * LINE)), ("scratches", i64 * (SCRATCHES * LINE)),
        ("mutex", i64 * LINE), ("work", i64 * LINE), ("done", i64 * LINE),
    )  # fmt: skip


class Program(Structure):
    """Steps over a table of buffers: `nargs` given by the caller, then temporaries, constants."""

    _fields_ = (
        ("pool", POINTER(Pool)), ("steps", POINTER(Step)), ("nsteps", i64), ("nargs", i64),
        ("nbuffers", i64), ("nptrs", i64), ("arena_bytes", i64), ("temporaries", i64s),
        ("ntemporaries", i64), ("constants", ptrs), ("nconstants", i64), ("parallel", i64),
        ("release_gil", i64),
    )  # fmt: skip


class Spec(Structure):
    """What an array must be, or what a result will be.

    object: a captured array, checked in place of an argument, whose memory must still be `data`.
    descr: NULL stands for a Python float. kind: of the dtypes that are as good, made by pickle for
        example; 0 for those that need more than that to be equal. low, high: where its bytes begin
        and end, relative to its first element. checked: which of NumPy's flags must be as in
        ``flags``. changed: the program writes it, so no other argument may lie in its memory.
    """

    _fields_ = (
        ("object", ptr), ("data", ptr), ("descr", ptr), ("kind", i64), ("nd", i64),
        ("dims", i64s), ("strides", i64s), ("checked", i64), ("flags", i64), ("scalar", i64),
        ("low", i64), ("high", i64), ("changed", i64),
    )  # fmt: skip


class Guard(Structure):
    """A Python object that a call relies on, found again before each call and compared by identity.

    holder, key: the context variable; the dict and its key; the cell.
    """

    _fields_ = (("kind", i64), ("holder", ptr), ("key", ptr), ("expected", ptr))


class Plan(Structure):
    """One signature that an entry knows, and the program for it."""

    _fields_ = (
        ("program", POINTER(Program)), ("nargs", i64), ("inputs", POINTER(Spec)), ("ninputs", i64),
        ("outputs", POINTER(Spec)), ("noutputs", i64), ("as_tuple", i64),
    )  # fmt: skip


class Entry(Structure):
    """What one native entry reads: guards, then plans tried in turn."""

    _fields_ = (
        ("pool", POINTER(Pool)), ("guards", POINTER(Guard)), ("nguards", i64),
        ("plans", POINTER(POINTER(Plan))), ("nplans", i64),
    )  # fmt: skip


ObjectPtr, ArrayPtr, DescrPtr = map(POINTER, (Object, Array, Descr))
PoolPtr, StepPtr, RefPtr, ChainPtr = map(POINTER, (Pool, Step, Ref, Chain))
ProgramPtr, SpecPtr, GuardPtr, PlanPtr = map(POINTER, (Program, Spec, Guard, Plan))
EntryPtr, BlockPtr, ApiPtr, TimePtr = map(POINTER, (Entry, Block, Api, Time))
Objects = POINTER(ObjectPtr)
