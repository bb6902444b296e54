/* write.h — a model's tokenizer into another kind of file: the keys of a GGUF file, or the files of a folder.
 *
 * What a format cannot say is an error, or, where text is cut a little differently only in rare cases, a warning.
 */
#ifndef TEXT_WRITE_H
#define TEXT_WRITE_H

#include "core/ctx.h"
#include "formats/weights_build.h"

/* Adds tokenizer.ggml.* and the chat template to `to`: n_vocab tokens, those behind the tokenizer's last being unused. */
err_code tokenizer_write_keys(const ctx *c, const weights *from, int64_t n_vocab, weights *to, err *e);

/* Writes tokenizer.json or tokenizer.model, and tokenizer_config.json, into folder; adds the ids of BOS and EOS to config. */
err_code tokenizer_write_folder(const ctx *c, const weights *from, const char *folder, weights *config, err *e);

#endif
