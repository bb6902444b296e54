#!/bin/sh
# run.sh TEST.py SAE GOLDEN: with $SAE_TEST_PYTHON, a Python that has the libraries, else python3.
here=$(cd "$(dirname "$0")" && pwd)
PYTHONDONTWRITEBYTECODE=1 exec "${SAE_TEST_PYTHON:-python3}" "$here/$1" "$2" "$3"
