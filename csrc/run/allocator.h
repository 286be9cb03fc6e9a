/* Memory of arrays that is kept and used again; see allocator.c. */
#ifndef FA_ALLOCATOR_H
#define FA_ALLOCATOR_H
#include <stddef.h>

enum { FA_ALLOCATOR_SMALLEST = 1 << 16 }; /* bytes; smaller arrays are the C library's */

/* As malloc, calloc, realloc and free, large arrays on 64-byte boundaries. What is freed is kept for the next array of
 * about its size, the longest unused given back beyond fa_allocator_limit bytes. `context` is not used; any thread. */
void *fa_allocator_new(void *context, size_t bytes);
void *fa_allocator_zeros(void *context, size_t n, size_t size);
void *fa_allocator_resized(void *context, void *block, size_t bytes);
void fa_allocator_free(void *context, void *block, size_t bytes);

/* The same of large pages, for arrays that last; fa_allocator_free is for them too, and keeps nothing. */
void *fa_allocator_lasting(void *context, size_t bytes);
void *fa_allocator_lasting_zeros(void *context, size_t n, size_t size);

/* Bytes that are kept and not in use. */
size_t fa_allocator_kept(void);

/* Sets how many bytes may be kept, gives back what is more, and returns the limit there was. */
size_t fa_allocator_limit(size_t bytes);
#endif
