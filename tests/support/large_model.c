#include "support/large_model.h"

#include "core/half.h"
#include "formats/quant.h"

#include <math.h>
#include <string.h>
#include <sys/resource.h>

enum { TYPE_F32 = 0, META_UINT32 = 4, META_INT32 = 5, META_FLOAT32 = 6, META_TEXT = 8, META_LIST = 9 };
enum { TOKENS = 3 + 256, ALIGNMENT = 32, NAME = 64 };

/* ---- the header ---- */

static void put(FILE *f, uint64_t value, size_t bytes) { fwrite(&value, 1, bytes, f); } /* little-endian machines */

static void put_text(FILE *f, const char *text) {
    put(f, strlen(text), 8);
    fputs(text, f);
}

static void put_key(FILE *f, const char *key, uint32_t type) {
    put_text(f, key);
    put(f, type, 4);
}

static void put_string(FILE *f, const char *key, const char *value) {
    put_key(f, key, META_TEXT);
    put_text(f, value);
}

static void put_size(FILE *f, const char *key, int64_t value) {
    put_key(f, key, META_UINT32);
    put(f, (uint64_t)value, 4);
}

static void put_real(FILE *f, const char *key, float value) {
    put_key(f, key, META_FLOAT32);
    fwrite(&value, sizeof value, 1, f);
}

static void put_list(FILE *f, const char *key, uint32_t type) {
    put_key(f, key, META_LIST);
    put(f, type, 4);
    put(f, TOKENS, 8);
}

static void put_tokenizer(FILE *f) {
    const float score = 0;
    put_string(f, "tokenizer.ggml.model", "llama");
    put_list(f, "tokenizer.ggml.tokens", META_TEXT);
    put_text(f, "<unk>"), put_text(f, "<s>"), put_text(f, "</s>");
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        put_text(f, name);
    }
    put_list(f, "tokenizer.ggml.scores", META_FLOAT32);
    for (int i = 0; i < TOKENS; i++) fwrite(&score, sizeof score, 1, f);
    put_list(f, "tokenizer.ggml.token_type", META_INT32);
    for (int i = 0; i < TOKENS; i++) put(f, i == 0 ? 2 : i < 3 ? 3 : 6, 4); /* unknown, control, bytes */
    put_size(f, "tokenizer.ggml.bos_token_id", 1);
    put_size(f, "tokenizer.ggml.eos_token_id", 2);
}

static void put_metadata(FILE *f, const model_shape *s) {
    put_string(f, "general.architecture", "llama");
    put_string(f, "general.name", "random llama");
    put_size(f, "llama.block_count", s->n_layers);
    put_size(f, "llama.context_length", s->n_ctx);
    put_size(f, "llama.embedding_length", s->d_model);
    put_size(f, "llama.feed_forward_length", s->d_ff);
    put_size(f, "llama.attention.head_count", s->n_heads);
    put_real(f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_tokenizer(f);
}
enum { N_METADATA = 8 + 6 };

/* ---- tensors ---- */

typedef struct matrix {
    char name[NAME];
    int64_t n, k; /* n 0: a norm of k values */
    const quant_type *type;
} matrix;

static int64_t blocks_of(const matrix *m) { return m->n * m->k / m->type->block_size; }
static uint64_t bytes_of(const matrix *m) {
    return m->n ? (uint64_t)blocks_of(m) * m->type->block_bytes : (uint64_t)m->k * 4;
}

enum { PER_LAYER = 9 };

static matrix tensor_at(const model_shape *s, int64_t i) {
    const struct {
        const char *stem;
        int64_t n, k;
    } of_layer[PER_LAYER] =
        {{"attn_norm", 0, s->d_model},       {"attn_q", s->d_model, s->d_model},      {"attn_k", s->d_model, s->d_model},
         {"attn_v", s->d_model, s->d_model}, {"attn_output", s->d_model, s->d_model}, {"ffn_norm", 0, s->d_model},
         {"ffn_gate", s->d_ff, s->d_model},  {"ffn_up", s->d_ff, s->d_model},         {"ffn_down", s->d_model, s->d_ff}},
      ends[] = {{"token_embd", s->n_vocab, s->d_model}, {"output", s->n_vocab, s->d_model}, {"output_norm", 0, s->d_model}};
    matrix m = {.type = quant_by_name(s->type ? s->type : "Q4_0")};
    bool in_layer = i < s->n_layers * PER_LAYER;
    int64_t at = in_layer ? i % PER_LAYER : i - s->n_layers * PER_LAYER;
    m.n = in_layer ? of_layer[at].n : ends[at].n;
    m.k = in_layer ? of_layer[at].k : ends[at].k;
    if (in_layer)
        snprintf(m.name, NAME, "blk.%lld.%s.weight", (long long)(i / PER_LAYER), of_layer[at].stem);
    else
        snprintf(m.name, NAME, "%s.weight", ends[at].stem);
    return m;
}

static void put_info(FILE *f, const matrix *m, uint64_t offset) {
    put_text(f, m->name);
    put(f, m->n ? 2 : 1, 4);
    put(f, (uint64_t)m->k, 8);
    if (m->n) put(f, (uint64_t)m->n, 8);
    put(f, m->n ? m->type->ggml_id : TYPE_F32, 4);
    put(f, offset, 8);
}

/* Where a type's halves stand: the scale, and behind it what goes with the offset. The 6-bit scales of the K types are random. */
static const struct {
    const char *type;
    size_t at;
    int n;
    float scale;
} halves[] = {{"Q4_0", 0, 1, 1},     {"Q4_1", 0, 2, 1},       {"Q5_0", 0, 1, 0.5f},   {"Q5_1", 0, 2, 0.5f},
              {"Q8_0", 0, 1, 0.1f},  {"Q2_K", 80, 2, 0.1f},   {"Q3_K", 108, 1, 0.1f}, {"Q4_K", 0, 2, 0.02f},
              {"Q5_K", 0, 2, 0.01f}, {"Q6_K", 208, 1, 0.005f}};

/* Blocks of random q. Those of Q4_0 have a mean square of 21.5, so rows of k keep the size of what they multiply. */
static void put_matrix(FILE *f, const matrix *m) {
    uint8_t block[256];
    int t = 0;
    while (strcmp(halves[t].type, m->type->name) != 0) t++;
    const uint16_t scale = half_from_f32((float)(halves[t].scale / sqrt(21.5 * (double)m->k)));
    uint64_t state = (uint64_t)m->n * 31 + (uint64_t)m->name[4] + 1;
    for (int64_t left = blocks_of(m); left > 0; left--) {
        for (size_t i = 0; i < m->type->block_bytes; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            block[i] = (uint8_t)(state >> 56);
        }
        for (int i = 0; i < halves[t].n; i++) memcpy(block + halves[t].at + 2 * (size_t)i, &scale, 2);
        fwrite(block, m->type->block_bytes, 1, f);
    }
}

static void put_values(FILE *f, const matrix *m) {
    const float one = 1;
    if (m->n) put_matrix(f, m);
    for (int64_t i = 0; !m->n && i < m->k; i++) fwrite(&one, sizeof one, 1, f);
}

static void pad(FILE *f) {
    while (ftell(f) % ALIGNMENT) fputc(0, f);
}

bool write_large_model(const char *path, const model_shape *s) {
    FILE *f = fopen(path, "wbe");
    int64_t n = s->n_layers * PER_LAYER + 3;
    uint64_t offset = 0;
    if (!f) return false;
    put(f, 0x46554747, 4); /* GGUF */
    put(f, 3, 4);
    put(f, (uint64_t)n, 8);
    put(f, N_METADATA, 8);
    put_metadata(f, s);
    for (int64_t i = 0; i < n; i++) {
        matrix m = tensor_at(s, i);
        put_info(f, &m, offset);
        offset += (bytes_of(&m) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    pad(f);
    for (int64_t i = 0; i < n && !ferror(f); i++) {
        matrix m = tensor_at(s, i);
        put_values(f, &m);
        pad(f);
    }
    bool failed = ferror(f) != 0;
    return !fclose(f) && !failed;
}

int64_t peak_resident_bytes(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (int64_t)u.ru_maxrss * 1024;
}
