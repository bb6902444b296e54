#!/bin/sh
# The direction of the includes: test_includes.sh ROOT prints every #include line that points the wrong way and fails if
# there is one. First it checks itself on lines that are known to be wrong, so that a broken pattern cannot pass for order.
set -eu

# What each folder may include of ours (a prefix of the included name, ! forbids again), then which system headers belong
# to one place alone.
cat >"${TMPDIR:-/tmp}/rules.$$" <<'RULES'
src/core         core/
src/math         core/ math/
src/formats      core/ math/ formats/
src/text         core/ math/ formats/ text/
src/model        core/ math/ formats/ text/ model/
activations      core/ math/ formats/ text/ model/ activations/
sae              core/ math/ formats/ sae/ !sae/train/ !sae/eval/ !sae/splice.h
sae/variants     core/ math/ formats/ sae/ !sae/train/ !sae/eval/ !sae/splice.h
sae/splice       core/ math/ formats/ sae/ !sae/train/ !sae/eval/ model/hooks.h
sae/train        core/ math/ formats/ sae/ !sae/eval/ !sae/splice.h activations/source.h
sae/eval         core/ math/ formats/ sae/ !sae/train/ text/ model/ activations/
src/steer        core/ math/ formats/ sae/ !sae/train/ !sae/eval/ text/ model/ steer/
src/analysis     core/ math/ formats/ sae/ text/ model/ activations/ steer/ analysis/
src/cli          core/ math/ formats/ sae/ text/ model/ activations/ steer/ analysis/ cli/
<cblas.h>        src/math/blas.c
<hdf5            activations/
<sqlite3.h>      src/analysis/
<pcre2.h>        src/text/
<nettle/         src/core/
<zlib.h>         src/formats/zip.c
RULES
trap 'rm -rf "${TMPDIR:-/tmp}/rules.$$" "${TMPDIR:-/tmp}/includes.$$"' EXIT

check() { # the C files under folder $1
    (cd "$1" && find src activations sae -name '*.[ch]' -exec awk '
        function fits(name, prefix) { return substr(name, 1, length(prefix)) == prefix }
        function wrong(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why; failed = 1 }
        function check_ours(name, folder,    i, n, allowed, words) {
            n = split(rule[folder], words, " ")
            for (i = 1; i <= n; i++) {
                if (fits(words[i], "!") && fits(name, substr(words[i], 2))) allowed = 0
                else if (fits(name, words[i])) allowed = 1
            }
            if (!allowed) wrong(folder " may include " rule[folder])
        }
        function folder_of(file,    folder) {
            if (file ~ /^sae\/splice\./) return "sae/splice"
            for (folder = file; sub(/\/[^\/]*$/, "", folder);) if (folder in rule) return folder
            return ""
        }
        FILENAME == RULES { first = $1; sub(/^[^ ]+ +/, ""); rule[first] = $0; next }
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            split($0, part, "\"")
            folder = folder_of(FILENAME)
            if (folder == "") wrong("no rule for this folder")
            else check_ours(part[2], folder)
        }
        /^[ \t]*#[ \t]*include[ \t]*</ {
            name = substr($0, index($0, "<"))
            for (header in rule)
                if (fits(header, "<") && fits(name, header) && !fits(FILENAME, rule[header])) wrong("belongs to " rule[header])
        }
        END { exit failed }' "RULES=${TMPDIR:-/tmp}/rules.$$" "${TMPDIR:-/tmp}/rules.$$" {} +)
}

# ---- the check's own check: one file with only wrong lines, one with only right ones ----
fake="${TMPDIR:-/tmp}/includes.$$"
mkdir -p "$fake/src/core" "$fake/src/model/arch" "$fake/activations" "$fake/sae/train" "$fake/sae/variants"
expect_wrong() { # file, line
    echo "$2" >"$fake/$1"
    if check "$fake" >/dev/null; then
        echo "test_includes.sh: did not notice $2 in $1"
        exit 1
    fi
    rm "$fake/$1"
}
expect_wrong src/core/a.c '#include "math/blas.h"'
expect_wrong src/core/a.c '#include "a.h"'
expect_wrong src/model/arch/a.c '#include "sae/sae.h"'
expect_wrong src/model/arch/a.c '# include <hdf5.h>'
expect_wrong sae/variants/a.c '#include "model/hooks.h"'
expect_wrong sae/a.c '#include "sae/splice.h"'
expect_wrong sae/splice.c '#include "model/model.h"'
expect_wrong sae/train/a.c '#include "activations/store.h"'
expect_wrong activations/a.c '#include <cblas.h>'
echo '#include "model/hooks.h"' >"$fake/sae/splice.c"
echo '#include <hdf5.h>' >"$fake/activations/a.c"
check "$fake"

check "$1"
