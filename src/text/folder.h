/* folder.h — the files that stand beside a model's weights. Internal to text/. */
#ifndef TEXT_FOLDER_H
#define TEXT_FOLDER_H

#include "formats/weights.h"

#include <jansson.h>

/* The folder that the weights are, or are in. Owned by the caller, free with free(). */
err_code model_folder(const weights *w, char **out, err *e);
bool model_folder_has(const char *folder, const char *name);

/* folder/name, with a NUL behind it. Owned by the caller, free with free(). */
err_code model_folder_read(const char *folder, const char *name, char **out, size_t *n, err *e);

/* folder/name as JSON, which must be an object; *out is NULL when there is no such file. Owned by the caller, json_decref. */
err_code model_folder_json(const char *folder, const char *name, json_t **out, err *e);

#endif
