"""Writes variants.json: small tokenizer.json files, each with another normalizer, pre-tokenizer, kind of model or added token, and the
ids that Hugging Face's `tokenizers` (0.23) gives; and SentencePiece models with what `sentencepiece` (0.2) gives.

    python make_variants.py
"""
import base64
import io
import json
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ["The moon shines over the river in autumn.", "Li Bai (李白) drank wine by the window.", "It's 1977, they'll pay 3.14 for x = f(y);", "Café naïve Straße ÀÉÎ", "hello world " * 3,
          "a  b   c    d\n\n\te", "床前明月光，疑是地上霜。", "snake_case camelCase HTTPServer v2.0-beta", "ﬁne ① ½ Ｆｕｌｌ"]
TEXTS = ["", " ", "  ", "a", " a", "a ", "The moon", "the  moon over", "It's 1977 and they'll pay 3.14!", "Li Bai\n\ndrank\twine", "李白drank 床前明月光", "Café Cafe\u0301 ÀÉÎ", "ﬁne ① ½ Ｆｕｌｌ", "x=f(y); //...",
         "HTTPServer v2.0", "<s>hello</s> world", "a<s> b", "a <mask> b", "xcat cat catx", "HELLO İstanbul", "\u00a0nbsp\u3000wide\u200b", "🌙 moon 🌙🌙", "tab\there\r\nline", "zzqq \u0e01\u0e02", "▁ under ▁▁", "<0x41> <unk>"]


def bpe(pre=None, norm=None, dec=None, added=(), post=None, **model):
    tok = Tokenizer(models.BPE(**model))
    if norm:
        tok.normalizer = norm
    if pre:
        tok.pre_tokenizer = pre
    byte_level = "ByteLevel" in str(pre)
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=340 if byte_level else 200, special_tokens=["<s>", "</s>", "<unk>"], show_progress=False,
                                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if byte_level else []))
    tok.add_tokens([a for a in added if not a.special])
    tok.add_special_tokens([a for a in added if a.special])
    tok.decoder = dec or (decoders.ByteLevel() if byte_level else decoders.Fuse())
    if post:
        tok.post_processor = post
    return tok


def unigram(pre, norm, byte_fallback=False):
    tok = Tokenizer(models.Unigram())
    tok.normalizer, tok.pre_tokenizer = norm, pre
    tok.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=150, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False))
    d = json.loads(tok.to_str())
    if byte_fallback:
        d["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
        d["model"]["byte_fallback"] = True
    tok = Tokenizer.from_str(json.dumps(d))
    tok.decoder = decoders.Metaspace()
    return tok


def with_bytes(tok):
    """The same with byte tokens behind."""
    d = json.loads(tok.to_str())
    n = len(d["model"]["vocab"])
    d["model"]["vocab"].update({f"<0x{b:02X}>": n + b for b in range(256)})
    d["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(d))


N, P, S = normalizers, pre_tokenizers, normalizers.Sequence
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = P.ByteLevel(add_prefix_space=False, use_regex=False)
SPM = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
MARKS = [AddedToken("<mask>", lstrip=True, special=True), AddedToken("cat", single_word=True), AddedToken("<r>", rstrip=True), AddedToken("moon", normalized=True)]

VARIANTS = {
    "byte level, prefix space": bpe(P.ByteLevel(add_prefix_space=True)),
    "llama 3": bpe(P.Sequence([P.Split(Regex(LLAMA3), "isolated"), BYTES]), ignore_merges=True,
                   post=processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])),
    "qwen": bpe(P.Sequence([P.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated"), BYTES]), norm=N.NFC()),
    "digits": bpe(P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)])),
    "digits together, punctuation": bpe(P.Sequence([P.Punctuation("contiguous"), P.Digits(), BYTES])),
    "marks": bpe(P.ByteLevel(add_prefix_space=False), added=MARKS),
    "marks, lowercase": bpe(P.ByteLevel(add_prefix_space=False), norm=S([N.NFD(), N.StripAccents(), N.Lowercase()]), added=MARKS),
    "whitespace": bpe(P.Whitespace(), unk_token="<unk>"),
    "whitespace split, removed": bpe(P.Sequence([P.WhitespaceSplit(), P.Punctuation("removed")]), unk_token="<unk>", fuse_unk=True),
    "with previous": bpe(P.Split(" ", "merged_with_previous"), unk_token="<unk>"),
    "with next, inverted": bpe(P.Sequence([P.Split(Regex(r"\w+"), "merged_with_next", invert=True), P.Split("x", "contiguous")]), unk_token="<unk>"),
    "strip, replace": bpe(P.Punctuation("merged_with_previous"), norm=S([N.Strip(), N.Replace(Regex(r"\s+"), " "), N.Replace("a", "o"), N.NFKD()]), unk_token="<unk>"),
    "characters that are nowhere": bpe(P.Whitespace()),
    "metaspace first": bpe(P.Metaspace(prepend_scheme="first"), dec=decoders.Metaspace(prepend_scheme="first"), unk_token="<unk>"),
    "metaspace whole": bpe(P.Metaspace(prepend_scheme="never", split=False), dec=decoders.Metaspace(prepend_scheme="never"), unk_token="<unk>"),
    "llama 2": with_bytes(bpe(None, norm=S([N.Prepend("▁"), N.Replace(" ", "▁")]), dec=SPM, unk_token="<unk>", fuse_unk=True)),
    "gemma": with_bytes(bpe(P.Split(" ", "merged_with_previous"), norm=N.Replace(" ", "▁"), dec=SPM, unk_token="<unk>", fuse_unk=True, added=[AddedToken("\n\n")])),
    "unigram": unigram(P.Metaspace(), N.NFKC()),
    "unigram with bytes": unigram(P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), S([N.Nmt(), N.NFKC()]) if False else N.NFKC(), True),
}


def sentencepiece_model(**options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS * 4), model_writer=out, hard_vocab_limit=False, num_threads=1, minloglevel=2, **options)
    return out.getvalue()


PIECES = {
    "llama": sentencepiece_model(model_type="bpe", vocab_size=460, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, user_defined_symbols=["<mask>", "moon"]),
    "llama without prefix": sentencepiece_model(model_type="bpe", vocab_size=200, normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False),
    "t5": sentencepiece_model(model_type="unigram", vocab_size=150, normalization_rule_name="nmt_nfkc"),
}

if __name__ == "__main__":
    cases = []
    for name, tok in VARIANTS.items():
        ids = [tok.encode(t, add_special_tokens=False).ids for t in TEXTS]
        cases.append({"name": name, "tokenizer": json.loads(tok.to_str()), "cases": [{"text": t, "ids": i} for t, i in zip(TEXTS, ids)]})
    for name, model in PIECES.items():
        sp = sentencepiece.SentencePieceProcessor(model_proto=model)
        cases.append({"name": name, "model": base64.b64encode(model).decode(), "cases": [{"text": t, "ids": sp.encode(t)} for t in TEXTS if "<s>" not in t and "<unk>" not in t]})
    out = Path(__file__).with_name("variants.json")
    out.write_text("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases) + "\n]\n")
    print(len(cases), "tokenizers,", out.stat().st_size, "bytes")
