"""A capture of the tiny llama, opened in plain h5py."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import common

common.need("h5py")
import h5py  # noqa: E402
import numpy as np  # noqa: E402

HOOKS = ["blocks.1.hook_resid_post", "blocks.2.hook_mlp_out"]
DOCUMENTS = ["hello world, this is a text", [5, 6, 7, 8], [9], "李白", list(range(40))]


def capture(sae, model, folder, dtype):
    corpus, out = folder / "corpus.jsonl", folder / f"{dtype}.h5"
    corpus.write_text("".join(json.dumps({"ids" if isinstance(d, list) else "text": d}) + "\n" for d in DOCUMENTS))
    hooks = [part for name in HOOKS for part in ("--hook", name)]
    done = subprocess.run([sae, "capture", model, *hooks, "--corpus", corpus, "--out", out, "--context", "16", "--dtype", dtype, "--json"],
                          check=True, capture_output=True, text=True)
    return out, json.loads(done.stdout)


def check_attributes(f, model):
    about = dict(f.attrs)
    for name in ["format", "model_name", "model_path", "model_sha256", "architecture", "tokenizer_sha256", "corpus_hash", "tool_version", "command"]:
        assert type(about[name]) is str and about[name], name
    for name in ["version", "context", "bos", "skip_first"]:
        assert np.isscalar(about[name]) and isinstance(about[name], np.integer), name
    assert about["format"] == "sae.activations" and about["version"] == 1 and about["context"] == 16 and about["skip_first"] == 1
    assert len(about["model_sha256"]) == 64 and Path(about["model_path"]) == Path(model).resolve()
    assert about["command"].startswith("sae capture ")


def check_corpus(f):
    tokens, ends, source = f["tokens"][:], f["doc_offsets"][:], f["doc_source"].asstr()[:]
    assert tokens.dtype == np.uint32 and ends.dtype == np.uint64 and ends[0] == 0 and ends[-1] == len(tokens)
    given = [d for d in DOCUMENTS if isinstance(d, list)]
    windows = {s: tokens[a:b].tolist() for s, a, b in zip(source, ends[:-1], ends[1:])}
    assert windows["corpus.jsonl:2"] == given[0] and windows["corpus.jsonl:3"] == given[1]
    assert windows["corpus.jsonl:5"] + windows["corpus.jsonl:5#1"] + windows["corpus.jsonl:5#2"] == given[2]
    expected = [t for a, b in zip(ends[:-1], ends[1:]) for t in range(int(a) + 1, int(b))]
    assert f["row_token"][:].tolist() == expected
    return tokens, ends, source


def check_vocab(f, tokens, ends, source):
    text, at = f["vocab/bytes"][:].tobytes(), f["vocab/offsets"][:]
    for line, expected in enumerate(DOCUMENTS, 1):
        if isinstance(expected, str):
            mine = [i for i, s in enumerate(source) if s.split("#")[0] == f"corpus.jsonl:{line}"]
            pieces = [text[at[t]:at[t + 1]] for i in mine for t in tokens[ends[i]:ends[i + 1]]]
            assert b"".join(pieces).decode() == expected


def check_hooks(f, dtype, found):
    n = len(f["row_token"])
    assert list(f["hooks"]) == sorted(HOOKS)
    for number, name in enumerate(HOOKS):
        group = f["hooks"][name]
        x = group["activations"]
        assert x.shape == (n, 48) and x.chunks == (min(n, 4096), 48) and x.compression is None and x.shuffle is False
        # bfloat16 is a float of HDF5's own making, which h5py shows as float32 or as ml_dtypes' type
        assert dtype == "bfloat16" or x.dtype == np.dtype(dtype)
        rows = x[:].astype("f8")
        about = dict(group.attrs)
        assert about["hook_name"] == name and about["dtype"] == dtype and about["d_model"] == 48 and about["layer"] == number + 1
        norms = np.sqrt((rows**2).sum(1))
        assert np.isclose(about["mean_norm"], norms.mean(), rtol=1e-12) and np.isclose(about["rms"], np.sqrt((rows**2).mean()), rtol=1e-12)
        assert np.allclose(group["row_norm"][:], norms, rtol=1e-6) and np.isclose(about["max_norm"], 10 * np.median(norms), rtol=0.2)
        assert np.allclose(group["row_mean"][:], rows.mean(0), rtol=1e-5, atol=1e-6)
        assert [d.label for d in x.dims] == ["row", "d_model"]
        assert x.dims[0][0] == f["row_token"] and x.dims[1][0][:].tolist() == list(range(48))
        assert f["progress"][name][:].tolist() == [1]
        found.setdefault(name, []).append(rows)


def main(sae, golden):
    model = Path(golden).parent / "models/llama/model.gguf"
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ["float32", "float16", "bfloat16"]:
            path, printed = capture(sae, model, Path(folder), dtype)
            with h5py.File(path) as f:
                check_attributes(f, model)
                tokens, ends, source = check_corpus(f)
                check_vocab(f, tokens, ends, source)
                check_hooks(f, dtype, rows)
                assert printed["tokens"] == len(tokens) and printed["rows"] == len(f["row_token"]) and printed["documents"] == len(source)
    for f32, f16, bf16 in rows.values():
        assert (f32.astype("f2") == f16).all()
        assert (np.abs(bf16 - f32) <= np.abs(f32) * 2.0**-8).all()
        assert (bf16.astype("f4").view("u4") & 0xFFFF == 0).all()
    print("3 files, 2 hooks each")


main(*sys.argv[1:])
