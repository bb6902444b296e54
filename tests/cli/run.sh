#!/bin/sh
# Runs one golden test of the program, or writes down what it prints now:
#
#   tests/cli/run.sh SAE NAME             compares; exit 0 same, 1 different, 77 skipped
#   tests/cli/run.sh --update SAE NAME    writes NAME.stdout.exact, NAME.stderr.exact, NAME.exit (a .glob is left alone)
#
# NAME.sh runs in a fresh folder with `sae` on its PATH and tests/golden as `golden`; $MODEL is the default model's file,
# empty when it is not there (the script then says exit 77). Expected: NAME.stdout.exact or NAME.stdout.glob (a shell pattern
# a line), the same for stderr, nothing at all where neither exists; the exit code in NAME.exit, 0 where there is none.
set -u
update=
[ "${1-}" = --update ] && { update=1; shift; }
[ $# = 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
sae=$(realpath "$1")
expected=$here/$2

work=$(mktemp -d "${TMPDIR:-/tmp}/sae-cli-XXXXXX") || exit 1
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/cwd"
ln -s "$sae" "$work/bin/sae"
ln -s "$here/../golden" "$work/cwd/golden"
PATH=$work/bin:$PATH
MODEL=${SAE_TEST_MODEL:-$HOME/.cache/sae/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -f "$MODEL" ] || MODEL=
TERM=dumb LC_ALL=C.UTF-8
export PATH MODEL TERM LC_ALL

(cd "$work/cwd" && exec sh "$expected.sh") </dev/null >"$work/stdout" 2>"$work/stderr"
code=$?
[ $code = 77 ] && exit 77

# ---- comparing ----
failed=0
differs() { # what
    echo "cli/$(basename "$expected"): $1"
    failed=1
}

matches_glob() { # pattern file, text file: line by line
    exec 3<"$1" 4<"$2"
    line=0
    while :; do
        more_p=1 more_t=1
        IFS= read -r pattern <&3 || more_p=0
        IFS= read -r text <&4 || more_t=0
        line=$((line + 1))
        [ "$more_p$more_t" = 00 ] && return 0
        # shellcheck disable=SC2254
        case "$more_p$more_t$text" in
        11$pattern) ;;
        *) printf 'line %d\n  expected: %s\n  found:    %s\n' "$line" "$pattern" "$text"; return 1 ;;
        esac
    done
}

check_stream() { # stdout or stderr
    if [ -f "$expected.$1.glob" ]; then
        matches_glob "$expected.$1.glob" "$work/$1" || { differs "$1 does not match $1.glob; it was:"; cat "$work/$1"; }
    elif [ -f "$expected.$1.exact" ]; then
        diff -u "$expected.$1.exact" "$work/$1" || differs "$1 differs from $1.exact"
    elif [ -s "$work/$1" ]; then
        differs "expected nothing on $1, found:"
        cat "$work/$1"
    fi
}

if [ -n "$update" ]; then
    for stream in stdout stderr; do
        [ -f "$expected.$stream.glob" ] && continue
        if [ -s "$work/$stream" ]; then cp "$work/$stream" "$expected.$stream.exact"; else rm -f "$expected.$stream.exact"; fi
    done
    if [ $code = 0 ]; then rm -f "$expected.exit"; else echo $code >"$expected.exit"; fi
fi
check_stream stdout
check_stream stderr
wanted=0
[ -f "$expected.exit" ] && wanted=$(cat "$expected.exit")
[ "$code" = "$wanted" ] || differs "expected exit code $wanted, found $code"
[ $failed = 0 ] || { echo "--- stderr was:"; cat "$work/stderr"; }
exit $failed
