/* Arrays of a training step: memory that was used before, in place of new pages.
 *
 * A step makes and drops some hundred arrays of 0.1 to 4 MB. The C library returns such blocks to the system when the
 * last of them goes, and the next step gets them back a page at a time: a fault, and 4 KB of zeros, for each. A step of
 * Bahdanau's model with 64 words of 8 letters took 2 100 faults, 5 of 66 ms; with kept memory it takes none.
 *
 *     block:  [ links, label: 64 bytes | array, on a 64-byte boundary ]
 *     bins:   sizes between two powers of two in 8 steps, so that a block is at most 1/8 larger than what it holds
 *     order:  the newest block of a bin is taken (it may be in the cache); the oldest of all is given back first
 *
 * Small arrays, [ label | array ], are left to the C library, which keeps them itself.
 *
 * What lasts, as parameters, their gradients, moments and packed forms do, lies side by side in slabs of large pages:
 * an array of 1 MB has none of its own, and kernels that read rows some KB apart wait for addresses to be looked up.
 * A slab goes back when all of its arrays are gone; no array is moved. */
#define _DEFAULT_SOURCE /* madvise */
#include "allocator.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, STEPS = 8, BINS = 64 * STEPS, HUGE_PAGES = 1 << 22, PAGE = 4096, LARGE = 1 << 21, SLAB = 1 << 25 };

typedef struct {
    size_t bytes; /* of the array; of a bin's blocks the most that they hold */
    int64_t bin;  /* -1: small, -2: in a slab */
} label;

typedef struct block {
    struct block *newer, *older, *newer_in_bin, *older_in_bin; /* of those that are kept */
    label unused, label;
} block;

/* At the beginning of its memory. A block of a slab has it for `newer`. */
typedef struct slab {
    size_t bytes, used, arrays;
} slab;

_Static_assert(sizeof(block) == ALIGN && sizeof(slab) <= ALIGN, "an array begins on a boundary");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static block *newest, *oldest, *bins[BINS];
static size_t kept;
static slab *filling;       /* the slab that the next array comes from */
#ifdef __SANITIZE_ADDRESS__ /* a use after free is seen, and one beyond the end */
static size_t limit = 0;
static const int slabs = 0;
#else
static size_t limit = (size_t)256 << 20;
static const int slabs = 1;
#endif

static void enter(void) { pthread_mutex_lock(&lock); }
static void leave(void) { pthread_mutex_unlock(&lock); }
static void survive_fork(void) { pthread_atfork(enter, leave, leave); }

static label *label_of(void *array) { return (label *)array - 1; }

/* The bin for `bytes`, and the bytes of its blocks. */
static int64_t bin_of(size_t *bytes) {
    int power = 63 - __builtin_clzll(*bytes);
    size_t step = ((size_t)1 << power) / STEPS, count = (*bytes + step - 1) / step; /* STEPS to 2 STEPS */
    *bytes = count * step;
    return power * STEPS + (int64_t)(count - STEPS); /* 2 STEPS: the first of the next power */
}

static void drop_links(block *b) {
    *(b->newer ? &b->newer->older : &newest) = b->older;
    *(b->older ? &b->older->newer : &oldest) = b->newer;
    *(b->newer_in_bin ? &b->newer_in_bin->older_in_bin : &bins[b->label.bin]) = b->older_in_bin;
    if (b->older_in_bin) b->older_in_bin->newer_in_bin = b->newer_in_bin;
    kept -= b->label.bytes;
}

/* Gives back the oldest until at most `most` bytes are kept. */
static void shrink(size_t most) {
    while (kept > most) {
        block *b = oldest;
        drop_links(b);
        free(b);
    }
}

static block *make(size_t bytes) {
    block *b = aligned_alloc(ALIGN, sizeof(block) + bytes);
#ifdef MADV_HUGEPAGE
    if (b && bytes >= HUGE_PAGES) { /* as NumPy asks for its own arrays */
        size_t first = (PAGE - (uintptr_t)b % PAGE) % PAGE;
        madvise((char *)b + first, bytes - first, MADV_HUGEPAGE);
    }
#endif
    return b;
}

void *fa_allocator_new(void *context, size_t bytes) {
    (void)context;
    if (bytes > SIZE_MAX / 4) return NULL;
    if (bytes < FA_ALLOCATOR_SMALLEST) {
        label *l = malloc(sizeof(label) + bytes);
        if (!l) return NULL;
        *l = (label){bytes, -1};
        return l + 1;
    }
    int64_t bin = bin_of(&bytes);
    pthread_once(&once, survive_fork);
    enter();
    block *b = bins[bin];
    if (b) drop_links(b);
    leave();
    if (!b && !(b = make(bytes))) {
        enter();
        shrink(0);
        leave();
        if (!(b = make(bytes))) return NULL;
    }
    b->label = (label){bytes, bin};
    return b + 1;
}

static slab *make_slab(size_t bytes) {
    slab *s = aligned_alloc(LARGE, bytes);
    if (!s) return NULL;
#ifdef MADV_HUGEPAGE
    madvise(s, bytes, MADV_HUGEPAGE);
#endif
    *s = (slab){bytes, ALIGN, 0};
    return s;
}

void *fa_allocator_lasting(void *context, size_t bytes) {
    if (!slabs || bytes < FA_ALLOCATOR_SMALLEST || bytes > SIZE_MAX / 4) return fa_allocator_new(context, bytes);
    const size_t needed = sizeof(block) + (bytes + ALIGN - 1) / ALIGN * ALIGN;
    pthread_once(&once, survive_fork);
    enter();
    slab *s = filling;
    if (needed > SLAB / 4)
        s = make_slab((ALIGN + needed + LARGE - 1) / LARGE * LARGE); /* of its own */
    else if (!s || s->used + needed > s->bytes) {
        s = make_slab(SLAB);
        if (s && filling && !filling->arrays) free(filling);
        if (s) filling = s;
    }
    block *b = NULL;
    if (s) {
        b = (block *)((char *)s + s->used);
        s->used += needed;
        s->arrays++;
        *b = (block){.newer = (block *)s, .label = {bytes, -2}};
    }
    leave();
    return b ? b + 1 : NULL;
}

void *fa_allocator_lasting_zeros(void *context, size_t n, size_t size) {
    if (size && n > SIZE_MAX / size) return NULL;
    void *array = fa_allocator_lasting(context, n * size);
    if (array) memset(array, 0, n * size);
    return array;
}

static void leave_slab(slab *s) {
    enter();
    if (!--s->arrays) {
        s->used = ALIGN;
        if (s != filling) free(s);
    }
    leave();
}

void *fa_allocator_zeros(void *context, size_t n, size_t size) {
    if (size && n > SIZE_MAX / size) return NULL;
    void *array = fa_allocator_new(context, n * size);
    return array ? memset(array, 0, n * size) : NULL;
}

void *fa_allocator_resized(void *context, void *array, size_t bytes) {
    void *larger = fa_allocator_new(context, bytes);
    if (larger && array) {
        size_t before = label_of(array)->bytes;
        memcpy(larger, array, before < bytes ? before : bytes);
        fa_allocator_free(context, array, before);
    }
    return larger;
}

void fa_allocator_free(void *context, void *array, size_t bytes) {
    (void)context, (void)bytes;
    if (!array) return;
    block *b = (block *)array - 1;
    if (label_of(array)->bin == -2) {
        leave_slab((slab *)b->newer);
        return;
    }
    if (label_of(array)->bin < 0) {
        free(label_of(array));
        return;
    }
    enter();
    block **bin = &bins[b->label.bin];
    b->newer = b->newer_in_bin = NULL;
    b->older = newest;
    b->older_in_bin = *bin;
    *(newest ? &newest->newer : &oldest) = b;
    if (*bin) (*bin)->newer_in_bin = b;
    newest = *bin = b;
    kept += b->label.bytes;
    shrink(limit);
    leave();
}

size_t fa_allocator_kept(void) {
    enter();
    size_t found = kept;
    leave();
    return found;
}

size_t fa_allocator_limit(size_t bytes) {
    enter();
    size_t before = limit;
    limit = bytes;
    shrink(limit);
    leave();
    return before;
}
