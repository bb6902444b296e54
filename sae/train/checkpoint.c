#include "sae/train/checkpoint.h"
#include "formats/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOLDER_NAME "checkpoint"
#define FILE_NAME   FOLDER_NAME "/state.safetensors"

enum { TENSORS_MAX = 40, PARAMETERS = 8, RUN_LENGTH = SHA256_HEX - 1 };

/* The tensors of a checkpoint, pointing into the state and into the two arrays here. */
typedef struct tensors {
    safetensors_entry all[TENSORS_MAX];
    int n;
    int64_t position[2]; /* steps, rows */
    char run[RUN_LENGTH];
} tensors;

static void add(tensors *t, const char *name, const char *dtype, void *data, size_t size, int n_dims, int64_t rows,
                int64_t columns) {
    t->all[t->n++] = (safetensors_entry){
        .name = name, .dtype = dtype, .n_dims = n_dims, .shape = {rows, columns}, .data = data, .size = size};
}

static void add_floats(tensors *t, const char *name, float *data, int n_dims, int64_t rows, int64_t columns) {
    if (data) add(t, name, "F32", data, (size_t)(rows * columns) * sizeof *data, n_dims, rows, columns);
}

/* names: in the order of the fields of sae */
static void add_parameters(tensors *t, const char *const names[PARAMETERS], sae *s) {
    int64_t n = s->cfg.d_sae, d = s->cfg.d_in, d_out = s->cfg.d_out;
    add_floats(t, names[0], s->W_enc, 2, n, d);
    add_floats(t, names[1], s->W_dec, 2, n, d_out);
    add_floats(t, names[2], s->b_enc, 1, n, 1);
    add_floats(t, names[3], s->b_dec, 1, d_out, 1);
    add_floats(t, names[4], s->threshold, 1, n, 1);
    add_floats(t, names[5], s->b_gate, 1, n, 1);
    add_floats(t, names[6], s->r_mag, 1, n, 1);
    add_floats(t, names[7], s->W_skip, 2, d_out, d);
}

/* The one list of what a checkpoint holds, for writing and for reading. */
static void list_tensors(tensors *t, train_state *s) {
    static const char *const parameters[] = {"W_enc", "W_dec", "b_enc", "b_dec", "threshold", "b_gate", "r_mag", "W_skip"};
    static const char *const means[] = {"m.W_enc",     "m.W_dec",  "m.b_enc", "m.b_dec",
                                        "m.threshold", "m.b_gate", "m.r_mag", "m.W_skip"};
    static const char *const squares[] = {"v.W_enc",     "v.W_dec",  "v.b_enc", "v.b_dec",
                                          "v.threshold", "v.b_gate", "v.r_mag", "v.W_skip"};
    t->n = 0;
    add_parameters(t, parameters, s->learner.s);
    add_parameters(t, means, s->learner.m);
    add_parameters(t, squares, s->learner.v);
    add_floats(t, "centre", s->normal.centre, 1, s->normal.d, 1);
    add_floats(t, "scale", &s->normal.scale, 1, 1, 1);
    add_floats(t, "target.centre", s->target.centre, 1, s->target.d, 1);
    if (s->target.centre) add_floats(t, "target.scale", &s->target.scale, 1, 1, 1);
    add(t, "last", "I64", s->dead.last, (size_t)s->dead.n * sizeof *s->dead.last, 1, s->dead.n, 1);
    add(t, "penalty", "F64", &s->penalty, sizeof s->penalty, 1, sizeof s->penalty / sizeof(double), 1);
    add(t, "position", "I64", t->position, sizeof t->position, 1, 2, 1);
    add(t, "run", "U8", t->run, RUN_LENGTH, 1, RUN_LENGTH, 1);
}

uint64_t checkpoint_bytes(const sae_config *cfg) {
    uint64_t d_in = (uint64_t)cfg->d_in, d_out = (uint64_t)cfg->d_out, skip = cfg->skip ? d_in * d_out : 0;
    return 3 * sizeof(float) * ((uint64_t)cfg->d_sae * (d_in + d_out + 4) + skip + 2 * d_out) + (1 << 16);
}

bool checkpoint_exists(const char *folder) {
    char *path;
    bool there = !path_join(folder, FILE_NAME, &path, NULL) && file_exists(path);
    free(path);
    return there;
}

err_code checkpoint_write(const char *folder, const train_state *s, const char run[SHA256_HEX], err *e) {
    err_code rc;
    char *dir = NULL, *path = NULL;
    tensors t = {.position = {s->learner.steps, s->dead.rows}};
    memcpy(t.run, run, RUN_LENGTH);
    list_tensors(&t, (train_state *)s); /* writing changes nothing */
    TRY(path_join(folder, FOLDER_NAME, &dir, e));
    TRY(path_join(folder, FILE_NAME, &path, e));
    TRY(file_make_dirs(dir, e));
    TRY(safetensors_write(path, t.all, t.n, e));
done:
    free(dir);
    free(path);
    return rc;
}

static err_code read_tensors(const weights *w, const tensors *t, err *e) {
    for (int i = 0; i < t->n; i++) {
        const safetensors_entry *want = &t->all[i];
        const tensor_view *have;
        err_code rc = weights_require(w, want->name, want->n_dims, want->shape, &have, e);
        if (rc) return rc;
        if (strcmp(have->type->name, want->dtype) != 0 || have->size != want->size)
            return err_set(e, ERR_FORMAT, "tensor %s: expected %s, found %s", want->name, want->dtype, have->type->name);
        memcpy((void *)want->data, have->data, want->size);
    }
    return ERR_OK;
}

static err_code check_position(const train_state *s, const tensors *t, err *e) {
    if (t->position[0] < 0 || t->position[1] < 0)
        return err_set(e, ERR_FORMAT, "position: expected two counts, found %lld and %lld", (long long)t->position[0],
                       (long long)t->position[1]);
    for (int64_t i = 0; i < s->dead.n; i++)
        if (s->dead.last[i] < 0 || s->dead.last[i] > t->position[1])
            return err_set(e, ERR_FORMAT, "last[%lld]: expected 0 to %lld rows, found %lld", (long long)i,
                           (long long)t->position[1], (long long)s->dead.last[i]);
    return ERR_OK;
}

err_code checkpoint_read(const char *folder, train_state *s, const char run[SHA256_HEX], err *e) {
    err_code rc;
    char *path = NULL;
    weights *w = NULL;
    tensors t = {0};
    list_tensors(&t, s);
    TRY(path_join(folder, FILE_NAME, &path, e));
    TRY(weights_open(path, &w, e));
    rc = read_tensors(w, &t, e);
    if (!rc && memcmp(t.run, run, RUN_LENGTH) != 0)
        rc = err_set(e, ERR_MISMATCH, "a checkpoint of another run: remove it, or give another folder");
    if (!rc) rc = check_position(s, &t, e);
    if (rc) {
        err_prefix(e, rc, "%s", path);
        goto done;
    }
    s->learner.steps = t.position[0];
    s->dead.rows = t.position[1];
done:
    weights_close(w);
    free(path);
    return rc;
}

err_code checkpoint_remove(const char *folder, err *e) {
    err_code rc;
    char *dir = NULL, *path = NULL, *unfinished = NULL;
    TRY(path_join(folder, FOLDER_NAME, &dir, e));
    TRY(path_join(folder, FILE_NAME, &path, e));
    TRY(path_join(folder, FILE_NAME ".tmp", &unfinished, e)); /* of a writer that was killed */
    if (unlink(path) && errno != ENOENT) rc = err_set_errno(e, "%s: cannot remove", path);
    if (!rc && unlink(unfinished) && errno != ENOENT) rc = err_set_errno(e, "%s: cannot remove", unfinished);
    if (!rc) rmdir(dir); /* unless somebody keeps something else there */
done:
    free(dir);
    free(path);
    free(unfinished);
    return rc;
}
