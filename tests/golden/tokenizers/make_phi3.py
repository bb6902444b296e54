"""Writes phi3_small.gguf, a vocabulary-only file of Phi-3's kind, and phi3_small.json: the ids of texts with its special tokens in them,
which take the white space behind them along. Between the special tokens the ids are SentencePiece's (0.2).

    python make_phi3.py
"""
import io
import json
import re
from pathlib import Path

import gguf
import sentencepiece

from make_variants import CORPUS, TEXTS

CONTROL = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
USER_DEFINED = ["</s>"]  # as in Phi-3's own files: found even where control tokens are not
STRIPS = set(CONTROL[1:] + USER_DEFINED)
HERE = Path(__file__).parent
MARKED = ["<|system|>\nYou are a poet.<|end|>\n<|user|>\nThe moon?<|end|>\n<|assistant|>\n", "<s> a<|end|>  b</s>\n\nc<|endoftext|> d", "<|user|> \u3000\n moon</s> river <|unknown|>", "<|end|><|end|>  ", "  <|user|>"]

if __name__ == "__main__":
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS * 4), model_writer=out, model_type="bpe", vocab_size=480, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                                             hard_vocab_limit=False, num_threads=1, minloglevel=2, control_symbols=CONTROL)
    sp = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())

    def kind(i):
        if sp.id_to_piece(i) in USER_DEFINED:
            return gguf.TokenType.USER_DEFINED
        return gguf.TokenType.UNKNOWN if sp.is_unknown(i) else gguf.TokenType.CONTROL if sp.is_control(i) else gguf.TokenType.BYTE if sp.is_byte(i) else gguf.TokenType.NORMAL

    def encode(text, special):
        marks = USER_DEFINED + (CONTROL + ["<s>", "<unk>"] if special else [])
        ids, strips = [], False
        for part in re.split("(" + "|".join(map(re.escape, marks)) + ")", text):
            if part in marks:
                ids.append(sp.piece_to_id(part))
                strips = part in STRIPS
            else:
                part = part.lstrip() if strips else part
                ids += sp.encode(part) if part else []
                strips = strips and not part
        return ids

    w = gguf.GGUFWriter(HERE / "phi3_small.gguf", "phi3")
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([sp.id_to_piece(i) for i in range(len(sp))])
    w.add_token_scores([sp.get_score(i) for i in range(len(sp))])
    w.add_token_types([kind(i) for i in range(len(sp))])
    w.add_bos_token_id(sp.bos_id())
    w.add_eos_token_id(sp.piece_to_id("<|endoftext|>"))
    w.add_unk_token_id(sp.unk_id())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    cases = [{"text": t, "ids": encode(t, True), "ids_plain": encode(t, False)} for t in TEXTS + MARKED]
    (HERE / "phi3_small.json").write_text("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")
    print(len(cases), "texts,", len(sp), "pieces")
