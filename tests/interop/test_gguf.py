"""GGUF files of ours, read by gguf-py: names and kinds of keys, and every quantised tensor against gguf-py's own quantisers."""
import subprocess
import sys
import tempfile
from pathlib import Path

import common

common.need("gguf")
common.need("safetensors")
import gguf  # noqa: E402
import numpy as np  # noqa: E402
from gguf import quants  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "TQ2_0"]


def wide_model(golden, folder):
    """GPT-2's tiny folder with rows of 256 values, so that blocks of every size fit, and values of every size."""
    rng = np.random.default_rng(1)
    source, width = golden / "models" / "gpt2", 256
    config = (source / "config.json").read_text().replace('"n_embd": 32', f'"n_embd": {width}')
    assert str(width) in config
    tensors = {}
    for name, t in load_file(source / "model.safetensors").items():
        shape = [d // 32 * width if d in (32, 96, 128) else d for d in t.shape]
        values = rng.standard_normal(shape) * np.exp(rng.standard_normal(shape[-1:]) * 2)
        if values.ndim == 2:
            values[rng.random(shape) < 0.05] = 0
            values[0, :32] = 0  # a block of zeros
            values[1, :32] = np.arange(32) * 0.5 - 8  # ties
        tensors[name] = np.ascontiguousarray(values, dtype=np.float32)
    (folder / "config.json").write_text(config)
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    save_file(tensors, folder / "model.safetensors")
    return tensors


def convert(sae, source, out, dtype):
    subprocess.run([sae, "convert", source, "--to", "gguf", "--dtype", dtype, "--out", out, "--quiet"], check=True, capture_output=True)
    return gguf.GGUFReader(out)


def check_keys(reader):
    kinds = {"general.architecture": "STRING", "gpt2.block_count": "UINT32", "gpt2.attention.layer_norm_epsilon": "FLOAT32",
             "tokenizer.ggml.token_type": "INT32", "tokenizer.ggml.tokens": "STRING", "tokenizer.ggml.bos_token_id": "UINT32",
             "tokenizer.ggml.add_bos_token": "BOOL"}
    for key, kind in kinds.items():
        field = reader.get_field(key)
        assert field is not None and field.types[-1].name == kind, key


def main():
    sae, golden = sys.argv[1], Path(sys.argv[2]).parent
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        source = work / "wide"
        source.mkdir()
        wide_model(golden, source)
        plain = {t.name: np.array(t.data) for t in convert(sae, source, work / "F32.gguf", "F32").tensors}
        check_keys(gguf.GGUFReader(work / "F32.gguf"))
        for dtype in TYPES[1:]:
            reader = convert(sae, source, work / f"{dtype}.gguf", dtype)
            n = 0
            for t in reader.tensors:
                if t.tensor_type.name != dtype:
                    continue
                right = quants.quantize(plain[t.name].reshape([int(d) for d in reversed(t.shape)]), t.tensor_type)
                assert np.array_equal(np.array(t.data).reshape(-1).view(np.uint8), right.reshape(-1).view(np.uint8)), f"{dtype}: {t.name}"
                n += 1
            assert n >= 8, f"{dtype}: only {n} tensors"
    print(f"{len(TYPES)} types are gguf-py's, bit for bit")


main()
