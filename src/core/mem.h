/* mem.h — allocation with checked sizes, and an arena for scratch.
 *
 * Everything allocated here is 64-byte aligned and freed with free(). Sizes that come from files go through mem_mul or the
 * two-argument calls, never through a bare multiplication.
 */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a * b; false on overflow. */
static inline bool mem_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool mem_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* count * size bytes, 64-byte aligned, uninitialised (mem_new) or zero (mem_new0). *out is NULL on failure; count 0 is fine.
 * Owned by the caller, free with free(). `what` names the memory in the error message. */
err_code mem_new(void *out /* T** */, size_t count, size_t size, const char *what, err *e);
err_code mem_new0(void *out /* T** */, size_t count, size_t size, const char *what, err *e);

/* As mem_new, on large pages where the system has them: for what is used whole, and read from end to end again and again. */
err_code mem_new_large(void *out /* T** */, size_t count, size_t size, const char *what, err *e);

/* A growing array: makes room for at least `count` items of `size` bytes in *data, doubling *cap; old items keep their values. */
err_code mem_grow(void *data /* T** */, size_t *cap, size_t count, size_t size, const char *what, err *e);

/* ERR_NOMEM, with what is there, when the system or the process's control group has less than `bytes` free: before a long run takes
 * them one by one. Always fine where neither says. */
err_code mem_check_free(size_t bytes, const char *what, err *e);

/* What a control group (Linux, version 2: memory.max, memory.current, memory.stat in a folder) leaves, its caches counted as free;
 * SIZE_MAX where it sets no limit. */
size_t mem_free_in_group(const char *dir);

/* Scratch of one forward or training step: take what a step needs, then reset. Blocks stay allocated between steps. */
typedef struct arena_block arena_block;
typedef struct arena {
    arena_block *blocks; /* newest first */
} arena;

err_code arena_take(arena *a, void *out /* T** */, size_t count, size_t size, err *e); /* valid until reset or release */
void arena_reset(arena *a);                                                            /* keeps the memory, one block */
void arena_release(arena *a);

#endif
