#include "text/folder.h"

#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 28 }; /* Gemma's tokenizer.json, among the largest, has 33 MB */

err_code model_folder(const weights *w, char **out, err *e) {
    const char *path = weights_path(w), *base = path_base(path);
    bool is_dir = file_is_dir(path);
    if (is_dir || base == path)
        *out = strdup(is_dir ? path : ".");
    else
        *out = strndup(path, (size_t)(base - path));
    return *out ? ERR_OK : err_nomem(e, "a path", strlen(path));
}

/* Without allocating: a file that is there must not seem absent when memory is short. */
bool model_folder_has(const char *folder, const char *name) {
    char path[4096]; /* the system's longest */
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && file_exists(path);
}

err_code model_folder_read(const char *folder, const char *name, char **out, size_t *n, err *e) {
    char *path;
    err_code rc = path_join(folder, name, &path, e);
    if (rc) return rc;
    rc = file_read(path, FILE_BYTES_MAX, out, n, e);
    free(path);
    return rc;
}

err_code model_folder_json(const char *folder, const char *name, json_t **out, err *e) {
    char *text = NULL;
    size_t n;
    json_error_t why;
    *out = NULL;
    if (!model_folder_has(folder, name)) return ERR_OK;
    err_code rc = model_folder_read(folder, name, &text, &n, e);
    if (rc) return rc;
    *out = json_loadb(text, n, JSON_ALLOW_NUL, &why);
    free(text);
    if (*out && json_is_object(*out)) return ERR_OK;
    rc = *out ? err_set(e, ERR_FORMAT, "%s: expected a JSON object", name)
              : err_set(e, ERR_FORMAT, "%s: %s at byte %d", name, why.text, why.position);
    json_decref(*out);
    *out = NULL;
    return rc;
}
