#include "support/mini_corpus.h"

#include "core/mem.h"
#include "support/test.h"

void mini_corpus_init(mini_corpus *m) {
    *m = (mini_corpus){.pieces = STRBUF_INIT};
    assert_int_equal(mem_grow(&m->offsets, &m->cap_vocab, 1, sizeof *m->offsets, "test", NULL), ERR_OK);
    assert_int_equal(mem_grow(&m->k.doc_offsets, &m->cap_docs, 1, sizeof *m->k.doc_offsets, "test", NULL), ERR_OK);
    m->offsets[0] = m->k.doc_offsets[0] = 0;
}

uint32_t mini_corpus_token(mini_corpus *m, const char *piece) {
    for (int64_t i = 0; i < m->n_vocab; i++)
        if (m->offsets[i + 1] - m->offsets[i] == strlen(piece) &&
            !memcmp(m->pieces.data + m->offsets[i], piece, strlen(piece)))
            return (uint32_t)i;
    strbuf_add_str(&m->pieces, piece);
    assert_int_equal(mem_grow(&m->offsets, &m->cap_vocab, (size_t)m->n_vocab + 2, sizeof *m->offsets, "test", NULL), ERR_OK);
    m->offsets[++m->n_vocab] = m->pieces.len;
    return (uint32_t)m->n_vocab - 1;
}

void mini_corpus_add(mini_corpus *m, const char *source, const char *pieces) {
    char *copy = strdup(pieces);
    for (char *piece = strtok(copy, "|"); piece; piece = strtok(NULL, "|")) {
        assert_int_equal(mem_grow(&m->k.tokens, &m->cap_tokens, (size_t)m->k.n_tokens + 1, sizeof *m->k.tokens, "test", NULL),
                         ERR_OK);
        m->k.tokens[m->k.n_tokens++] = mini_corpus_token(m, piece);
    }
    free(copy);
    assert_int_equal(
        mem_grow(&m->k.doc_offsets, &m->cap_docs, (size_t)m->k.n_docs + 2, sizeof *m->k.doc_offsets, "test", NULL), ERR_OK);
    assert_int_equal(
        mem_grow(&m->k.doc_source, &m->cap_source, (size_t)m->k.n_docs + 1, sizeof *m->k.doc_source, "test", NULL), ERR_OK);
    m->k.doc_source[m->k.n_docs] = strdup(source);
    m->k.doc_offsets[++m->k.n_docs] = (uint64_t)m->k.n_tokens;
}

void mini_corpus_finish(mini_corpus *m, int64_t skip_first) {
    assert_int_equal(mem_new(&m->row_token, (size_t)m->k.n_tokens, sizeof *m->row_token, "test", NULL), ERR_OK);
    for (int64_t d = 0; d < m->k.n_docs; d++)
        for (uint64_t t = m->k.doc_offsets[d] + (uint64_t)skip_first; t < m->k.doc_offsets[d + 1]; t++)
            m->row_token[m->n_rows++] = t;
    err e;
    vocab_view vocab = {m->pieces.data, m->offsets, m->n_vocab};
    assert_ok(corpus_index_build(&m->k, vocab, m->row_token, m->n_rows, &m->index, &e), &e);
}

void mini_corpus_release(mini_corpus *m) {
    corpus_index_release(&m->index);
    for (int64_t d = 0; d < m->k.n_docs; d++) free(m->k.doc_source[d]);
    free(m->k.doc_source);
    free(m->k.doc_offsets);
    free(m->k.tokens);
    free(m->row_token);
    free(m->offsets);
    strbuf_release(&m->pieces);
}
