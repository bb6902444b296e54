#!/bin/sh
# Everything, from a fresh machine: packages, the default model, both builds with warnings as errors, ctest on both.
# The sanitizer build leaves out the tests that run the default model (label `model`); the release build runs all.
# Ends with ctest's summary and its exit code.
set -eu
cd "$(dirname "$0")/.."
jobs=$(nproc)

experiments/install_deps.sh
experiments/get_model.sh || echo "tests/run.sh: no default model, its tests will be skipped" >&2

for preset in debug release; do
    cmake --preset $preset -DSAE_WERROR=ON -DSAE_TESTS=ON
    cmake --build --preset $preset -j "$jobs"
done
ctest --test-dir build/debug -LE model -j "$jobs" --output-on-failure
ctest --test-dir build/release -j "$jobs" --output-on-failure
