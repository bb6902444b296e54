# Straight from a model: the same held-out rows and nearly the same result as from a float32 capture; again: nothing left to do; a
# smaller pool is another run. One sentence each: no corpus, no model, both kinds of rows, no hook, a layer that the model
# lacks, an empty corpus, documents longer than the model reads.
model=golden/models/llama/model.gguf
i=0
while [ $i -lt 40 ]; do
    echo "{\"ids\": [$((i % 7)), $((i * 3 % 101)), $((i * 5 % 97)), $((i * 11 % 89)), $((i % 13 + 3)), 9, $((i + 1)), 4, $((i % 3))]}"
    i=$((i + 1))
done >corpus.jsonl
how="--width 48 --k 4 --rows 4000 --batch 64 --held-out 0.1"
live() { sae train --model $model --corpus corpus.jsonl $how "$@" | sed 's/[0-9]* rows\/s.*//'; }
live --layer 1 --out one
live --layer 1 --out one --quiet
live --layer 1 --out one --quiet --pool 100 2>&1 | sed 's/is ".*/../'
sae train --model $model --corpus corpus.jsonl --layer 1 --out epochs $how --pool 100 2>&1 >/dev/null | grep epochs
live --hook blocks.1.hook_resid_post --out two --quiet --threads 1 >/dev/null
cmp one/sae_weights.safetensors two/sae_weights.safetensors
sae capture $model --layer 1 --corpus corpus.jsonl --out a.h5 --dtype float32 --quiet >/dev/null
sae train a.h5 --out three $how --quiet >/dev/null
fvu() { grep -o '"fvu": 0\.[0-9]\{2\}' $1/train.json; }
[ "$(fvu one)" = "$(fvu three)" ] && echo "the same FVU"
grep -o '"\(skip_first\|hook_name\|trained_rows\)": [^,]*' one/cfg.json
wrong() {
    sae train "$@" $how --out none
    echo "exit $?"
}
wrong --model $model --layer 1
wrong --corpus corpus.jsonl --layer 1
wrong --layer 1
wrong a.h5 --model $model
wrong --model $model --corpus corpus.jsonl --layer 1 --dataset x
wrong --model $model --corpus corpus.jsonl
wrong --model $model --corpus corpus.jsonl --layer 3
: >empty.txt
wrong --model $model --corpus empty.txt --layer 1
wrong --model $model --corpus corpus.jsonl --layer 1 --skip-first 9
ls
