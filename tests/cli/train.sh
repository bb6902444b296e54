# From a captured file to a folder and its JSON; again: nothing is left to do; other options: refused; stopped: goes on to the
# same bytes; the result is known to inspect.
model=golden/models/llama/model.gguf
i=0
while [ $i -lt 40 ]; do
    echo "{\"ids\": [$((i % 7)), $((i * 3 % 101)), $((i * 5 % 97)), $((i * 11 % 89)), $((i % 13 + 3)), 9, $((i + 1)), 4, $((i % 3))]}"
    i=$((i + 1))
done >corpus.jsonl
sae capture $model --layer 1 --corpus corpus.jsonl --out a.h5 --quiet >/dev/null
run() { out=$1; shift; sae train a.h5 --out "$out" --width 48 --k ${k-4} --rows 4000 --batch 64 --held-out 0.1 --quiet "$@"; }
fields() { tr -d ' \n' | grep -o '"\(schema\|rows\|l0\|resumed_from\|out\)":[^,}]*'; }
run one --json >first.json
fields <first.json
tr -d ' \n' <first.json | grep -c '"rows_per_second":[0-9.e]*,"fvu":0\.[0-9]*,"l0":4\.0,"dead":[0-9.]*,'
run one --json | fields
run one | sed 's/[0-9]* rows\/s.*//'
k=5 run one 2>&1
echo "exit $?"
unset k
run two --checkpoint-every 640 --threads 1 >/dev/null
cmp one/sae_weights.safetensors two/sae_weights.safetensors
cmp one/cfg.json two/cfg.json
ls one | grep -v png # where gnuplot is
head -1 one/metrics.csv
grep -c . one/metrics.csv
grep -o '"\(skip_first\|hook_name\|trained_rows\)": [^,]*' one/cfg.json
