"""The runtime's own machine code, third part: the builtins that Python calls.

This text is never executed as Python and goes on where `native_source_memory` ends. Everything here
holds the interpreter lock; `run_unlocked` gives it up while kernels run.
"""
# ruff: noqa: F821
# mypy: ignore-errors


def thread_limit(pool: PoolPtr) -> i64:
    """Threads that the current context may use; starts workers that are missing. Holds the lock."""
    api = pool.api
    limit = pool.machine
    found = stack(ptr, 1)
    found[0] = 0
    api.PyContextVar_Get(pool.thread_var, 0, found)
    if found[0]:
        limit = api.PyLong_AsLongLong(found[0])
        api.Py_DecRef(found[0])
    else:
        value = api.PyObject_GetAttr(pool.config, pool.name)
        if value and value != api.none:
            wanted = api.PyLong_AsLongLong(value)
            if wanted < limit:
                limit = wanted
        if value:
            api.Py_DecRef(value)
    if limit - 1 > pool.workers and pool.workers < pool.room:
        done = api.PyObject_CallNoArgs(pool.grow)
        if done:
            api.Py_DecRef(done)
    api.PyErr_Clear()
    return limit


def run_unlocked(program: ProgramPtr, bases: ptrs) -> i64:
    """`run_program` for a caller that holds the lock, which is given up if the plan says so."""
    api = program.pool.api
    limit = 1
    if program.parallel:
        limit = thread_limit(program.pool)
    if not program.release_gil:
        return run_program(program, bases, limit)
    state = api.PyEval_SaveThread()
    status = run_program(program, bases, limit)
    api.PyEval_RestoreThread(state)
    return status


def runner(self: ObjectPtr, args: Objects, nargs: i64) -> ptr:
    """Builtin: run a program over buffers (arrays or addresses); returns its status as an int."""
    program = cast(self.data, ProgramPtr)
    api = program.pool.api
    if nargs != program.nargs:
        api.PyErr_SetNone(api.type_error)
        return 0
    bases = stack(ptr, program.nbuffers)
    for i in range(nargs):
        if args[i].type == api.array_type or api.PyType_IsSubtype(args[i].type, api.array_type):
            bases[i] = args[i].data
        else:
            bases[i] = api.PyLong_AsVoidPtr(args[i])
            if not bases[i] and api.PyErr_Occurred():
                return 0
    return api.PyLong_FromLongLong(run_unlocked(program, bases))


def rounds(self: ObjectPtr, args: Objects, nargs: i64) -> ptr:
    """Builtin: run a program once for each row of a table; returns the first status not 0.

    args: the table's address, how many rows, a buffer, a number, and arrays. Buffers are offsets
    into those. Where the buffer (less than 0: none) is a byte that is not the number after a round,
    it is the last; the answer is then how many there were, times STOPPED.
    """
    program = cast(self.data, ProgramPtr)
    api = program.pool.api
    if nargs < 4:
        api.PyErr_SetNone(api.type_error)
        return 0
    table = cast(api.PyLong_AsVoidPtr(args[0]), RefPtr)
    count = api.PyLong_AsLongLong(args[1])
    watched = api.PyLong_AsLongLong(args[2])
    going = api.PyLong_AsLongLong(args[3])
    bases = stack(ptr, program.nbuffers)
    status = 0
    for i in range(count):
        for j in range(program.nargs):
            ref = table[i * program.nargs + j]
            bases[j] = args[4 + ref.buffer].data + ref.offset
        status = run_unlocked(program, bases)
        if status:
            break
        if watched >= 0 and cast(bases[watched], bytes_)[0] != going:
            status = (i + 1) * STOPPED
            break
    return api.PyLong_FromLongLong(status)


def entry(self: ObjectPtr, args: Objects, nargs: i64) -> ptr:
    """Builtin: the result of the first plan that fits the arguments, or the MISS object."""
    known = cast(self.data, EntryPtr)
    api = known.pool.api
    for i in range(known.nguards):
        if not holds(api, known.guards[i]):
            return refuse(api, api.miss)
    for i in range(known.nplans):
        plan = known.plans[i]
        if plan.nargs == nargs and fits(api, plan, args):
            return call_plan(api, plan, args)
    return refuse(api, api.miss)


def refuse(api: ApiPtr, sentinel: ptr) -> ptr:
    api.Py_IncRef(sentinel)
    return sentinel


def holds(api: ApiPtr, guard: GuardPtr) -> i64:
    """Is the object that was found when the plan was made still there?"""
    if guard.kind == DICT_ITEM:
        return api.PyDict_GetItem(guard.holder, guard.key) == guard.expected
    found = stack(ptr, 1)
    found[0] = 0
    if guard.kind == CELL:
        found[0] = api.PyCell_Get(guard.holder)
    else:
        api.PyContextVar_Get(guard.holder, 0, found)
    if not found[0]:
        api.PyErr_Clear()
        return guard.expected == 0
    api.Py_DecRef(found[0])
    return found[0] == guard.expected


def fits(api: ApiPtr, plan: PlanPtr, args: Objects) -> i64:
    """Do the arguments, and the arrays the function captured, look as the plan says?"""
    for i in range(plan.ninputs):
        spec = plan.inputs[i]
        if spec.object:
            array = cast(spec.object, ArrayPtr)
            if array.data != spec.data:
                return 0
        else:
            array = cast(args[i], ArrayPtr)
        if not spec.descr:
            if array.type != api.float_type:
                return 0
        elif not same_array(api, spec, array):
            return 0
    for i in range(plan.nargs):
        if plan.inputs[i].changed and not apart(plan, args, i):
            return 0
    return 1


def apart(plan: PlanPtr, args: Objects, number: i64) -> i64:
    """Does no other argument lie in the memory of this one, which is changed?"""
    low = args[number].data + plan.inputs[number].low
    high = args[number].data + plan.inputs[number].high
    for i in range(plan.ninputs):
        spec = plan.inputs[i]
        if i != number and spec.descr:
            start = spec.data
            if not spec.object:
                start = args[i].data
            if start + spec.low < high and start + spec.high > low:
                return 0
    return 1


def same_array(api: ApiPtr, spec: SpecPtr, array: ArrayPtr) -> i64:
    if array.type != api.array_type or array.nd != spec.nd:
        return 0
    if array.descr != spec.descr and cast(array.descr, DescrPtr).kind != spec.kind:
        return 0
    if (array.flags & spec.checked) != spec.flags:
        return 0
    for i in range(spec.nd):
        if array.dims[i] != spec.dims[i] or array.strides[i] != spec.strides[i]:
            return 0
    return 1


def call_plan(api: ApiPtr, plan: PlanPtr, args: Objects) -> ptr:
    """Allocate the results, run the program, hand the results over; 0 with an exception set."""
    program = plan.program
    bases = stack(ptr, program.nbuffers)
    floats = stack(f64, plan.nargs)
    results = cast(stack(ptr, plan.noutputs), Objects)
    scalars = stack(f64, plan.noutputs * (SCALAR // 8))
    for i in range(plan.nargs):
        bases[i] = args[i].data
        if not plan.inputs[i].descr:
            floats[i] = api.PyFloat_AsDouble(args[i])
            bases[i] = address(floats[i])
    for i in range(plan.noutputs):
        spec = plan.outputs[i]
        results[i] = 0
        bases[plan.nargs + i] = address(scalars[i * (SCALAR // 8)])
        if not spec.scalar:
            results[i] = new_array(program.pool, spec)
            if not results[i]:
                return release(api, results, i, 0)
            bases[plan.nargs + i] = results[i].data
    if run_unlocked(program, bases):
        return release(api, results, plan.noutputs, refuse(api, api.error))
    return hand_over(api, plan, results, scalars)


def new_array(pool: PoolPtr, spec: SpecPtr) -> ptr:
    """A fresh array; strides are NULL in the spec for C order, which NumPy lays out faster.

    The memory of a large one is ours, unless the caller has a memory handler of their own. NumPy
    frees it by the handler that the array names (NEP 49).
    """
    api = pool.api
    memory = cast(0, ptr)
    flags = 0
    if spec.high >= KEPT and defaults(api):
        memory = kept_memory(pool, spec.high)
    if memory:
        flags = WHOLE
    api.Py_IncRef(spec.descr)
    result = cast(
        api.PyArray_NewFromDescr(
            api.array_type, spec.descr, spec.nd, spec.dims, spec.strides, memory, flags, 0
        ),
        ArrayPtr,
    )
    if memory and result:
        api.Py_IncRef(api.handler)
        result.handler = api.handler
        result.flags += OWNDATA
        api.PyTraceMalloc_Track(DOMAIN, memory, spec.high)
    elif memory:
        free_memory(pool, memory, 0)
    return result


def defaults(api: ApiPtr) -> i64:
    """Has the caller left the memory of arrays to NumPy?"""
    handler = api.PyDataMem_GetHandler()
    if handler:
        api.Py_DecRef(handler)
    return handler == api.default_handler


def kept_memory(pool: PoolPtr, size: i64) -> ptr:
    """Memory for a result, with as much kept for others as `config.keep_bytes` says now."""
    most = pool.api.PyObject_GetAttr(pool.config, pool.keep_name)
    if most:
        pool.keep_results = pool.api.PyLong_AsLongLong(most)
        pool.api.Py_DecRef(most)
    pool.api.PyErr_Clear()
    return new_memory(pool, size)


def release(api: ApiPtr, results: Objects, count: i64, answer: ptr) -> ptr:
    for i in range(count):
        if results[i]:
            api.Py_DecRef(results[i])
    return answer


def hand_over(api: ApiPtr, plan: PlanPtr, results: Objects, scalars: f64s) -> ptr:
    """The single result, or a tuple of them, or None; 0-d results become NumPy scalars."""
    for i in range(plan.noutputs):
        if plan.outputs[i].scalar:
            slot = address(scalars[i * (SCALAR // 8)])
            results[i] = api.PyArray_Scalar(slot, plan.outputs[i].descr, 0)
            if not results[i]:
                return release(api, results, plan.noutputs, 0)
    if not plan.noutputs:
        return refuse(api, api.none)
    if not plan.as_tuple:
        return results[0]
    answer = api.PyTuple_New(plan.noutputs)
    if not answer:
        return release(api, results, plan.noutputs, 0)
    for i in range(plan.noutputs):
        api.PyTuple_SetItem(answer, i, results[i])
    return answer
