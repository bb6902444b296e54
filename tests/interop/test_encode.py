"""Every sample through the program, rows from HDF5 and NumPy in turn, its output read with h5py: the numbers of its library, or
exit code 3, one sentence and no file."""
import pathlib
import subprocess
import sys
import tempfile

import common

common.need("h5py")
common.need("safetensors")
import h5py  # noqa: E402
import numpy as np  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402


def dense(file, width):
    indptr, indices, values = (file["latents/" + part][:] for part in ("indptr", "indices", "values"))
    f = np.zeros((len(indptr) - 1, width), np.float32)
    for row in range(len(f)):
        f[row, indices[indptr[row]:indptr[row + 1]]] = values[indptr[row]:indptr[row + 1]]
    return f


def write_rows(folder, x, as_numpy):
    path = folder / ("x.npy" if as_numpy else "x.h5")
    if as_numpy:
        np.save(path, x)
    else:
        with h5py.File(path, "w") as file:
            file["x"] = x
    return path


def check(sae, golden, row, as_numpy, folder):
    """Whether the sample matched; False when it was refused."""
    answers = golden / row["name"] / "expected.safetensors"
    expected = load_file(answers) if answers.exists() else None
    x = expected["x"] if expected else np.ones((16, 24), np.float32)
    out = folder / "out.h5"
    command = [sae, "encode", golden / row["load"], write_rows(folder, x, as_numpy), "--out", out, *common.given(row)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        assert row["expect"] != "ok" and done.returncode == 3, f"{row['name']}: {done.stderr}"
        assert len(done.stderr.splitlines()) == 1 and not list(folder.glob("out*")), row["name"]
        return False
    assert row["expect"] != "refuse", f"{row['name']}: not refused"
    with h5py.File(out) as file:
        f, x_hat = dense(file, expected["f"].shape[1]), file["reconstruction"][:]
    assert np.abs(f - expected["f"]).max() <= common.TOLERANCE, row["name"]
    assert ((f != 0) == (expected["f"] != 0)).all(), row["name"]
    assert np.abs(x_hat - expected["x_hat"].reshape(x_hat.shape)).max() <= common.TOLERANCE, row["name"]
    return True


sae, golden = sys.argv[1], pathlib.Path(sys.argv[2])
matched = []
for i, row in enumerate(common.samples(golden)):
    with tempfile.TemporaryDirectory() as folder:
        matched.append(check(sae, golden, row, i % 2 == 1, pathlib.Path(folder)))
print(f"{sum(matched)} samples match, {len(matched) - sum(matched)} are refused")
