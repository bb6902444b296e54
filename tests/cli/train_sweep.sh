# Four autoencoders from one reading: the table, the files, each the same as alone; again: nothing is left to do; another value: two
# more. Straight from a model, with what each costs it. Kinds of autoencoders by their names. One sentence each: what cannot be
# varied, a value the option does not take, an option given twice, no values, a model without a corpus, another model, no corpus there.
model=golden/models/llama/model.gguf
i=0
while [ $i -lt 40 ]; do
    echo "{\"ids\": [$((i % 7)), $((i * 3 % 101)), $((i * 5 % 97)), $((i * 11 % 89)), $((i % 13 + 3)), 9, $((i + 1)), 4, $((i % 3))]}"
    i=$((i + 1))
done >corpus.jsonl
sae capture $model --layer 1 --corpus corpus.jsonl --out a.h5 --quiet >/dev/null
train() { sae train "$@" --rows 4000 --batch 64 --held-out 0.1 --quiet; }
train a.h5 --out many --sweep "k=4,8 width=48,96" | cut -c1-20 | sort
train a.h5 --out one --k 8 --width 48 >/dev/null
cmp many/k8-width48/sae_weights.safetensors one/sae_weights.safetensors
cmp many/k8-width48/cfg.json one/cfg.json
ls many many/k4-width96 | grep -v png # where gnuplot is
head -1 many/sweep.csv
cut -d, -f1,2,7- many/sweep.csv | sort
before=$(stat -c %Y%i many/*/sae_weights.safetensors)
train a.h5 --out many --sweep "k=4,8,12 width=48,96" --json >many.json
tr -d ' \n' <many.json | grep -o '"name":"[^"]*"' | sort
tr -d ' \n' <many.json | grep -o '"[a-z0-9_]*":' | sort | uniq -c | sed 's/^ *//'
[ "$before" = "$(stat -c %Y%i many/k[48]-*/sae_weights.safetensors)" ] && echo "those that were there are left alone"
train --model $model --layer 1 --corpus corpus.jsonl --out live --sweep "k=4,8" --width 48 --ce-tokens 100 | cut -c1-12 | sort
train --model $model --layer 1 --corpus corpus.jsonl --out alone --k 4 --width 48 >/dev/null
cmp live/k4/sae_weights.safetensors alone/sae_weights.safetensors
cut -d, -f5 live/sweep.csv | grep -c '^-*[0-9.e-]*[0-9]$'
train a.h5 --out kinds --sweep "variant=standard,jumprelu l0=4" --width 48 >/dev/null 2>&1
ls kinds | grep -v png
wrong() {
    train a.h5 --out none "$@"
    echo "exit $?"
}
wrong --sweep "rows=100,200"
wrong --sweep "k=4,some"
wrong --sweep "k=4,8" --k 4
wrong --sweep "k"
wrong --sweep "k=4 k=8"
wrong --sweep " "
wrong --sweep "k=4,40" --width 30
wrong --sweep "variant=topk,topkk"
wrong --sweep "k=4,8" --model $model
wrong --sweep "k=4,8" --model golden/models/qwen3/model.gguf --corpus corpus.jsonl
wrong --sweep "k=4,8" --model $model --corpus none.jsonl
ls
