#include "steer/generate.h"
#include "text/chat.h"

err_code generate_encode_prompt(const model *m, const char *text, const chat *template, token_ids *out, err *e) {
    strbuf whole = STRBUF_INIT;
    size_t before = out->len;
    tokenize_opts how = TOKENIZE_DEFAULTS;
    err_code rc = ERR_OK;
    how.add_bos = !template; /* a template writes its own */
    if (template)
        TRY(chat_render(template, &(chat_message){"user", text}, 1, &whole, e));
    else
        strbuf_add_str(&whole, text);
    TRY(strbuf_check(&whole, e));
    TRY(tokenizer_encode(model_tokenizer(m), whole.data, whole.len, &how, out, e));
    if (out->len == before)
        rc = err_set(e, ERR_USAGE, "the prompt '%.40s' has no tokens, expected at least one to go on from", text);
done:
    strbuf_release(&whole);
    return rc;
}
