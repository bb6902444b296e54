#!/bin/sh
# clang-format and clang-tidy over the tree: tests/lint.sh [FILE..]; --fix formats in place. Not part of ctest: what they say
# depends on their version (written for 14).
set -eu
cd "$(dirname "$0")/.."
dry=--dry-run
[ "${1-}" = --fix ] && { dry=-i; shift; }
[ $# -gt 0 ] || set -- $(git ls-files '*.c' '*.h')
failed=0
clang-format $dry -Werror "$@" || failed=1
[ $dry = -i ] && exit $failed
[ -f build/release/compile_commands.json ] || cmake --preset release >/dev/null
for file in "$@"; do
    case $file in
    *.c) grep -q "/$file\"" build/release/compile_commands.json && echo "$file" ;;
    esac
done | xargs -r -P "$(nproc)" -n 4 clang-tidy -p build/release --quiet 2>/dev/null || failed=1
exit $failed
