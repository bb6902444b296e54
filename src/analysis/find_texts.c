/* The texts find works with. */
#include "analysis/find_internal.h"

#include <string.h>

const char *const find_templates[FIND_TEMPLATES] = {
    "Yesterday I read a long article about {} in the library.",
    "My teacher asked us what we knew about {} before the lesson.",
    "The name on the cover was {}, printed in large letters.",
    "When people hear of {} they often have questions.",
    "There is a short film about {} that I would like to see.",
    "She wrote her final essay on {} and got a good mark.",
    "In the museum there was a whole room about {} on the second floor.",
    "He told me that {} was mentioned in the newspaper.",
    "I had never heard of {} until last summer.",
    "The guide talked about {} for almost an hour.",
    "Can you explain to me why {} is so well known?",
    "Our book club will discuss {} next week.",
    "The radio programme this evening is about {} and what came after.",
    "A friend of mine knows everything about {} and likes to share it.",
    "One chapter of the book deals with {} in great detail.",
    "The first question of the quiz was about {}, and nobody knew the answer.",
    "They named the new school after {} because of its history.",
    "The lecture compared {} with several others.",
    "Let me tell you something about {} that surprised me.",
    "My grandmother used to talk about {} at dinner.",
    "The encyclopedia has a long entry on {} with many pictures.",
    "If you want to learn about {} you should start here.",
    "The students prepared a presentation on {} for Friday.",
    "We found an old postcard that mentions {} on the back.",
};

const char *const find_prompts[FIND_PROMPTS] = {
    "My favourite thing is the",
    "The best way to start the day is",
    "I would like to tell you about",
    "Once upon a time there was",
    "Yesterday I went for a walk and saw",
    "The most interesting thing I learned this year is",
    "When I was a child, I often thought of",
    "The book on my desk is about",
    "In my opinion, the greatest",
    "Last night I had a dream about",
    "If I could meet anyone, it would be",
    "The first thing that comes to mind is",
    "Everybody in the room started to talk about",
    "On the wall there was a picture of",
    "She opened the letter and read about",
    "The teacher began the lesson with",
    "For my birthday I would like",
    "The film tells the story of",
    "During the long train journey we talked about",
    "One of the most beautiful things in the world is",
    "He smiled and began to speak about",
    "The newspaper this morning reported that",
    "Let us think for a moment about",
    "At the end of the evening we listened to",
};

const char *const find_control_words[] = {"engine",    "football", "Microsoft", "tomatoes", "Einstein",  "Brazil",
                                          "insurance", "Monday",   "hospital",  "Canada",   "chemistry", "Jennifer"};
const int n_find_control_words = sizeof find_control_words / sizeof *find_control_words;

void find_fill_template(strbuf *out, const char *template, const char *name, size_t *from, size_t *to) {
    const char *hole = strstr(template, "{}");
    strbuf_add(out, template, (size_t)(hole - template));
    *from = out->len;
    strbuf_add_str(out, name);
    *to = out->len;
    strbuf_add_str(out, hole + 2);
}

void find_add_continuation(strbuf *out, const char *text) {
    if ((unsigned char)text[0] < 0xE3) strbuf_add_char(out, ' '); /* Kana and Han start at U+3040, bytes E3 .. */
    strbuf_add_str(out, text);
}

err_code find_tokenize(const finder *f, const char *text, bool with_bos, token_ids *out, err *e) {
    tokenize_opts o = {.parse_special = false, .add_bos = with_bos};
    out->len = 0;
    return tokenizer_encode(model_tokenizer(f->model), text, strlen(text), &o, out, e);
}
