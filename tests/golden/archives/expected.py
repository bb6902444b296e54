"""Writes expected.safetensors: the tensors of the archives beside it as float32, read without PyTorch by numpy's and Python's own readers.

    python3 expected.py     # numpy 2.4.6, safetensors 0.8.0, Python 3.11
"""
import collections
import pickle
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).parent
TYPES = {"FloatStorage": "<f4", "IntStorage": "<i4", "LongStorage": "<i8", "BFloat16Storage": "<u2"}


def rebuild(storage, offset, shape, strides, *_):
    kind, values = storage
    if kind == "BFloat16Storage":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    view = np.lib.stride_tricks.as_strided(values[offset:], shape, [s * values.itemsize for s in strides])
    return np.ascontiguousarray(view, dtype=np.float32).reshape(shape)


class Reader(pickle.Unpickler):
    def __init__(self, archive, name):
        self.archive, self.prefix = archive, name[:-len("data.pkl")]
        super().__init__(archive.open(name))

    def find_class(self, module, name):
        return {"_rebuild_tensor_v2": rebuild, "OrderedDict": collections.OrderedDict}.get(name, name)

    def persistent_load(self, pid):
        return pid[1], np.frombuffer(self.archive.read(f"{self.prefix}data/{pid[2]}"), TYPES[pid[1]])


def flatten(prefix, value, out):
    for key, v in value.items():
        if isinstance(v, dict):
            flatten(f"{prefix}{key}.", v, out)
        elif isinstance(v, np.ndarray):
            out[f"{prefix}{key}"] = v


expected = {}
for path in sorted(HERE.glob("*.npz")):
    flatten(f"{path.name}:", {k: np.ascontiguousarray(v) for k, v in np.load(path).items()}, expected)
for path in sorted(HERE.glob("*.pt")):
    with zipfile.ZipFile(path) as archive:
        pkl = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        flatten(f"{path.name}:", Reader(archive, pkl).load(), expected)
save_file(expected, HERE / "expected.safetensors")
