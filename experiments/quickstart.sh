#!/bin/sh
# From nothing to steered text: packages, program, model, then `sae study`. Run again, it skips what is done and goes on where
# it was stopped.
#
#   experiments/quickstart.sh [FOLDER] [--model FILE] [--corpus DIR] [other options of `sae study`]
#
# FOLDER (default: study) receives everything. Without options: SmolLM2-135M-Instruct, layer 16, experiments/corpus, 250000
# tokens, the concept "Li Bai". With --model nothing is downloaded but missing packages.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

# ---- options: FOLDER and --model are ours, all others go to `sae study` ----
folder=study model='' previous=''
case ${1-} in
'' | -*) ;;
*) folder=$1; shift ;;
esac
for word in "$@"; do # each word is taken from the front and, unless it is ours, put back at the end
    shift
    case $previous$word in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --model) previous=--model: ;;
    --model:*) model=$word previous='' ;;
    --model=*) model=${word#--model=} ;;
    *) set -- "$@" "$word" ;;
    esac
done
[ -z "$previous" ] || { echo "quickstart.sh: --model: expected a file behind it" >&2; exit 2; }

given() { # option, words...: is it among them?
    option=$1
    shift
    for word in "$@"; do
        case $word in "$option" | "$option="*) return 0 ;; esac
    done
    return 1
}
given --out "$@" || set -- "$@" --out "$folder"
given --layer "$@" || set -- "$@" --layer 16
given --concept "$@" || set -- "$@" --concept "Li Bai"
given --corpus "$@" || set -- "$@" --corpus "$root/experiments/corpus"
given --tokens "$@" || set -- "$@" --tokens 250000
[ -t 2 ] || given --quiet "$@" || set -- "$@" --verbose # progress lines also into a log

# ---- work ----
step() { printf '\n== %s\n' "$1"; }

step "packages"
"$root/experiments/install_deps.sh"

step "program"
cmake -S "$root" -B "$root/build/release" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$root/build/release" --target sae -j "$(nproc)"

step "model"
[ -n "$model" ] || model=$("$root/experiments/get_model.sh" | tail -1)
echo "$model"

step "study"
exec "$root/build/release/bin/sae" study "$model" "$@"
