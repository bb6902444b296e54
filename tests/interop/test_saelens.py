"""SAELens loads the folders we write and gives the numbers of the format an autoencoder came from."""
import common

common.need("sae_lens")
import torch  # noqa: E402
from sae_lens import SAE  # noqa: E402


@torch.no_grad()
def answer(folder, x):
    sae = SAE.load_from_disk(str(folder), device="cpu")
    f = sae.encode(x)
    x_hat = sae.decode(f)
    if hasattr(sae, "W_skip"):
        x_hat = x_hat + x @ sae.W_skip.T
    return f, x_hat


common.run("saelens", 60, answer)
