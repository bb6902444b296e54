#include "core/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { ALIGNMENT = 64, LARGE_PAGE = 2 << 20, ARENA_BLOCK_MIN = 1 << 20 };

static bool round_up(size_t n, size_t alignment, size_t *out) {
    if (!mem_add(n, alignment - 1, out)) return false;
    *out &= ~(alignment - 1);
    return true;
}

err_code mem_new(void *out, size_t count, size_t size, const char *what, err *e) {
    size_t bytes, rounded;
    void *p = NULL;
    if (mem_mul(count, size, &bytes) && round_up(bytes ? bytes : 1, ALIGNMENT, &rounded))
        p = aligned_alloc(ALIGNMENT, rounded);
    memcpy(out, &p, sizeof p);
    return p ? ERR_OK : err_nomem(e, what, (unsigned long long)count * size);
}

err_code mem_new0(void *out, size_t count, size_t size, const char *what, err *e) {
    err_code rc = mem_new(out, count, size, what, e);
    if (rc) return rc;
    void *p;
    memcpy(&p, out, sizeof p);
    memset(p, 0, count * size);
    return ERR_OK;
}

err_code mem_new_large(void *out, size_t count, size_t size, const char *what, err *e) {
    size_t bytes, rounded;
    void *p;
    if (!mem_mul(count, size, &bytes) || bytes < 2 * LARGE_PAGE || !round_up(bytes, LARGE_PAGE, &rounded))
        return mem_new(out, count, size, what, e);
    p = aligned_alloc(LARGE_PAGE, rounded);
#if defined(MADV_HUGEPAGE)
    if (p) madvise(p, rounded, MADV_HUGEPAGE); /* a wish: it may be refused */
#endif
    memcpy(out, &p, sizeof p);
    return p ? ERR_OK : err_nomem(e, what, bytes);
}

/* The number in the first line that has this form. */
static bool number_in(const char *path, const char *form, size_t *out) {
    char line[128];
    bool found = false;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    while (!found && fgets(line, sizeof line, f)) found = sscanf(line, form, out) == 1;
    fclose(f);
    return found;
}

size_t mem_free_in_group(const char *dir) {
    char path[3][256];
    size_t limit, used, cached = 0;
    snprintf(path[0], sizeof path[0], "%s/memory.max", dir); /* "max" where there is none */
    snprintf(path[1], sizeof path[1], "%s/memory.current", dir);
    snprintf(path[2], sizeof path[2], "%s/memory.stat", dir);
    if (!number_in(path[0], "%zu", &limit) || !number_in(path[1], "%zu", &used)) return SIZE_MAX;
    number_in(path[2], "file %zu", &cached);
    used = used > cached ? used - cached : 0;
    return limit > used ? limit - used : 0;
}

/* Linux: free, and what caches would give back; a container sees its group at the root. */
static size_t free_bytes(void) {
    size_t kib, system = number_in("/proc/meminfo", "MemAvailable: %zu kB", &kib) ? kib << 10 : SIZE_MAX;
    size_t group = mem_free_in_group("/sys/fs/cgroup");
    return system < group ? system : group;
}

err_code mem_check_free(size_t bytes, const char *what, err *e) {
    size_t there = free_bytes();
    if (bytes <= there) return ERR_OK;
    return err_set(e, ERR_NOMEM, "%s: expected %.1f GB of free memory, found %.1f GB", what, (double)bytes / 1e9,
                   (double)there / 1e9);
}

err_code mem_grow(void *data, size_t *cap, size_t count, size_t size, const char *what, err *e) {
    if (count <= *cap) return ERR_OK;
    size_t wanted = *cap ? *cap : 16;
    while (wanted < count)
        if (!mem_mul(wanted, 2, &wanted)) return err_nomem(e, what, (unsigned long long)count * size);
    void *old, *new;
    memcpy(&old, data, sizeof old);
    err_code rc = mem_new(&new, wanted, size, what, e);
    if (rc) return rc;
    if (*cap) memcpy(new, old, *cap * size);
    free(old);
    memcpy(data, &new, sizeof new);
    *cap = wanted;
    return ERR_OK;
}

/* ---- arena ---- */

struct arena_block {
    arena_block *next;
    size_t used, size; /* of the bytes behind this header */
    char padding[ALIGNMENT - 3 * sizeof(size_t)];
};

static char *block_bytes(arena_block *b) { return (char *)b + sizeof *b; }

static err_code block_new(arena *a, size_t size, err *e) {
    arena_block *b;
    err_code rc = mem_new_large(&b, size + sizeof *b, 1, "scratch", e);
    if (rc) return rc;
    *b = (arena_block){.next = a->blocks, .size = size};
    ASAN_POISON_MEMORY_REGION(block_bytes(b), size);
    a->blocks = b;
    return ERR_OK;
}

static void block_free(arena_block *b) {
    ASAN_UNPOISON_MEMORY_REGION(block_bytes(b), b->size);
    free(b);
}

err_code arena_take(arena *a, void *out, size_t count, size_t size, err *e) {
    size_t bytes, rounded;
    if (!mem_mul(count, size, &bytes) || !round_up(bytes, ALIGNMENT, &rounded) || rounded > SIZE_MAX / 4)
        return err_nomem(e, "scratch", (unsigned long long)count * size);
    if (!a->blocks || a->blocks->size - a->blocks->used < rounded) {
        err_code rc = block_new(a, rounded > ARENA_BLOCK_MIN ? rounded : ARENA_BLOCK_MIN, e);
        if (rc) return rc;
    }
    void *p = block_bytes(a->blocks) + a->blocks->used;
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
    a->blocks->used += rounded;
    memcpy(out, &p, sizeof p);
    return ERR_OK;
}

/* Several blocks become one with room for what was taken, so that a steady state takes from a single block. */
void arena_reset(arena *a) {
    if (!a->blocks) return;
    if (a->blocks->next) {
        size_t total = 0; /* and a little, for what is taken varies a little */
        for (arena_block *b = a->blocks; b; b = b->next) total += b->used;
        arena_release(a);
        if (block_new(a, total + total / 32, NULL)) return; /* the next take tries again, and reports */
    }
    a->blocks->used = 0;
    ASAN_POISON_MEMORY_REGION(block_bytes(a->blocks), a->blocks->size);
}

void arena_release(arena *a) {
    for (arena_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        block_free(b);
    }
    a->blocks = NULL;
}
