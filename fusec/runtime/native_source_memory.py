"""The runtime's own machine code, second part: memory that is kept between calls.

This text is never executed as Python and goes on where `native_source` ends.
"""
# ruff: noqa: F821
# mypy: ignore-errors


# Memory kept between calls: slots that hold a free block or 0, taken and given by exchange. A
# thread begins with slot `first`, so that its block, and the slot, stay in its cache.


def take(pool: PoolPtr, slots: i64s, count: i64, first: i64, size: i64) -> BlockPtr:
    """A block of at least `size` bytes after its header, or 0 when there is no memory."""
    for i in range(count):
        k = (first + i) % count * LINE
        if slots[k]:
            block = cast(atomic_swap(slots[k], 0), BlockPtr)
            if block:
                if block.size >= size:
                    return block
                give(pool, slots, count, first, block)
    return allocate(pool.api, size)


def allocate(api: ApiPtr, size: i64) -> BlockPtr:
    page = HEADER
    if size >= HUGE and api.madvise:
        page = PAGE
    raw = api.malloc(size + HEADER + 2 * page)
    if not raw:
        return 0
    start = (raw + page - 1) // page * page
    if page == PAGE:
        api.madvise(start, (HEADER + size + page - 1) // page * page, ADVICE)
    block = cast(start, BlockPtr)
    block.raw = raw
    block.size = size
    return block


def give(pool: PoolPtr, slots: i64s, count: i64, first: i64, block: BlockPtr) -> i64:
    """Keep the block in an empty slot, else in place of another, unless it is too large to keep."""
    if block.size > pool.keep_bytes // count:
        pool.api.free(block.raw)
        return 0
    for i in range(count):
        k = (first + i) % count * LINE
        if not slots[k] and atomic_cas(slots[k], 0, block):
            return 1
    other = cast(atomic_swap(slots[0], block), BlockPtr)
    if other:
        pool.api.free(other.raw)
    return 1


# Memory of temporaries: of large ones it is kept together with that of results.


def take_arena(pool: PoolPtr, size: i64) -> BlockPtr:
    if size < LARGE:
        return take(pool, pool.arenas, ARENAS, 0, size)
    memory = new_memory(pool, size)
    if not memory:
        return 0
    return cast(memory - HEADER, BlockPtr)


def give_arena(pool: PoolPtr, block: BlockPtr) -> i64:
    if block.size < LARGE:
        return give(pool, pool.arenas, ARENAS, 0, block)
    return free_memory(pool, block + HEADER, 0)


# Memory of results, in the form that NumPy calls (`Handler`). What is freed is kept for the next
# result of about the size: a page of fresh memory costs more than computing what is stored there.


def new_memory(pool: PoolPtr, size: i64) -> ptr:
    """Memory for an array, or 0 when there is none."""
    for i in range(RESULTS):
        if pool.sizes[i] >= size and pool.sizes[i] <= size + size // 4 and pool.results[i]:
            block = cast(atomic_swap(pool.results[i], 0), BlockPtr)
            if block and block.size >= size and block.size <= size + size // 4:
                atomic_add(pool.kept, -block.size)
                return block + HEADER
            if block and not atomic_cas(pool.results[i], 0, block):
                forget(pool, block)
    block = allocate(pool.api, size)
    if not block:
        for i in range(RESULTS):
            forget(pool, cast(atomic_swap(pool.results[i], 0), BlockPtr))
        block = allocate(pool.api, size)
    if not block:
        return 0
    return block + HEADER


def zeroed_memory(pool: PoolPtr, count: i64, size: i64) -> ptr:
    memory = new_memory(pool, count * size)
    if memory:
        pool.api.memset(memory, 0, count * size)
    return memory


def other_memory(pool: PoolPtr, memory: ptr, size: i64) -> ptr:
    """Memory of another size with what was in this one, which is freed (`ndarray.resize`)."""
    found = new_memory(pool, size)
    if found and memory:
        least = cast(memory - HEADER, BlockPtr).size
        if size < least:
            least = size
        pool.api.memcpy(found, memory, least)
        free_memory(pool, memory, 0)
    return found


def free_memory(pool: PoolPtr, memory: ptr, size: i64) -> i64:
    """Keep the memory in an empty slot, and forget what was kept longest if that is too much."""
    if not memory:
        return 0
    block = cast(memory - HEADER, BlockPtr)
    atomic_add(pool.kept, block.size)
    if block.size > pool.keep_results:
        forget(pool, block)
        block = cast(0, BlockPtr)
    k = atomic_add(pool.oldest, 1)
    last = k + RESULTS
    while pool.kept > pool.keep_results and k < last:
        forget(pool, cast(atomic_swap(pool.results[k % RESULTS], 0), BlockPtr))
        k += 1
    if not block:
        return 0
    k = k % RESULTS
    for i in range(RESULTS):
        if not pool.results[i] and atomic_cas(pool.results[i], 0, block):
            pool.sizes[i] = block.size
            return 1
    pool.sizes[k] = block.size
    forget(pool, cast(atomic_swap(pool.results[k], block), BlockPtr))
    return 1


def forget(pool: PoolPtr, block: BlockPtr) -> i64:
    """Free a block that was kept, if it is one."""
    if block:
        atomic_add(pool.kept, -block.size)
        pool.api.free(block.raw)
    return 0
