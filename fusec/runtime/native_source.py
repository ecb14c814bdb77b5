"""The runtime's own machine code, first part: thread pool, launch, program.

This text is never executed as Python; `native_lang` translates it, with the structures and
constants of `native_layout`. Everything here runs with or without the interpreter lock. All
atomics are sequentially consistent; the two handshakes (parked and state, waiting and state) rely
on that: each side writes its word before it reads the other's.
"""
# ruff: noqa: F821
# mypy: ignore-errors


def exports(table: i64s) -> i64:
    """The one symbol of the object file: writes where the other functions are."""
    table[0] = worker_loop
    table[1] = stop
    table[2] = entry
    table[3] = runner
    table[4] = rounds
    table[5] = chain
    table[6] = new_memory
    table[7] = zeroed_memory
    table[8] = other_memory
    table[9] = free_memory
    table[10] = new_array
    return 11


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
    number = atomic_add(pool.entered, 1)
    while True:
        await_call(pool, seen)
        if atomic_load(pool.stopping):
            return 0
        state = atomic_load(pool.state)
        seen = state >> EPOCH
        while state & OPEN and (state & COUNT) < pool.limit - 1:
            if atomic_cas(pool.state, state, state + 1):
                participate(pool, pool.step, pool.pointers, 1 + number % (pool.nranges - 1))
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
    if pool.placing:
        place(pool)
    pool.api.pthread_mutex_lock(pool.mutex)
    pool.api.pthread_mutex_unlock(pool.mutex)
    for i in range(count):
        if i < parked:
            pool.api.pthread_cond_signal(pool.work)
    return 0


def place(pool: PoolPtr) -> i64:
    """Keep sleeping workers off the processor of the caller.

    Linux wakes a thread where it last ran, and on two processors that share a cache it does not
    look for an idle one: a worker that once slept on the caller's processor would wait there for
    the end of every job.
    """
    cpu = pool.api.sched_getcpu()
    if cpu < 0 or cpu == pool.avoided or (cpu >> 6) >= CPU_WORDS:
        return 0
    others = stack(i64, CPU_WORDS)
    for i in range(CPU_WORDS):
        others[i] = pool.cpus[i]
    others[cpu >> 6] -= others[cpu >> 6] & (1 << (cpu & 63))
    for i in range(pool.workers):
        if i < PLACED:
            pool.api.sched_setaffinity(pool.ids[i], 8 * CPU_WORDS, others)
    pool.avoided = cpu
    return 1


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
        return participate(pool, step, pointers, -1)
    announce(pool, step, pointers, limit)
    share_out(pool, step.total, limit)
    atomic_store(pool.state, (((pool.state >> EPOCH) + 1) << EPOCH) | OPEN)
    wake(pool, limit - 1)
    participate(pool, step, pointers, 0)
    close(pool)
    status = pool.status
    atomic_store(pool.busy, 0)
    return status


def announce(pool: PoolPtr, step: StepPtr, pointers: ptrs, limit: i64) -> i64:
    """What workers need to know; what is as before is not written: they have it in their caches."""
    if pool.step != step:
        pool.step = step
    if pool.pointers != pointers:
        pool.pointers = pointers
    if pool.limit != limit:
        pool.limit = limit
    if pool.spinning != step.spin * pool.spin_ns:
        pool.spinning = step.spin * pool.spin_ns
    if pool.status:
        pool.status = 0
    return 0


def share_out(pool: PoolPtr, total: i64, limit: i64) -> i64:
    """One range of rows a thread, the same in every call: its part of the data stays in its cache.

    Ranges of thousands of rows, and parts of them, begin at whole cache lines.
    """
    count = limit
    if count > RANGES:
        count = RANGES
    whole = 1
    if total >= 1024 * count:
        whole = 64
    if pool.whole != whole:
        pool.whole = whole
    end = 0
    for i in range(count):
        pool.ranges[i * LINE] = end
        end = total * (i + 1) // count // whole * whole
        pool.ranges[i * LINE + 1] = end
    pool.ranges[count * LINE - LINE + 1] = total
    if pool.nranges != count:
        pool.nranges = count
    return 0


def participate(pool: PoolPtr, step: StepPtr, pointers: ptrs, own: i64) -> i64:
    """One thread's part of a job, with its own scratch, beginning with range `own`; -1: all."""
    if step.scratch_slot < 0:
        return run_rows(pool, step, pointers, own)
    first = own
    if own < 0:
        first = 0
    block = take(pool, pool.scratches, SCRATCHES, first, step.scratch_bytes)
    if not block:
        if own >= 0:
            atomic_cas(pool.status, 0, OUT_OF_MEMORY)
        return OUT_OF_MEMORY
    copies = stack(ptr, step.nptrs)
    for i in range(step.nptrs):
        copies[i] = pointers[i]
    copies[step.scratch_slot] = block + HEADER
    status = run_rows(pool, step, copies, own)
    give(pool, pool.scratches, SCRATCHES, first, block)
    return status


def run_rows(pool: PoolPtr, step: StepPtr, pointers: ptrs, own: i64) -> i64:
    """All rows; or those of the own range, then what others have not got round to.

    Half of what is left at a time, at least a quarter of what is worth waking a thread for.
    """
    if own < 0:
        return step.entry(0, step.total, step.ints, pointers)
    for i in range(pool.nranges):
        at = (own + i) % pool.nranges * LINE
        limit = pool.ranges[at + 1]
        start = atomic_load(pool.ranges[at])
        while start < limit and not atomic_load(pool.status):
            end = start + (limit - start + 1) // 2
            if end < start + (step.chunk + 3) // 4:
                end = start + (step.chunk + 3) // 4
            end = (end + pool.whole - 1) // pool.whole * pool.whole
            if end > limit:
                end = limit
            if atomic_cas(pool.ranges[at], start, end):
                status = step.entry(start, end, step.ints, pointers)
                if status:
                    atomic_cas(pool.status, 0, status)
            start = atomic_load(pool.ranges[at])
    return 0


def chain(start: i64, finish: i64, ints: i64s, pointers: ptrs) -> i64:
    """Rows of the last of several kernels; what they need of the others is computed before.

    A few outer indices at a time, so that it stays in the cache.
    """
    plan = cast(ints, ChainPtr)
    scratch = pointers[plan.scratch_slot]
    mine = stack(ptr, plan.nptrs)
    unit = plan.parts[plan.nparts - 1].rows
    first = start // unit
    end = (finish + unit - 1) // unit
    status = 0
    while first < end and not status:
        last = first + plan.each
        if last > end:
            last = end
        for i in range(plan.nparts):
            part = address(plan.parts[i])
            low = first * part.factor + part.low
            if low < 0:
                low = 0
            high = (last - 1) * part.factor + part.high + 1
            if high > part.count:
                high = part.count
            low = low * part.rows
            high = high * part.rows
            if i == plan.nparts - 1:
                if low < start:
                    low = start
                if high > finish:
                    high = finish
            for j in range(part.nptrs):
                ref = address(part.refs[j])
                if ref.pointer < 0:
                    mine[j] = scratch + ref.offset - first * ref.every
                else:
                    mine[j] = pointers[ref.pointer]
            if low < high and not status:
                status = part.entry(low, high, part.ints, mine)
        first = last
    return status


# Programs.


def run_program(program: ProgramPtr, bases: ptrs, limit: i64) -> i64:
    """Run the steps in order; `bases` has room for all buffers, the caller's come first."""
    pool = program.pool
    block = cast(0, BlockPtr)
    n = program.nargs
    if program.arena_bytes:
        block = take_arena(pool, program.arena_bytes)
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
        give_arena(pool, block)
    return status
