/* Configurations beside an autoencoder's weights: the first byte of the input says whose, the rest is the configuration. What
 * loads must encode and reconstruct. */
#include "support/test.h"

#include "core/file.h"
#include "sae/variants/variants.h"

#include <unistd.h>

static const struct {
    char letter;
    const char *sample, *cfg_name, *weights_name;
} kinds[] = {
    {'s', "saelens_standard", "cfg.json", "sae_weights.safetensors"},
    {'g', "saelens_gated", "cfg.json", "sae_weights.safetensors"},
    {'j', "saelens_jumprelu", "cfg.json", "sae_weights.safetensors"},
    {'b', "saelens_checkpoint_batchtopk", "cfg.json", "sae_weights.safetensors"},
    {'t', "saelens_skip_transcoder", "cfg.json", "sae_weights.safetensors"},
    {'p', "sparsify_transcode_skip/layers.16.mlp", "cfg.json", "sae.safetensors"},
    {'d', "dictlearn_batch_topk", "config.json", "ae.pt"},
    {'2', "gemma_scope2_transcoder_affine/transcoder/layer_16_width_16k_l0_small_affine", "config.json",
     "params.safetensors"},
    {'l', "llama_scope", "hyperparams.json", "checkpoints/final.safetensors"},
    {'r', "llama_scope_r1_distill", "config.json", "sae_weights.safetensors"},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds, ROWS = 2, D_MAX = 128 };

static char *folders[N_KINDS]; /* each with a link to its weights */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void remove_folders(void) {
    for (int i = 0; i < N_KINDS; i++)
        if (folders[i]) test_remove_dir(folders[i]);
}

static const char *folder_of(int i) {
    static bool registered;
    char target[1024], path[1024];
    if (folders[i]) return folders[i];
    if (!registered) registered = !atexit(remove_folders);
    char *golden = test_fixture("sae_formats");
    folders[i] = test_make_dir();
    snprintf(path, sizeof path, "%s/checkpoints", folders[i]);
    if (strchr(kinds[i].weights_name, '/') && file_make_dirs(path, NULL)) abort();
    snprintf(target, sizeof target, "%s/%s/%s", golden, kinds[i].sample, kinds[i].weights_name);
    snprintf(path, sizeof path, "%s/%s", folders[i], kinds[i].weights_name);
    if (symlink(target, path)) abort();
    free(golden);
    return folders[i];
}

static void use(const sae *s) {
    static float x[ROWS * D_MAX], x_hat[ROWS * D_MAX];
    sparse_acts acts = {0};
    ctx c = test_ctx(1);
    if (s->cfg.d_in > D_MAX || s->cfg.d_out > D_MAX) abort(); /* the weights are small */
    for (int i = 0; i < ROWS * D_MAX; i++) x[i] = (float)(i % 7) - 3;
    if (sae_encode(&c, s, x, ROWS, &acts, NULL) || sae_reconstruct(&c, s, &acts, x, x_hat, NULL)) abort();
    for (int64_t i = 0; i < acts.indptr[ROWS]; i++)
        if (acts.indices[i] >= s->cfg.d_sae) abort();
    sparse_release(&acts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[1024];
    int i = 0;
    while (i < N_KINDS && size && kinds[i].letter != (char)data[0]) i++;
    if (i == N_KINDS || !size) return 0;
    snprintf(path, sizeof path, "%s/%s", folder_of(i), kinds[i].cfg_name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data + 1, 1, size - 1, f) != size - 1 || fclose(f)) abort();
    sae *s;
    err e = {0};
    const sae_given given = {.k = size % 3 ? 0 : 6, .scaling_factor = size % 2 ? 0 : 1.5};
    if (!sae_load_given(folder_of(i), &given, &s, &e))
        use(s);
    else if (!e.message[0] || strchr(e.message, '\n'))
        abort();
    sae_free(s);
    return 0;
}
