#!/bin/sh
# The top level holds exactly what the design says: test_layout.sh ROOT. Skipped outside a git checkout.
set -eu
cd "$1"
found=$(git ls-files 2>/dev/null | cut -d/ -f1 | sort -u) || exit 77
[ -n "$found" ] || exit 77
expected='.ci
.clang-format
.clang-tidy
.gitignore
CMakeLists.txt
CMakePresets.json
LICENSE
README.md
activations
experiments
sae
src
tests'
[ "$found" = "$(echo "$expected" | LC_ALL=C sort)" ] || [ "$found" = "$(echo "$expected" | sort)" ] || {
    printf 'expected at the top level:\n%s\n\nfound:\n%s\n' "$expected" "$found"
    exit 1
}
large=$(git ls-files -z tests | xargs -0 -r stat -c %s | awk '{ n += $1 } END { print int(n / 1048576) }')
[ "$large" -le 20 ] || {
    echo "expected at most 20 MB under tests/, found $large MB"
    exit 1
}
