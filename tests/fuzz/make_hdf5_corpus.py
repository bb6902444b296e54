"""Writes corpus/hdf5: python3 make_hdf5_corpus.py (needs h5py). The valid files are written after the descriptions in
activations/store.h and codes.h alone, the lying ones differ from them in what their name says, the damaged ones have bytes changed or cut."""
import random
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).parent / "corpus" / "hdf5"
ROWS, D = 20, 4
WORDS = ["a", "b", "李"]


def write_store(f):
    text = {"format": "sae.activations", "model_name": "m", "model_path": "m.gguf", "model_sha256": "a" * 64, "architecture": "llama",
            "tokenizer_sha256": "b" * 64, "tool_version": "0", "command": "sae", "corpus_hash": "0123456789abcdef"}
    for name, value in text.items():
        f.attrs[name] = value
    for name, value in {"version": 1, "context": 8, "bos": 0, "skip_first": 1}.items():
        f.attrs[name] = np.int64(value)
    f["tokens"] = np.arange(ROWS + 2, dtype="u4") % len(WORDS)
    f["doc_offsets"] = np.array([0, 11, ROWS + 2], dtype="u8")
    f["doc_source"] = np.array([b"a.jsonl:1", b"a.jsonl:1#1"])
    f["row_token"] = np.array([i + 1 + (i >= 10) for i in range(ROWS)], dtype="u8")
    pieces = [w.encode() for w in WORDS]
    f["vocab/bytes"] = np.frombuffer(b"".join(pieces), dtype="u1")
    f["vocab/offsets"] = np.cumsum([0] + [len(p) for p in pieces]).astype("u8")
    for name in ["blocks.1.hook_mlp_out", "blocks.2.hook_resid_post"]:
        hook = f.create_group("hooks/" + name)
        hook.attrs["hook_name"], hook.attrs["dtype"] = name, "float16"
        hook.attrs["layer"], hook.attrs["d_model"] = np.int64(1), np.int64(D)
        hook.attrs["mean_norm"], hook.attrs["rms"], hook.attrs["max_norm"] = 1.0, 1.0, 10.0
        hook.create_dataset("activations", data=np.arange(ROWS * D).reshape(ROWS, D).astype("f2"), chunks=(ROWS, D))
        hook["row_mean"], hook["row_norm"] = np.zeros(D, "f4"), np.ones(ROWS, "f4")
        f["progress/" + name] = np.ones(1, "u1")


def write_codes(f):
    f.attrs["format"], f.attrs["sae_sha256"], f.attrs["hook_name"], f.attrs["tool_version"] = "sae.codes", "a" * 64, "blocks.1.hook_mlp_out", "0"
    f.attrs["version"], f.attrs["d_sae"], f.attrs["n_rows"] = np.int64(1), np.int64(9), np.int64(3)
    f["latents/indptr"] = np.array([0, 2, 2, 3], dtype="u8")
    f["latents/indices"] = np.array([1, 8, 0], dtype="u4")
    f["latents/values"] = np.array([1, 2, 3], dtype="f4")


def write_matrix(f):
    f.create_dataset("x", data=np.arange(600, dtype="f8").reshape(300, 2), chunks=(100, 2), compression="gzip")


def make(name, write, change=lambda f: None):
    path = HERE / name
    with h5py.File(path, "w", libver="earliest") as f:
        write(f)
        change(f)
    return path.read_bytes()


def replaced(name, value):
    def change(f):
        del f[name]
        if value is not None:
            f[name] = value

    return change


def attribute(name, value, where="/"):
    def change(f):
        del f[where].attrs[name]
        if value is not None:
            f[where].attrs[name] = value

    return change


def huge(name, shape, dtype, **how):
    """A dataset that claims a shape and holds nothing."""

    def change(f):
        if name in f:
            del f[name]
        f.create_dataset(name, shape=shape, dtype=dtype, **how)

    return change


def lies():
    hook = "hooks/blocks.1.hook_mlp_out"
    rows = hook + "/activations"
    yield "no_format", write_store, attribute("format", None)
    yield "format_number", write_store, attribute("format", 7)
    yield "format_list", write_store, attribute("format", ["sae.activations", "x"])
    yield "newer_version", write_store, attribute("version", np.int64(2))
    yield "version_text", write_store, attribute("version", "1")
    yield "long_text", write_store, attribute("command", "x" * 60000)
    yield "fixed_text", write_store, attribute("model_name", np.bytes_(b"fixed"))
    yield "hash_no_number", write_store, attribute("corpus_hash", "what")
    yield "no_tokens", write_store, replaced("tokens", None)
    yield "tokens_group", write_store, lambda f: (f.__delitem__("tokens"), f.create_group("tokens"))
    yield "tokens_floats", write_store, replaced("tokens", np.zeros(ROWS + 2))
    yield "tokens_square", write_store, replaced("tokens", np.zeros((4, 4), "u4"))
    yield "tokens_scalar", write_store, replaced("tokens", np.uint32(3))
    yield "tokens_empty", write_store, replaced("tokens", np.zeros(0, "u4"))
    yield "tokens_huge", write_store, huge("tokens", (1 << 60,), "u4", chunks=(1024,))
    yield "tokens_not_words", write_store, replaced("tokens", np.full(ROWS + 2, 99, "u4"))
    yield "tokens_negative", write_store, replaced("tokens", np.full(ROWS + 2, -1, "i8"))
    yield "offsets_fall", write_store, replaced("doc_offsets", np.array([0, 30, ROWS + 2], "u8"))
    yield "offsets_short", write_store, replaced("doc_offsets", np.array([0], "u8"))
    yield "sources_variable", write_store, replaced("doc_source", np.array(["a", "b"], dtype=h5py.string_dtype()))
    yield "sources_few", write_store, replaced("doc_source", np.array([b"a"]))
    yield "sources_huge", write_store, huge("doc_source", (2,), "S1000000000", chunks=(1,))
    yield "row_token_repeats", write_store, replaced("row_token", np.ones(ROWS, "u8"))
    yield "row_token_behind", write_store, replaced("row_token", np.arange(ROWS, dtype="u8") + 100)
    yield "row_token_many", write_store, replaced("row_token", np.arange(1000, dtype="u8"))
    yield "vocab_falls", write_store, replaced("vocab/offsets", np.array([0, 3, 1, 5], "u8"))
    yield "vocab_behind", write_store, replaced("vocab/offsets", np.array([0, 1, 2, 5000], "u8"))
    yield "no_hooks", write_store, replaced("hooks", None)
    yield "hooks_empty", write_store, lambda f: (f.__delitem__("hooks"), f.create_group("hooks"))
    yield "hooks_dataset", write_store, replaced("hooks", np.zeros(3))
    yield "hook_dataset", write_store, replaced(hook, np.zeros(3))
    yield "hook_name_long", write_store, lambda f: f.move(hook, "hooks/" + "x" * 200)
    yield "hook_dangling", write_store, replaced(hook, h5py.SoftLink("/nowhere"))
    yield "hook_circle", write_store, replaced(hook, h5py.SoftLink("/hooks"))
    yield "hook_outside", write_store, replaced(hook, h5py.ExternalLink("/etc/passwd", "/x"))
    yield "hooks_many", write_store, lambda f: [f.create_group(f"hooks/h{i}") for i in range(70)]
    yield "d_model_wrong", write_store, attribute("d_model", np.int64(D + 1), hook)
    yield "d_model_negative", write_store, attribute("d_model", np.int64(-1), hook)
    yield "dtype_unknown", write_store, attribute("dtype", "float8", hook)
    yield "dtype_wrong", write_store, attribute("dtype", "float32", hook)
    yield "layer_huge", write_store, attribute("layer", np.uint64(2**64 - 1), hook)
    yield "rows_missing", write_store, replaced(rows, None)
    yield "rows_few", write_store, replaced(rows, np.zeros((3, D), "f2"))
    yield "rows_flat", write_store, replaced(rows, np.zeros(ROWS * D, "f2"))
    yield "rows_huge", write_store, huge(rows, (1 << 40, 1 << 20), "f2", chunks=(16, 16))
    yield "rows_wide", write_store, huge(rows, (1, 1 << 33), "f2", chunks=(1, 1024))
    yield "rows_unwritten", write_store, huge(rows, (ROWS, D), "f2")
    yield "rows_compound", write_store, huge(rows, (ROWS, D), np.dtype([("a", "f4"), ("b", "f8")]))
    yield "rows_infinite", write_store, replaced(rows, np.full((ROWS, D), np.inf, "f2"))
    yield "progress_missing", write_store, replaced("progress", None)
    yield "progress_long", write_store, replaced("progress/blocks.1.hook_mlp_out", np.ones(9, "u1"))
    yield "progress_none", write_store, replaced("progress/blocks.1.hook_mlp_out", np.zeros(1, "u1"))
    yield "matrix_empty", write_matrix, replaced("x", np.zeros((0, 3), "f4"))
    yield "matrix_no_columns", write_matrix, replaced("x", np.zeros((3, 0), "f4"))
    yield "matrix_huge_compressed", write_matrix, huge("x", (1 << 40, 8), "f4", chunks=(1024, 8), compression="gzip")
    yield "matrix_nan", write_matrix, replaced("x", np.full((300, 2), np.nan))
    yield "matrix_too_large", write_matrix, replaced("x", np.full((300, 2), 1e300))
    yield "matrix_float80", write_matrix, replaced("x", np.zeros((300, 2), np.longdouble))
    yield "matrix_big_endian", write_matrix, replaced("x", np.ones((300, 2), ">f2"))
    yield "matrix_rank_9", write_matrix, replaced("x", np.zeros((2,) * 9, "f4"))
    yield "matrix_external", write_matrix, huge("x", (300, 2), "f4", external=[("/nowhere/raw", 0, 2400)])
    yield "codes_ends_fall", write_codes, replaced("latents/indptr", np.array([0, 3, 2, 3], "u8"))
    yield "codes_ends_huge", write_codes, replaced("latents/indptr", np.array([0, 1 << 63, 2, 3], "u8"))
    yield "codes_no_latent", write_codes, replaced("latents/indices", np.array([1, 9, 0], "u4"))
    yield "codes_few_values", write_codes, replaced("latents/values", np.array([1], "f4"))
    yield "codes_rows_negative", write_codes, attribute("n_rows", np.int64(-1))
    yield "codes_rows_huge", write_codes, attribute("n_rows", np.int64(2**63 - 1))
    yield "codes_name_long", write_codes, attribute("hook_name", "x" * 500)


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    for old in HERE.iterdir():
        old.unlink()
    valid = {name: make("valid_" + name, write) for name, write in [("store", write_store), ("codes", write_codes), ("matrix", write_matrix)]}
    for name, write, change in lies():
        make("lies_" + name, write, change)
    dice = random.Random(1)
    for name, data in valid.items():
        for part in [0, 7, 8, 96, len(data) // 4, len(data) // 2, len(data) - 1]:
            (HERE / f"cut_{name}_at_{part}").write_bytes(data[:part])
        for i in range(12 if name == "store" else 4):
            changed = bytearray(data)
            for _ in range(1 + i):
                changed[dice.randrange(len(data))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
            (HERE / f"damaged_{name}_{i}").write_bytes(changed)


main()
