/* export.h — a model's file to another file of the same model: GGUF or a Hugging Face folder, in other types of numbers.
 *
 * The description of the new file is made first and read as any model's is: what it cannot say is an error before a byte is
 * written, not another model. Tensors are read, converted and written one by one, in blocks of rows. Rows that are only moved
 * keep their bits; gains that are stored less one, and scores scaled otherwise than the format can say, are computed in
 * float32.
 * Within a format keys and names are copied: only types change. Errors: ERR_UNSUPPORTED and ERR_MISMATCH (what the format
 * cannot hold), ERR_NOSPACE, ERR_IO, ERR_NOMEM, ERR_CANCELLED, and those of reading.
 */
#ifndef MODEL_EXPORT_H
#define MODEL_EXPORT_H

#include "core/ctx.h"
#include "formats/weights.h"

typedef enum export_format { EXPORT_GGUF, EXPORT_FOLDER } export_format;

typedef struct export_opts {
    export_format format;
    /* Of matrices, and in a folder of vectors too; a GGUF file's vectors are float32, as programs expect. Matrices whose rows
     * are no whole blocks of it become F16. NULL: each tensor keeps its type where the format has it, else float32, exactly. */
    const quant_type *type;
} export_opts;

typedef struct export_result {
    int64_t n_tensors, n_values;
    uint64_t bytes;     /* of the tensors */
    int64_t n_fallback; /* tensors that are F16 because their rows are no whole blocks */
} export_result;

/* out: the file, or the folder, which is made. Its model file gets its name last. */
err_code model_export(const ctx *c, const weights *from, const export_opts *o, const char *out, export_result *result,
                      err *e);

#endif
