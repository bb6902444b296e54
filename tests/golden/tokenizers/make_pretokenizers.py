"""Writes pretokenizers.json: one byte-level vocabulary whose merges cross every border that a pre-tokenizer may draw, and for each
GGUF pre-tokenizer the ids that Hugging Face's `tokenizers` (0.23) gives with the pre-tokenizer of the models that name stands for.

    python make_pretokenizers.py
"""
import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers as P, trainers

PARTS = ["Hello", " world", "the ", "THE", "HTTPServer", "camelCase", "'s", "'S", "'ll", "don't", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "1", "12", "123", "1234", "3.14", "½", "²", "٣", "Ⅷ", "!", "?!", "...",
         "```", "`", "$", "+", "<=>", "^", "~", "|", "/", "//", "(x)", "_", "-", "—", "“q”", "李白", "床前明月光", "。", "，", "\u3000", "ひらがな", "한국어", "éà", "e\u0301", "ﬁ", "Straße", "Привет", "Ελλ", "Հայ", "հայ", "العر",
         "हिन्दी", "ไทย", "ქარ", "ᏣᎳ", "🌙", "\u00a0", "\u2028", "\u180e", "\u0085", "\x0b", "\x1c", "İ", "ǅ", "ʰ", "ª", "𝔘𝔫", "𐐀", "ſ", "'ſ", "A1b2", "foo_bar", "  12"]
TEXTS = ["It's 1977 and they'LL pay $3.14!", "x = [1234, 56];\n\n\treturn f(x)//2  # ok\n", "HTTPServer camelCase SHOUTING İstanbul ǅ", "  two  spaces   three\n \n  ", "李白（701年—762年），字太白。", "a  12 b 123 c1234567",
         "\r\n\r\n x\ty\u00a0z\u3000w\u2028v", "!!!...???\n/\n// path/to/file.c\n", "Հայաստան հայ ქართული ᏣᎳᎩ", "हिन्दी e\u0301e ไทย 한국어", "'s'S 'T'll 'ſ we'D", " \u180e \u0085 ", "½²٣Ⅷ12", "~`|^<=>+$ _-", "zqx zqxzqx", "", " ", "\n"]

SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def llama3(digits):
    return SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES


def cased(behind, digits):
    upper, lower, before = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[^\r\n\p{L}\p{N}]?"
    return f"{before}{upper}*{lower}+{behind}|{before}{upper}+{lower}*{behind}" + r"|\p{N}" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES


def split(*patterns):
    return P.Sequence([P.Split(Regex(p), "isolated") for p in patterns] + [BYTES])


BYTES, GPT2 = P.ByteLevel(add_prefix_space=False, use_regex=False), P.ByteLevel(add_prefix_space=False)
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGITS = P.Sequence([P.Digits(individual_digits=True), GPT2])
EASTERN = "[一-龥ࠀ-一가-퟿]+"
CASED = ("A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-"
         "\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-"
         "\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-"
         "\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149"
         "\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-"
         "\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-"
         "\U0001e943")
SIGNS = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"

# Names, their pre-tokenizer, and whether a piece that is in the vocabulary is one token. Falcon's and the default one are llama.cpp's
# version of Falcon's own: with a vocabulary trained on the latter they are the same.
ROWS = [
    (["gpt-2", "gpt2", "mpt", "olmo", "gpt-neox"], GPT2, False),
    (["smollm", "starcoder", "refact", "command-r"], DIGITS, False),
    (["llama-bpe", "llama3", "llama-v3"], split(llama3("{1,3}")), True),
    (["dbrx", "smaug-bpe"], split(llama3("{1,3}")), False),
    (["qwen2", "deepseek-r1-qwen"], split(llama3("")), False),
    (["tekken"], split(cased("", "")), True),
    (["gpt-4o"], split(cased(SHORT + "?", "{1,3}")), False),
    (["falcon"], split(r"[\p{P}$+<=>^~|`]+", GPT2_PATTERN, "[0-9][0-9][0-9]"), False),
    (["default"], split(r"[\p{P}$+<=>^~|]+", GPT2_PATTERN, r"\p{N}+", "[0-9][0-9][0-9]"), False),
    (["deepseek-llm"], split("[\r\n]", rf"\s?[{CASED}]+", rf"\s?[{SIGNS}]+", r"\s+$", EASTERN, r"\p{N}+"), False),
    (["deepseek-coder"], split("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EASTERN, r"\p{N}"), False),
]


def vocabulary():
    r = random.Random(1)
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer, tok.decoder = BYTES, decoders.ByteLevel()
    texts = ["".join(r.choices(PARTS, k=6)) for _ in range(4000)] + [t for t in TEXTS if "zqx" not in t] * 20
    tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1300, special_tokens=[], show_progress=False, max_token_length=12, initial_alphabet=P.ByteLevel.alphabet()))
    d = json.loads(tok.to_str())
    d["model"]["vocab"]["zqx"] = len(d["model"]["vocab"])  # no merge makes it
    return d


def with_rule(d, pre, whole):
    tok = Tokenizer.from_str(json.dumps({**d, "model": {**d["model"], "ignore_merges": whole}}))
    tok.pre_tokenizer = pre
    return tok


if __name__ == "__main__":
    d = vocabulary()
    rows = []
    for names, pre, whole in ROWS:
        tok = with_rule(d, pre, whole)
        rows.append({"names": names, "cases": [{"text": t, "ids": tok.encode(t, add_special_tokens=False).ids} for t in TEXTS]})
    same = [(a["names"], b["names"]) for i, a in enumerate(rows) for b in rows[:i] if a["cases"] == b["cases"]]
    assert not same, f"the same ids: {same}"
    out = Path(__file__).with_name("pretokenizers.json")
    lines = ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    out.write_text('{"tokenizer": ' + json.dumps(d, ensure_ascii=False) + ',\n"rows": [\n' + lines + "\n]}\n")
    print(len(rows), "rows,", out.stat().st_size, "bytes")
