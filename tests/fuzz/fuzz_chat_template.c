/* Chat templates, rendered for a short talk. */
#include "text/jinja.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const chat_message talk[] = {{"system", "Be brief."},
                                        {"user", " Who was \xe6\x9d\x8e\xe7\x99\xbd? "},
                                        {"assistant", "<think>a</think>\n\nA poet."},
                                        {"user", ""}};
    const jinja_context c = {
        .messages = talk, .n = 4, .bos = "<s>", .eos = "</s>", .today = {.tm_mday = 26, .tm_mon = 6, .tm_year = 124}};
    err e = {0};
    strbuf out = STRBUF_INIT;
    if (jinja_render((const char *)data, size, &c, &out, &e) && (!e.message[0] || strchr(e.message, '\n')))
        abort(); /* every refusal is a sentence */
    strbuf_release(&out);
    return 0;
}
