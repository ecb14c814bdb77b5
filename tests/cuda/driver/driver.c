/* A stand-in for NVIDIA's driver (libcuda.so.1): one device whose memory is the host's.

   What is queued on a stream runs when somebody waits for it and not before, so that a missing
   wait shows as a wrong value. The legacy default stream (1) comes after all that was queued on
   the others, and they come after it. What is copied from memory that is not pinned is read at once, and copies to
   such memory are finished when the call returns. Kernels are run by a function that the test sets (``stand_in_runs``).
   Blocks of memory lie apart, since a kernel's pointers may point in front of what it reads.
   A stream that captures keeps its work in a graph; what must not be captured is refused. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef unsigned long long Pointer;
enum { GAP = 1 << 16, OK = 0, INVALID = 1, MEMORY = 2, NOT_FOUND = 500, NOT_READY = 600, UNSUPPORTED = 900,
       INVALIDATED = 901, UNJOINED = 904 };
typedef enum { COPY, FILL, LAUNCH, RECORD, WAIT, FREE } Kind;
typedef struct Stream Stream;
typedef struct { long count; Stream *stream; } Event;
typedef struct Kernel Kernel;
typedef struct Op {
    Kind kind; struct Op *next;
    void *to; const void *from; size_t size; int value;      /* COPY, FILL, FREE */
    Kernel *kernel; unsigned shape[6]; void **values;        /* LAUNCH */
    Event *event; long count; Stream *stream;                /* RECORD, WAIT */
} Op;
typedef struct { Op *first, **last; size_t nodes; } Queue;
struct Stream { Queue queue; int number, blocking, running; Queue *graph; int capturing; struct Stream *next; };
struct Kernel { char name[128]; int count; struct Kernel *next; };
typedef struct Block { char *start; size_t size; int pinned, given_back; struct Block *next; } Block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static Stream legacy = {.number = 1, .blocking = 1}, *streams = &legacy;
static Block *blocks;
static size_t live, peak, room = (size_t)1 << 30;
static long recorded, replays, calls[8];
static int next_stream = 10;
static void (*runs)(const char *, unsigned *, void **);
static _Thread_local void *current;

void stand_in_runs(void (*f)(const char *, unsigned *, void **)) { runs = f; }
void stand_in_room(size_t bytes) { room = bytes; }
size_t stand_in_live(void) { return live; }
long stand_in_count(int kind) { return kind < 0 ? replays : calls[kind]; }

static void push(Queue *q, Op *op) {
    if (!q->last) q->last = &q->first;
    op->next = NULL; *q->last = op; q->last = &op->next; q->nodes++;
}
static Op *pop(Queue *q) {
    Op *op = q->first;
    if (op && !(q->first = op->next)) q->last = &q->first;
    return op;
}
static Stream *of(void *handle) {
    return (size_t)handle <= 2 ? &legacy : handle;
}

static Block *block_of(const void *p) {
    for (Block *b = blocks; b; b = b->next)
        if ((char *)p >= b->start - GAP / 2 && (char *)p < b->start + b->size + GAP / 2) return b;
    return NULL;
}
static void forget(void *p) {
    Block **at = &blocks, *b = block_of(p);
    while (*at != b) at = &(*at)->next;
    *at = b->next;
    memset(b->start, 0xA5, b->size); free(b->start - GAP); free(b);
}
static void run_until(Stream *s, Event *event, long count);
static void perform(Stream *s, Op *op) {
    calls[op->kind]++;
    switch (op->kind) {
    case COPY: memmove(op->to, op->from, op->size); break;
    case FILL: memset(op->to, op->value, op->size); break;
    case FREE: forget(op->to); break;
    case LAUNCH:
        pthread_mutex_unlock(&lock);
        runs(op->kernel->name, op->shape, op->values);
        pthread_mutex_lock(&lock);
        break;
    case RECORD: break;
    case WAIT: if (op->event) run_until(op->stream, op->event, op->count); break;
    }
}
static int reached(Event *e, long count) { return e->count >= count; }
static void run_until(Stream *s, Event *event, long count) {  /* all of it without an event */
    while (event ? !reached(event, count) : s->queue.first || s->running) {
        while (s->running) pthread_cond_wait(&changed, &lock);
        Op *op = pop(&s->queue);
        if (!op) break;
        s->running = 1;
        perform(s, op);
        if (op->kind == RECORD) op->event->count = op->count;
        s->running = 0;
        pthread_cond_broadcast(&changed);
    }
}
static void run_all(void) {
    for (Stream *s = streams; s; s = s->next) run_until(s, NULL, 0);
}
/* Order with the legacy stream: a mark on the one, and a wait for it on the other. */
static void order(Stream *after, Stream *before) {
    Op *mark, *wait;
    if (!before->queue.first && !before->running) return;
    Event *event = calloc(1, sizeof *event);
    mark = calloc(1, sizeof *mark); wait = calloc(1, sizeof *wait);
    *mark = (Op){.kind = RECORD, .event = event, .count = 1};
    *wait = (Op){.kind = WAIT, .event = event, .count = 1, .stream = before};
    push(&before->queue, mark); push(&after->queue, wait);
}
static Result add(void *handle, Op made) {
    Op *op = malloc(sizeof *op);
    *op = made;
    pthread_mutex_lock(&lock);
    Stream *s = of(handle);
    if (s->capturing) { push(s->graph, op); pthread_mutex_unlock(&lock); return OK; }
    for (Stream *o = streams; o; o = o->next)
        if (o->capturing && o != s && s == &legacy) {  /* the legacy stream would wait for it */
            o->capturing = 2; pthread_mutex_unlock(&lock); return UNSUPPORTED;
        }
    if (s == &legacy) { for (Stream *o = streams; o; o = o->next) if (o != s && o->blocking) order(s, o); }
    else if (s->blocking) order(s, &legacy);
    push(&s->queue, op);
    pthread_mutex_unlock(&lock);
    return OK;
}
static Result waited(void *handle) {
    pthread_mutex_lock(&lock);
    Stream *s = of(handle);
    if (s->capturing) { s->capturing = 2; pthread_mutex_unlock(&lock); return UNSUPPORTED; }
    run_until(s, NULL, 0);
    pthread_mutex_unlock(&lock);
    return OK;
}
static Result take(void **p, size_t size, int pinned) {
    pthread_mutex_lock(&lock);
    if (!pinned && live + size > room) { pthread_mutex_unlock(&lock); return MEMORY; }
    Block *b = calloc(1, sizeof *b);
    b->start = (char *)aligned_alloc(256, (size / 256 + 1) * 256 + 2 * GAP) + GAP;
    memset(b->start, 0xA5, size);
    b->size = size; b->pinned = pinned; b->next = blocks; blocks = b;
    if (!pinned) { live += size; if (live > peak) peak = live; }
    *p = b->start;
    pthread_mutex_unlock(&lock);
    return OK;
}
static Result give(void *p, void *stream, int now) {
    pthread_mutex_lock(&lock);
    Block *b = block_of(p);
    if (!b || b->start != p || b->given_back) { pthread_mutex_unlock(&lock); return INVALID; }
    b->given_back = 1;
    if (!b->pinned) live -= b->size;
    if (now) { run_all(); forget(p); }
    pthread_mutex_unlock(&lock);
    return now ? OK : add(stream, (Op){.kind = FREE, .to = p, .size = 0});
}
/* The memory that an address belongs to; it may lie somewhat outside. */
size_t stand_in_block(const void *p, char **start) {
    pthread_mutex_lock(&lock);
    Block *b = block_of(p);
    pthread_mutex_unlock(&lock);
    *start = b ? b->start : NULL;
    return b ? b->size : 0;
}

/* -- the device ------------------------------------------------------------------------------- */

Result cuInit(unsigned f) { return OK; }
Result cuDriverGetVersion(int *v) { *v = 13000; return OK; }
Result cuGetErrorName(Result e, const char **s) {
    *s = e == OK ? "CUDA_SUCCESS" : e == MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : e == UNSUPPORTED
        ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" : e == INVALIDATED
        ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}
Result cuGetErrorString(Result e, const char **s) { return cuGetErrorName(e, s); }
Result cuDeviceGetCount(int *n) { *n = 1; return OK; }
Result cuDeviceGet(int *d, int k) { *d = k; return k ? 101 : OK; }
Result cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "stand-in"); return OK; }
Result cuDeviceTotalMem(size_t *n, int d) { *n = room; return OK; }
Result cuDeviceGetAttribute(int *v, int a, int d) {
    switch (a) {
    case 1: *v = 1024; break;                                    /* threads of a block */
    case 2: case 3: *v = 1024; break;
    case 4: *v = 64; break;
    case 5: *v = 2147483647; break;
    case 6: case 7: *v = 65535; break;
    case 8: *v = 49152; break;
    case 10: *v = 32; break;
    case 16: *v = 4; break;                                      /* multiprocessors */
    case 75: *v = 9; break; case 76: *v = 0; break;              /* sm_90 */
    case 115: case 116: *v = 1; break;                           /* memory pools */
    default: *v = 1;
    }
    return OK;
}
Result cuDeviceGetUuid(char *u, int d) { memset(u, 7, 16); return OK; }
static int context;
Result cuDevicePrimaryCtxRetain(void **c, int d) { *c = &context; return OK; }
Result cuDevicePrimaryCtxRelease(int d) { return OK; }
Result cuDevicePrimaryCtxGetState(int d, unsigned *f, int *a) { *f = 0; *a = 1; return OK; }
Result cuCtxSetCurrent(void *c) { current = c; return OK; }
Result cuCtxGetCurrent(void **c) { *c = current; return OK; }
Result cuCtxPushCurrent(void *c) { current = c; return OK; }
Result cuCtxPopCurrent(void **c) { *c = current; return OK; }
Result cuCtxGetDevice(int *d) { *d = 0; return current ? OK : 201; }
Result cuCtxGetId(void *c, unsigned long long *n) { *n = 1; return OK; }
Result cuCtxGetStreamPriorityRange(int *l, int *h) { *l = 0; *h = -5; return OK; }
Result cuCtxSynchronize(void) {
    pthread_mutex_lock(&lock); run_all(); pthread_mutex_unlock(&lock); return OK;
}

/* -- memory ----------------------------------------------------------------------------------- */

static int pool;
Result cuDeviceGetDefaultMemPool(void **p, int d) { *p = &pool; return OK; }
Result cuDeviceGetMemPool(void **p, int d) { *p = &pool; return OK; }
Result cuDeviceSetMemPool(int d, void *p) { return OK; }
Result cuMemPoolCreate(void **p, void *props) { *p = &pool; return OK; }
Result cuMemPoolDestroy(void *p) { return OK; }
Result cuMemPoolTrimTo(void *p, size_t n) { return OK; }
Result cuMemPoolSetAttribute(void *p, int a, void *v) { return OK; }
Result cuMemPoolSetAccess(void *p, void *d, size_t n) { return OK; }
Result cuMemPoolGetAccess(int *flags, void *p, void *l) { *flags = 3; return OK; }
Result cuMemGetMemPool(void **p, void *l, int t) { *p = &pool; return OK; }
Result cuMemGetDefaultMemPool(void **p, void *l, int t) { *p = &pool; return OK; }
Result cuMemPoolGetAttribute(void *p, int a, void *v) {
    *(unsigned long long *)v = a == 6 ? live : a == 8 ? peak : 0; return OK;
}
static int capturing(void *stream) {
    Stream *s = of(stream);
    if (s->capturing) s->capturing = 2;
    return s->capturing;
}
Result cuMemAllocFromPoolAsync(void **p, size_t n, void *l, void *s) {
    return capturing(s) ? UNSUPPORTED : take(p, n, 0);
}
Result cuMemAllocAsync(void **p, size_t n, void *s) { return capturing(s) ? UNSUPPORTED : take(p, n, 0); }
Result cuMemFreeAsync(void *p, void *s) { return capturing(s) ? UNSUPPORTED : give(p, s, 0); }
Result cuMemAlloc(void **p, size_t n) { return take(p, n, 0); }
Result cuMemFree(void *p) { return give(p, NULL, 1); }
Result cuMemAllocHost(void **p, size_t n) { return take(p, n, 1); }
Result cuMemHostAlloc(void **p, size_t n, unsigned f) { return take(p, n, 1); }
Result cuMemFreeHost(void *p) { return give(p, NULL, 1); }
Result cuPointerGetAttribute(void *v, int a, void *p) {
    Block *b = block_of(p);
    if (!b) return INVALID;
    if (a == 2) *(unsigned *)v = b->pinned ? 1 : 2;
    else if (a == 9) *(int *)v = 0;
    else *(void **)v = p;
    return OK;
}
Result cuPointerGetAttributes(unsigned n, int *a, void **v, void *p) {
    for (unsigned k = 0; k < n; k++)
        if (cuPointerGetAttribute(v[k], a[k], p)) { if (a[k] == 2) *(unsigned *)v[k] = 0; else memset(v[k], 0, 4); }
    return OK;
}
static int pinned(const void *p) { Block *b = block_of(p); return b && b->pinned; }
Result cuMemcpyHtoDAsync(void *to, const void *from, size_t n, void *s) {
    if (!pinned(from)) from = memcpy(malloc(n), from, n);
    return add(s, (Op){.kind = COPY, .to = to, .from = from, .size = n});
}
Result cuMemcpyDtoHAsync(void *to, const void *from, size_t n, void *s) {
    Result r = add(s, (Op){.kind = COPY, .to = to, .from = from, .size = n});
    return r || pinned(to) ? r : waited(s);
}
Result cuMemcpyDtoDAsync(void *to, const void *from, size_t n, void *s) { return add(s, (Op){.kind = COPY, .to = to, .from = from, .size = n}); }
Result cuMemcpyAsync(void *to, const void *from, size_t n, void *s) { return add(s, (Op){.kind = COPY, .to = to, .from = from, .size = n}); }
Result cuMemsetD8Async(void *to, unsigned char v, size_t n, void *s) {
    return add(s, (Op){.kind = FILL, .to = to, .value = v, .size = n});
}

/* -- streams and events ----------------------------------------------------------------------- */

Result cuStreamCreateWithPriority(Stream **s, unsigned flags, int priority) {
    *s = calloc(1, sizeof **s);
    pthread_mutex_lock(&lock);
    (*s)->number = next_stream++; (*s)->blocking = !(flags & 1);
    (*s)->next = streams; streams = *s;
    pthread_mutex_unlock(&lock);
    return OK;
}
Result cuStreamCreate(Stream **s, unsigned flags) { return cuStreamCreateWithPriority(s, flags, 0); }
Result cuStreamDestroy(Stream *s) { return waited(s); }
Result cuStreamSynchronize(void *s) { return waited(s); }
Result cuStreamQuery(void *s) { return of(s)->queue.first ? NOT_READY : OK; }
Result cuStreamGetPriority(void *s, int *p) { *p = 0; return OK; }
Result cuStreamGetFlags(void *s, unsigned *f) { *f = !of(s)->blocking; return OK; }
Result cuStreamGetCtx(void *s, void **c) { *c = &context; return OK; }
Result cuStreamGetDevice(void *s, int *d) { *d = 0; return OK; }
Result cuStreamGetId(void *s, unsigned long long *n) { *n = of(s)->number; return OK; }
Result cuEventCreate(Event **e, unsigned f) { *e = calloc(1, sizeof **e); return OK; }
Result cuEventDestroy(Event *e) { return OK; }
Result cuEventRecord(Event *e, void *s) {
    long count = __atomic_add_fetch(&recorded, 1, __ATOMIC_SEQ_CST);
    Result r = add(s, (Op){.kind = RECORD, .event = e, .count = count});
    e->stream = of(s); e->count = -count;
    return r;
}
static long wanted(Event *e) { return e->count < 0 ? -e->count : e->count; }
Result cuStreamWaitEvent(void *s, Event *e, unsigned f) {
    if (!e->stream || e->count >= 0) return OK;
    return add(s, (Op){.kind = WAIT, .event = e, .count = wanted(e), .stream = e->stream});
}
Result cuEventSynchronize(Event *e) {
    if (!e->stream || e->count >= 0) return OK;
    pthread_mutex_lock(&lock); run_until(e->stream, e, wanted(e)); pthread_mutex_unlock(&lock);
    return OK;
}
Result cuEventQuery(Event *e) { return e->stream && e->count < 0 ? NOT_READY : OK; }

/* -- kernels ---------------------------------------------------------------------------------- */

static Kernel *kernels;
Result cuLibraryLoadData(Kernel **library, const char *ptx, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
    Kernel *k = calloc(1, sizeof *k);
    const char *at = strstr(ptx, ".entry ");
    if (!at || sscanf(at, ".entry %127[^( ]", k->name) != 1) return 218;
    for (at = strstr(at, ".param"); at; at = strstr(at + 1, ".param")) k->count++;
    k->next = kernels; kernels = k; *library = k;
    return OK;
}
Result cuLibraryUnload(Kernel *k) { return OK; }
Result cuLibraryGetKernel(Kernel **kernel, Kernel *library, const char *name) {
    *kernel = library; return strcmp(name, library->name) ? NOT_FOUND : OK;
}
Result cuLibraryGetKernelCount(unsigned *n, Kernel *library) { *n = 1; return OK; }
Result cuKernelGetAttribute(int *v, int a, Kernel *k, int d) { *v = a == 0 ? 1024 : 32; return OK; }
Result cuKernelGetFunction(Kernel **f, Kernel *k) { *f = k; return OK; }
Result cuKernelGetLibrary(Kernel **l, Kernel *k) { *l = k; return OK; }
Result cuFuncGetAttribute(int *v, int a, Kernel *k) { *v = a == 0 ? 1024 : 32; return OK; }
Result cuFuncGetModule(void **m, Kernel *k) { *m = k; return OK; }
Result cuLaunchKernel(Kernel *k, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **given, void **extra) {
    if (!gx || !gy || !gz || bx * by * bz > 1024 || gy > 65535) return INVALID;
    void **values = malloc(sizeof(void *) * (k->count + 1));
    for (int n = 0; n < k->count; n++) values[n] = *(void **)given[n];
    return add(stream, (Op){.kind = LAUNCH, .kernel = k, .values = values, .shape = {gx, gy, gz, bx, by, bz}});
}

/* -- graphs ----------------------------------------------------------------------------------- */

Result cuStreamBeginCapture(void *s, int mode) {
    Stream *at = of(s);
    if (at == &legacy || at->capturing) return UNSUPPORTED;
    at->graph = calloc(1, sizeof *at->graph); at->capturing = 1;
    return OK;
}
Result cuStreamBeginCaptureToGraph(void *s, Queue *g, void *d, void *e, size_t n, int mode) {
    Result r = cuStreamBeginCapture(s, mode);
    if (!r) of(s)->graph = g;
    return r;
}
Result cuStreamEndCapture(void *s, Queue **g) {
    Stream *at = of(s);
    int state = at->capturing;
    *g = state == 1 ? at->graph : NULL; at->capturing = 0;
    return state == 1 ? OK : state == 2 ? INVALIDATED : INVALID;
}
Result cuStreamIsCapturing(void *s, int *state) { *state = of(s)->capturing; return OK; }
Result cuStreamGetCaptureInfo(void *s, int *state, unsigned long long *id, Queue **g, void **d, void **e, size_t *n) {
    *state = of(s)->capturing;
    if (id) *id = 1;
    if (g) *g = of(s)->graph;
    if (d) *d = NULL;
    if (e) *e = NULL;
    if (n) *n = 0;
    return OK;
}
Result cuThreadExchangeStreamCaptureMode(int *m) { return OK; }
Result cuGraphCreate(Queue **g, unsigned f) { *g = calloc(1, sizeof **g); return OK; }
Result cuGraphDestroy(Queue *g) { return g ? OK : INVALID; }
Result cuGraphInstantiate(Queue **x, Queue *g, unsigned long long f) { *x = g; return OK; }
Result cuGraphInstantiateWithFlags(Queue **x, Queue *g, unsigned long long f) { *x = g; return OK; }
typedef struct { unsigned long long flags; void *stream; void *node; int result; } Instantiate;
Result cuGraphInstantiateWithParams(Queue **x, Queue *g, Instantiate *p) { *x = g; p->result = 0; return OK; }
Result cuGraphExecDestroy(Queue *x) { return OK; }
Result cuGraphUpload(Queue *x, void *s) { return OK; }
Result cuGraphGetNodes(Queue *g, void **nodes, size_t *n) { *n = g->nodes; return OK; }
Result cuUserObjectCreate(void **o, void *p, void *destroy, unsigned n, unsigned f) { *o = calloc(1, 8); return OK; }
Result cuUserObjectRetain(void *o, unsigned n) { return OK; }
Result cuUserObjectRelease(void *o, unsigned n) { return OK; }
Result cuGraphRetainUserObject(Queue *g, void *o, unsigned n, unsigned f) { return OK; }
Result cuGraphReleaseUserObject(Queue *g, void *o, unsigned n) { return OK; }
Result cuGraphLaunch(Queue *x, void *s) {
    replays++;
    for (Op *op = x->first; op; op = op->next) { Result r = add(s, *op); if (r) return r; }
    return OK;
}

/* -- how others find all that ----------------------------------------------------------------- */

Result cuGetProcAddress_v2(const char *name, void **place, int version, unsigned long long flags, int *status) {
    static void *self;
    if (!self) self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    *place = strcmp(name, "cuGetProcAddress") ? dlsym(self, name) : (void *)cuGetProcAddress_v2;
    if (!*place && getenv("STAND_IN_LOG")) fprintf(stderr, "the stand-in has no %s\n", name);
    if (status) *status = *place ? 0 : 1;
    return *place ? OK : NOT_FOUND;
}
