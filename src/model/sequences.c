#include "model/sequences.h"

#include "core/mem.h"

#include <stdlib.h>

err_code sequences_add(sequences *s, const uint32_t *tokens, int64_t n, err *e) {
    size_t total = (size_t)(s->n_tokens + n);
    err_code rc;
    TRY(mem_grow(&s->tokens, &s->cap_tokens, total, sizeof *s->tokens, "a batch", e));
    TRY(mem_grow(&s->seq, &s->cap_seq, total, sizeof *s->seq, "a batch", e));
    TRY(mem_grow(&s->pos, &s->cap_pos, total, sizeof *s->pos, "a batch", e));
    TRY(mem_grow(&s->start, &s->cap_start, (size_t)s->n + 2, sizeof *s->start, "a batch", e));
    for (int64_t i = 0; i < n; i++) {
        s->tokens[s->n_tokens + i] = tokens[i];
        s->seq[s->n_tokens + i] = (int32_t)s->n;
        s->pos[s->n_tokens + i] = (int32_t)i;
    }
    s->start[s->n++] = s->n_tokens;
    s->n_tokens += n;
    s->start[s->n] = s->n_tokens;
done:
    return rc;
}

void sequences_clear(sequences *s) { s->n = s->n_tokens = 0; }

void sequences_release(sequences *s) {
    free(s->tokens);
    free(s->seq);
    free(s->pos);
    free(s->start);
    *s = (sequences){0};
}
