#!/bin/sh
# Installs what the program, its tests and its scripts need on Debian: the one list of packages. Run as root or with sudo.
# Prints one line and changes nothing when all are there.
# shellcheck disable=SC2086 # a list of packages is meant to fall into words
set -eu

# what a minimal machine may lack to build; libraries (README, "Libraries"); figures and the model's download; tests
packages='
gcc libc6-dev make cmake pkg-config
libopenblas-openmp-dev libhdf5-dev libjansson-dev libpcre2-dev libsqlite3-dev libutf8proc-dev zlib1g-dev nettle-dev
gnuplot-nox ca-certificates python3-pip unzip
libcmocka-dev
'

if ! command -v dpkg-query >/dev/null; then
    echo "install_deps: not a Debian system; install the counterparts of:" $packages >&2
    exit 0 # cmake names what is really missing
fi

missing=
for package in $packages; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "install_deps: all packages are there"
    exit 0
fi

echo "install_deps: installing with apt-get:$missing"
as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "install_deps: neither root nor sudo; as root, run: apt-get install --no-install-recommends$missing" >&2
        exit 1
    }
    as_root=sudo
fi
$as_root apt-get update -qq || echo "install_deps: apt-get update failed, trying with the package lists that are here" >&2
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
