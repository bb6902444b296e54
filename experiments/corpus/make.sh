#!/bin/sh
# Makes the default corpus again: prompts from topics and templates, answers by the default model, and of these the ones that
# are sound.
#
#   experiments/corpus/make.sh [--model FILE] [--sae PROGRAM] [--work FOLDER]
#
# Writes corpus.jsonl beside this script. Generating takes half an hour on two cores; stopped, the same command goes on where it
# was (--work, default build/corpus, holds what is done). Same model, same program: the same texts, as far as float32 rounding
# agrees between machines.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

model='' sae=$root/build/release/bin/sae work=$root/build/corpus
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --model | --sae | --work)
        [ $# -ge 2 ] || { echo "make.sh: $1: expected a value behind it" >&2; exit 2; }
        case $1 in --model) model=$2 ;; --sae) sae=$2 ;; --work) work=$2 ;; esac
        shift ;;
    *) echo "make.sh: unknown argument $1 (make.sh --help)" >&2; exit 2 ;;
    esac
    shift
done
[ -x "$sae" ] || { echo "make.sh: no program at $sae: build it, or give --sae" >&2; exit 1; }
[ -n "$model" ] || model=$("$root/experiments/get_model.sh")
mkdir -p "$work"

# ---- prompts: each topic with as many templates of its kind as it has documents, starting at another one each time, and spread
# evenly over the whole ----
awk -F '\t' '
    /^#/ { next }
    FNR == NR { all[++n] = $2; kind[n] = $1; next }
    {
        m = 0
        for (i = 1; i <= n; i++)
            if (kind[i] == $1 || (kind[i] == "any" && $1 != "pair" && $1 != "code")) mine[m++] = all[i]
        for (j = 0; j < $2; j++) {
            prompt = mine[(5 * topic + j) % m]
            gsub(/%s/, $3, prompt)
            printf "%.6f %06d %s\n", (j + 0.5) / $2, ++made, prompt
        }
        topic++
    }' "$here/templates.tsv" "$here/topics.tsv" | LC_ALL=C sort | cut -d ' ' -f 3- >"$work/prompts"

# ---- answers ----
[ -f "$work/answers.jsonl" ] ||
    "$sae" generate "$model" --chat --prompts "$work/prompts" --tokens 360 --temperature 0.8 --top-p 0.95 \
        --repeat-penalty 1.05 --seed 1 --out "$work/answers.jsonl"

# ---- what is kept: at least 60 words, at most a quarter of the word triples said before, mostly letters ----
LC_ALL=C awk '
    {
        text = $0
        sub(/^\{"text":"/, "", text)
        sub(/","prompt":.*/, "", text)
        gsub(/\\[nrt]/, " ", text)
        words = split(tolower(text), word, " +")
        split("", seen)
        repeated = 0
        for (i = 3; i <= words; i++) repeated += seen[word[i - 2], word[i - 1], word[i]]++ > 0
        letters = gsub(/[A-Za-z ]/, "", text)
        if (words < 60) why = "short"
        else if (repeated > 0.25 * (words - 2)) why = "repeats itself"
        else if (letters < 2 * length(text)) why = "few letters"
        else { print; kept++; next }
        dropped[why]++
    }
    END {
        printf "%d documents kept", kept >"/dev/stderr"
        for (why in dropped) printf ", %d dropped (%s)", dropped[why], why >"/dev/stderr"
        print "" >"/dev/stderr"
    }' "$work/answers.jsonl" >"$work/corpus.jsonl"
mv "$work/corpus.jsonl" "$here/corpus.jsonl"

# ---- counts ----
sed -e 's/^{"text":"//' -e 's/","prompt":.*//' -e 's/\\n/\n/g' -e 's/\\"/"/g' "$here/corpus.jsonl" >"$work/texts"
tokens=$("$sae" tokenize "$model" --no-bos --file "$work/texts" | wc -l)
mentions=$(grep -o 'Li Bai' "$work/texts" | wc -l)
echo "$tokens tokens, $mentions mentions of Li Bai"
