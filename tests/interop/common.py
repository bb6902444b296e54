"""What the tests with other people's libraries share: samples with their answers, and our program.

Each test is run as  python3 TEST.py SAE GOLDEN  and exits with 77 where its library is not installed."""
import json
import pathlib
import subprocess
import sys
import tempfile

SKIP = 77
TOLERANCE = 1e-5


def need(module):
    try:
        __import__(module)
    except ImportError as missing:
        print(f"skipped: {missing}")
        sys.exit(SKIP)


def samples(golden):
    return json.loads((golden / "index.json").read_text())["samples"]


def given(row):
    """Options for what the files may leave out."""
    options = []
    if row.get("k"):
        options += ["--k", str(row["k"])]
    if row.get("scaling_factor"):
        options += ["--scaling-factor", str(row["scaling_factor"])]
    return options


def convert(sae, golden, row, to, out):
    """True when the format can hold this autoencoder; any other failure ends the test."""
    command = [sae, "convert", golden / row["load"], "--to", to, "--out", out, *given(row)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 3 and ("cannot hold" in done.stderr or "has no architecture" in done.stderr):
        return False
    assert done.returncode == 0, f"{row['name']}: {done.stderr}"
    return True


def run(to, needed, answer):
    """answer(folder, x) gives dense latents and reconstructions; at least `needed` samples have to come through."""
    sae, golden = sys.argv[1], pathlib.Path(sys.argv[2])
    from safetensors.torch import load_file

    n = 0
    for row in samples(golden):
        if row["expect"] != "ok":
            continue
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "layers.16"
            if not convert(sae, golden, row, to, out):
                continue
            expected = load_file(golden / row["name"] / "expected.safetensors")
            x = expected["x"].reshape(16, -1)
            f, x_hat = answer(out, x)
            for name, found in (("f", f), ("x_hat", x_hat.reshape(16, -1))):
                right = expected[name].reshape(16, -1)
                worst = (found - right).abs().max().item()
                assert worst <= TOLERANCE, f"{row['name']}: {name} differs by {worst}"
            assert ((f != 0) == (expected["f"] != 0)).all(), f"{row['name']}: other latents fire"
            n += 1
    print(f"{n} autoencoders give the same numbers")
    assert n >= needed, f"expected at least {needed}"
