/* windows.h — a stretch of tokens as text a person can read, with the place of every token in it.
 *
 * Pieces are joined as bytes first, so a character that the tokenizer cut in two reads as itself; a token that holds only part
 * of a character is shown as the whole of it. A character cut by the window's edge is left out; bytes that are no text at all
 * show as <0xE6>. Threads: a window belongs to one thread.
 */
#ifndef ANALYSIS_WINDOWS_H
#define ANALYSIS_WINDOWS_H

#include "analysis/corpus_index.h"

typedef struct text_window {
    strbuf text;
    int64_t *start, *end; /* [n] bytes of text that show token first + i; equal where nothing of it is seen */
    int64_t first, n;     /* tokens */
    strbuf raw;           /* scratch */
    size_t cap_start, cap_end;
} text_window;

#define TEXT_WINDOW_INIT ((text_window){.text = STRBUF_INIT, .raw = STRBUF_INIT})

/* Tokens from .. to-1 of the corpus; focus, among them, is shown whatever it is. */
err_code text_window_set(text_window *w, const corpus_index *x, int64_t from, int64_t to, int64_t focus, err *e);
void text_window_release(text_window *w);

#endif
