"""sparsify loads the folders we write and gives the numbers of the format an autoencoder came from."""
import os

import common

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its kernels want a GPU
common.need("sparsify")
import torch  # noqa: E402
from sparsify import SparseCoder  # noqa: E402


@torch.no_grad()
def answer(folder, x):
    coder = SparseCoder.load_from_disk(folder, device="cpu")
    top = coder.encode(x)
    f = torch.zeros(len(x), coder.num_latents).scatter_(1, top.top_indices, top.top_acts)
    x_hat = coder.decode(top.top_acts, top.top_indices)
    if coder.W_skip is not None:
        x_hat = x_hat + x @ coder.W_skip.mT
    return f, x_hat


common.run("sparsify", 8, answer)
