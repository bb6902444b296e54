"""Writes the corpus and the autoencoder of the tiny study: python3 tests/golden/tiny/gen/make.py (numpy, safetensors).

The corpus is drawn from a few sentences, so that words repeat and features have something to fire on. The autoencoder is
random: unit decoder rows, their transpose as encoder, topk 8 of 96 over the 48 channels of golden/models/llama, block 1."""
import json
import os
import random

import numpy as np
from safetensors.numpy import save_file

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
names = ["Li Bai", "Du Fu", "Wang Wei", "Su Shi", "Ada Lovelace", "Li Na"]
lines = [
    "The poet {} wrote a poem about the moon.",
    "In the Tang dynasty {} drank wine and sang.",
    "{} walked along the river in the evening.",
    "Many readers still love the poems of {}.",
    "A teacher spoke of {} and of mountains.",
    "When {} was young the city was far away.",
    "The boat of {} passed ten thousand hills.",
]
plain = [
    "The engine of the car was cold.",
    "Rain fell on the roof all night.",
    "She bought bread, tea and apples.",
    "The train left the station at noon.",
]


def text(r):
    name = r.choice(names)
    parts = [r.choice(lines).format(name) if r.random() < 0.7 else r.choice(plain) for _ in range(r.randint(2, 4))]
    return " ".join(parts)


def main():
    r = random.Random(7)
    os.makedirs(os.path.join(here, "corpus"), exist_ok=True)
    with open(os.path.join(here, "corpus", "poets.jsonl"), "w") as f:
        for _ in range(90):
            f.write(json.dumps({"text": text(r)}) + "\n")
    with open(os.path.join(here, "corpus", "moon.txt"), "w") as f:
        f.write("\n".join(text(r) for _ in range(8)) + "\n")

    g = np.random.default_rng(7)
    d, n = 48, 96
    dec = g.standard_normal((n, d)).astype(np.float32)
    dec /= np.linalg.norm(dec, axis=1, keepdims=True)
    folder = os.path.join(here, "sae")
    os.makedirs(folder, exist_ok=True)
    save_file({
        "W_enc": np.ascontiguousarray(dec.T), "W_dec": dec, "b_enc": np.zeros(n, np.float32), "b_dec": np.zeros(d, np.float32),
    }, os.path.join(folder, "sae_weights.safetensors"))
    os.chmod(os.path.join(folder, "sae_weights.safetensors"), 0o644)
    with open(os.path.join(folder, "cfg.json"), "w") as f:
        json.dump({
            "architecture": "topk", "d_in": d, "d_sae": n, "k": 8, "dtype": "float32", "device": "cpu",
            "apply_b_dec_to_input": True, "normalize_activations": "none", "rescale_acts_by_decoder_norm": False,
            "reshape_activations": "none",
            "metadata": {"hook_name": "blocks.1.hook_resid_post", "model_name": "tiny llama", "skip_first": 1},
        }, f, indent=2)
        f.write("\n")


main()
