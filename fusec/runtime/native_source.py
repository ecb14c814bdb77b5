"""The runtime's own machine code: thread pool, launch, program, call entry.

This text is never executed as Python; `native_lang` translates it, with the structures and
constants of `native_layout`. Everything here may run without the interpreter lock, except what
says that it holds it. All atomics are sequentially consistent; the two handshakes (parked and
state, waiting and state) rely on that: each side writes its word before it reads the other's.
"""
# ruff: noqa: F821
# mypy: ignore-errors


def exports(table: i64s) -> i64:
    """The one symbol of the object file: writes where the other functions are."""
    table[0] = worker_loop
    table[1] = stop
    table[2] = entry
    table[3] = runner
    return 4


# Memory kept between calls: slots that hold a free block or 0, taken and given by exchange.


def take(pool: PoolPtr, slots: i64s, count: i64, size: i64) -> BlockPtr:
    """A block of at least `size` bytes after its header, or 0 when there is no memory."""
    for i in range(count):
        if slots[i]:
            block = cast(atomic_swap(slots[i], 0), BlockPtr)
            if block:
                if block.size >= size:
                    return block
                give(pool, slots, count, block)
    return allocate(pool.api, size)


def allocate(api: ApiPtr, size: i64) -> BlockPtr:
    raw = api.malloc(size + 2 * HEADER)
    if not raw:
        return 0
    if size >= HUGE and api.madvise:
        page = (raw + PAGE - 1) // PAGE * PAGE
        api.madvise(page, raw + size - page, ADVICE)
    block = cast((raw + HEADER - 1) // HEADER * HEADER, BlockPtr)
    block.raw = raw
    block.size = size
    return block


def give(pool: PoolPtr, slots: i64s, count: i64, block: BlockPtr) -> i64:
    """Keep the block in an empty slot, else in place of another, unless it is too large to keep."""
    if block.size > pool.keep_bytes // count:
        pool.api.free(block.raw)
        return 0
    for i in range(count):
        if not slots[i]:
            if atomic_cas(slots[i], 0, block):
                return 1
    other = cast(atomic_swap(slots[0], block), BlockPtr)
    if other:
        pool.api.free(other.raw)
    return 1


# The pool.


def now(pool: PoolPtr) -> i64:
    time = stack(Time, 1)
    pool.api.clock_gettime(pool.clock, time)
    return time.seconds * 1000000000 + time.nanoseconds


def called(pool: PoolPtr, seen: i64) -> i64:
    """Is there an open job other than number `seen`, or a request to stop?"""
    state = atomic_load(pool.state)
    return ((state & OPEN) and (state >> EPOCH) != seen) or atomic_load(pool.stopping)


def await_call(pool: PoolPtr, seen: i64) -> i64:
    """Spin for a moment, then sleep until there is a job to look at."""
    if pool.spinning:
        limit = now(pool) + pool.spinning
        while not called(pool, seen) and now(pool) < limit:
            pause()
    if called(pool, seen):
        return 0
    api = pool.api
    api.pthread_mutex_lock(pool.mutex)
    atomic_add(pool.parked, 1)
    while not called(pool, seen):
        api.pthread_cond_wait(pool.work, pool.mutex)
    atomic_add(pool.parked, -1)
    api.pthread_mutex_unlock(pool.mutex)
    return 1


def worker_loop(pool: PoolPtr) -> i64:
    """What a worker thread does until it is told to stop."""
    seen = 0
    while True:
        await_call(pool, seen)
        if atomic_load(pool.stopping):
            return 0
        state = atomic_load(pool.state)
        seen = state >> EPOCH
        while state & OPEN and (state & COUNT) < pool.limit - 1:
            if atomic_cas(pool.state, state, state + 1):
                participate(pool, pool.step, pool.pointers, 1)
                leave(pool)
                break
            state = atomic_load(pool.state)
            seen = state >> EPOCH
    return 0


def leave(pool: PoolPtr) -> i64:
    """Count this worker out; the last one out of a closed job wakes its caller."""
    state = atomic_add(pool.state, -1) - 1
    if not (state & (OPEN | COUNT)) and atomic_load(pool.waiting):
        pool.api.pthread_mutex_lock(pool.mutex)
        pool.api.pthread_cond_signal(pool.done)
        pool.api.pthread_mutex_unlock(pool.mutex)
    return 0


def stop(pool: PoolPtr) -> i64:
    """Tell all workers to leave; jobs in progress are finished first."""
    atomic_store(pool.stopping, 1)
    pool.api.pthread_mutex_lock(pool.mutex)
    pool.api.pthread_cond_broadcast(pool.work)
    pool.api.pthread_mutex_unlock(pool.mutex)
    return 0


def wake(pool: PoolPtr, count: i64) -> i64:
    """Signal up to `count` sleeping workers.

    Passing through the mutex makes sure that a worker which saw no job is in its wait by now.
    """
    parked = atomic_load(pool.parked)
    if not parked:
        return 0
    pool.api.pthread_mutex_lock(pool.mutex)
    pool.api.pthread_mutex_unlock(pool.mutex)
    for i in range(count):
        if i < parked:
            pool.api.pthread_cond_signal(pool.work)
    return 0


def close(pool: PoolPtr) -> i64:
    """Let nobody join any more and wait for the workers that are inside."""
    state = atomic_add(pool.state, -OPEN)
    if not (state & COUNT):
        return 0
    limit = now(pool) + pool.spin_ns
    while atomic_load(pool.state) & COUNT and now(pool) < limit:
        pause()
    if not (atomic_load(pool.state) & COUNT):
        return 0
    pool.api.pthread_mutex_lock(pool.mutex)
    atomic_store(pool.waiting, 1)
    while atomic_load(pool.state) & COUNT:
        pool.api.pthread_cond_wait(pool.done, pool.mutex)
    atomic_store(pool.waiting, 0)
    pool.api.pthread_mutex_unlock(pool.mutex)
    return 1


# Launch.


def launch(pool: PoolPtr, step: StepPtr, pointers: ptrs, limit: i64) -> i64:
    """Run all rows of a step on up to `limit` threads, alone when the pool is taken."""
    if step.total <= 0:
        return 0
    chunks = (step.total + step.chunk - 1) // step.chunk
    if chunks < limit:
        limit = chunks
    if limit < 2 or not pool.workers or not atomic_cas(pool.busy, 0, 1):
        return participate(pool, step, pointers, 0)
    pool.step = step
    pool.pointers = pointers
    pool.limit = limit
    pool.spinning = step.spin * pool.spin_ns
    pool.status = 0
    pool.next = 0
    atomic_store(pool.state, (((pool.state >> EPOCH) + 1) << EPOCH) | OPEN)
    wake(pool, limit - 1)
    participate(pool, step, pointers, 1)
    close(pool)
    status = pool.status
    atomic_store(pool.busy, 0)
    return status


def participate(pool: PoolPtr, step: StepPtr, pointers: ptrs, shared: i64) -> i64:
    """One thread's part of a job, with its own scratch; `shared`: others take rows too."""
    if step.scratch_slot < 0:
        return run_rows(pool, step, pointers, shared)
    block = take(pool, pool.scratches, SCRATCHES, step.scratch_bytes)
    if not block:
        if shared:
            atomic_cas(pool.status, 0, OUT_OF_MEMORY)
        return OUT_OF_MEMORY
    own = stack(ptr, step.nptrs)
    for i in range(step.nptrs):
        own[i] = pointers[i]
    own[step.scratch_slot] = block + HEADER
    status = run_rows(pool, step, own, shared)
    give(pool, pool.scratches, SCRATCHES, block)
    return status


def run_rows(pool: PoolPtr, step: StepPtr, pointers: ptrs, shared: i64) -> i64:
    """All rows, or ranges of rows that nobody took: large ones first, then down to one chunk."""
    if not shared:
        return step.entry(0, step.total, step.ints, pointers)
    start = atomic_load(pool.next)
    while start < step.total and not atomic_load(pool.status):
        share = (step.total - start) // (2 * pool.limit)
        end = start + (share // step.chunk + 1) * step.chunk
        if end > step.total:
            end = step.total
        if atomic_cas(pool.next, start, end):
            status = step.entry(start, end, step.ints, pointers)
            if status:
                atomic_cas(pool.status, 0, status)
        start = atomic_load(pool.next)
    return 0


# Programs.


def run_program(program: ProgramPtr, bases: ptrs, limit: i64) -> i64:
    """Run the steps in order; `bases` has room for all buffers, the caller's come first."""
    pool = program.pool
    block = cast(0, BlockPtr)
    n = program.nargs
    if program.arena_bytes:
        block = take(pool, pool.arenas, ARENAS, program.arena_bytes)
        if not block:
            return OUT_OF_MEMORY
        for i in range(program.ntemporaries):
            bases[n + i] = block + HEADER + program.temporaries[i]
        n += program.ntemporaries
    for i in range(program.nconstants):
        bases[n + i] = program.constants[i]
    pointers = stack(ptr, program.nptrs)
    status = 0
    for i in range(program.nsteps):
        step = program.steps[i]
        for j in range(step.nptrs):
            ref = step.refs[j]
            pointers[j] = bases[ref.buffer] + ref.offset
        status = launch(pool, step, pointers, limit)
        if status:
            break
    if block:
        give(pool, pool.arenas, ARENAS, block)
    return status


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


# The call entry. Everything below holds the lock.


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
    return 1


def same_array(api: ApiPtr, spec: SpecPtr, array: ArrayPtr) -> i64:
    if array.type != api.array_type or array.descr != spec.descr or array.nd != spec.nd:
        return 0
    if (array.flags & spec.flags) != spec.flags:
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
            results[i] = new_array(api, spec)
            if not results[i]:
                return release(api, results, i, 0)
            bases[plan.nargs + i] = results[i].data
    if run_unlocked(program, bases):
        return release(api, results, plan.noutputs, refuse(api, api.error))
    return hand_over(api, plan, results, scalars)


def new_array(api: ApiPtr, spec: SpecPtr) -> ptr:
    """A fresh array; strides are NULL in the spec for C order, which NumPy lays out faster."""
    api.Py_IncRef(spec.descr)
    return api.PyArray_NewFromDescr(
        api.array_type, spec.descr, spec.nd, spec.dims, spec.strides, 0, 0, 0
    )


def release(api: ApiPtr, results: Objects, count: i64, answer: ptr) -> ptr:
    for i in range(count):
        if results[i]:
            api.Py_DecRef(results[i])
    return answer


def hand_over(api: ApiPtr, plan: PlanPtr, results: Objects, scalars: f64s) -> ptr:
    """The single result, or a tuple of them; 0-d results become NumPy scalars."""
    for i in range(plan.noutputs):
        if plan.outputs[i].scalar:
            slot = address(scalars[i * (SCALAR // 8)])
            results[i] = api.PyArray_Scalar(slot, plan.outputs[i].descr, 0)
            if not results[i]:
                return release(api, results, plan.noutputs, 0)
    if not plan.as_tuple:
        return results[0]
    answer = api.PyTuple_New(plan.noutputs)
    if not answer:
        return release(api, results, plan.noutputs, 0)
    for i in range(plan.noutputs):
        api.PyTuple_SetItem(answer, i, results[i])
    return answer
