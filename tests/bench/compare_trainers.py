#!/usr/bin/env python3
"""Trains a TopK autoencoder on the same rows with `sae train` and with dictionary_learning's TopKTrainer, both with their
defaults, and prints both FVUs on the same held-out documents, computed here in float64 from the saved weights.

    python3 -m venv venv
    venv/bin/pip install torch dictionary-learning==0.1.0 einops nnsight datasets h5py safetensors numpy
    venv/bin/python tests/bench/compare_trainers.py activations.h5 --sae build/release/bin/sae --width 8192 --k 32 --rows 3000000

The file is one of `sae capture`, or any HDF5 file with --dataset NAME; held out are whole documents where the file has them,
blocks of 256 rows otherwise. Rows ten times as long as the median one (attention sinks) are left out for both, as `sae train`
does. dictionary_learning gets rows scaled to a mean square norm of 1, as its own training loop does
with normalize_activations; --unscaled gives it the rows as they are. Its warm-up of 1000 steps, which must be shorter than the
run, is an eighth of the run where that is less.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np


def read_rows(path, dataset):
    with h5py.File(path) as f:
        if dataset is None:
            hooks = list(f["hooks"])
            if len(hooks) != 1:
                raise SystemExit(f"{path}: --dataset is one of {', '.join(hooks)}")
            dataset = f"hooks/{hooks[0]}/activations"
        x = f[dataset][:].astype(np.float32)
        if "row_token" in f and "doc_offsets" in f:
            group = np.searchsorted(f["doc_offsets"][:], f["row_token"][:], side="right") - 1
        else:
            group = np.arange(len(x)) // 256
    norm = np.linalg.norm(x, axis=1)
    kept = norm <= 10 * np.median(norm)
    return x[kept], group[kept]


def split(x, group, share, seed):
    groups = np.random.default_rng(seed).permutation(group.max() + 1)
    held_out = np.isin(group, groups[: max(1, int(share * len(groups)))])
    return x[~held_out], x[held_out]


def fvu(x, x_hat):
    x, x_hat = x.astype(np.float64), x_hat.astype(np.float64)
    return ((x - x_hat) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()


def topk_reconstruct(x, W_enc, b_enc, W_dec, b_dec, k):
    """Rows through a TopK autoencoder; returns x_hat and which latents fired."""
    fired = np.zeros(W_dec.shape[0], bool)
    out = np.empty_like(x)
    for i in range(0, len(x), 1024):
        pre = (x[i:i + 1024] - b_dec) @ W_enc + b_enc
        top = np.argpartition(-pre, k - 1, axis=1)[:, :k]
        f = np.zeros_like(pre)
        np.put_along_axis(f, top, np.maximum(np.take_along_axis(pre, top, 1), 0), 1)
        fired |= (f > 0).any(0)
        out[i:i + 1024] = f @ W_dec + b_dec
    return out, fired


def report(name, seconds, a, x, held_out, parameters):
    x_hat, _ = topk_reconstruct(held_out, *parameters, a.k)
    _, fired = topk_reconstruct(x[np.random.default_rng(1).permutation(len(x))[:100000]], *parameters, a.k)
    value = fvu(held_out, x_hat)
    print(f"{name:24} held-out FVU {value:.4f}   latents silent on {min(len(x), 100000)} training rows {100 * (1 - fired.mean()):.2f} %"
          f"   {a.rows / seconds:.0f} rows/s", flush=True)
    return value


def train_ours(a, x, work):
    from safetensors.numpy import load_file
    with h5py.File(work / "train.h5", "w") as f:
        f["x"] = x
    command = [a.sae, "train", work / "train.h5", "--dataset", "x", "--out", work / "ours", "--width", a.width, "--k", a.k,
               "--rows", a.rows, "--batch", a.batch, "--seed", a.seed, "--held-out", 0.01, "--json", *a.ours]
    began = time.time()
    printed = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE).stdout
    seconds = time.time() - began
    print("sae train:", {k: v for k, v in json.loads(printed).items() if k in ("fvu", "l0", "dead", "rows_per_second")})
    t = load_file(work / "ours" / "sae_weights.safetensors")
    return seconds, (t["W_enc"], t["b_enc"], t["W_dec"], t["b_dec"])


def train_theirs(a, x):
    import torch
    from dictionary_learning.trainers.top_k import TopKTrainer
    scale = 1.0 if a.unscaled else float(1 / np.sqrt((x.astype(np.float64) ** 2).sum(1).mean()))
    steps = -(-a.rows // a.batch)
    extra = {"lr": a.their_lr} if a.their_lr else {}
    extra["warmup_steps"] = a.their_warmup if a.their_warmup is not None else min(1000, steps // 8)
    trainer = TopKTrainer(steps=steps, activation_dim=x.shape[1], dict_size=a.width, k=a.k, layer=0, lm_name="", seed=a.seed,
                          device="cpu", **extra)
    order, at, random = np.empty(0, np.int64), 0, np.random.default_rng(a.seed)
    began = time.time()
    for step in range(steps):
        while len(order) - at < a.batch:
            order, at = np.concatenate([order[at:], random.permutation(len(x))]), 0
        trainer.update(step, torch.from_numpy(x[order[at:at + a.batch]] * np.float32(scale)))
        at += a.batch
        if step % 50 == 0:
            print(f"  step {step}/{steps}, {a.batch * (step + 1) / (time.time() - began):.0f} rows/s", flush=True)
    s = {k: v.detach().numpy() for k, v in trainer.ae.state_dict().items()}
    return time.time() - began, (s["encoder.weight"].T, s["encoder.bias"] / scale, s["decoder.weight"].T, s["b_dec"] / scale)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file")
    p.add_argument("--dataset")
    p.add_argument("--sae", default="build/release/bin/sae", help="the program")
    p.add_argument("--width", type=int, default=8192)
    p.add_argument("--k", type=int, default=32)
    p.add_argument("--rows", type=int, default=3000000)
    p.add_argument("--batch", type=int, default=4096)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--held-out", type=float, default=0.05)
    p.add_argument("--unscaled", action="store_true")
    p.add_argument("--their-lr", type=float)
    p.add_argument("--their-warmup", type=int)
    p.add_argument("--only", choices=["ours", "theirs"])
    p.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="further options of sae train, last on the line")
    a = p.parse_args()
    x, held_out = split(*read_rows(a.file, a.dataset), a.held_out, a.seed)
    print(f"{len(x)} rows to train on, {len(held_out)} held out, d {x.shape[1]}, width {a.width}, k {a.k}, {a.rows} rows")
    values = []
    if a.only != "theirs":
        with tempfile.TemporaryDirectory() as work:
            seconds, parameters = train_ours(a, x, Path(work))
        values.append(report("sae", seconds, a, x, held_out, parameters))
    if a.only != "ours":
        seconds, parameters = train_theirs(a, x)
        values.append(report("dictionary_learning", seconds, a, x, held_out, parameters))
    if len(values) == 2:
        print(f"ratio {values[0] / values[1]:.3f}")


if __name__ == "__main__":
    main()
