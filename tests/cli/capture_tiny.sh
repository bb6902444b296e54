# A capture of two hooks, read from its JSON; the same command again finds nothing to do and changes nothing.
model=golden/models/llama/model.gguf
printf '{"text": "hello world"}\n{"ids": [5, 6, 7]}\n{"ids": [9]}\n' >corpus.jsonl
run() { sae capture $model --hook blocks.2.hook_mlp_out --layer 1 --corpus corpus.jsonl --out a.h5 "$@"; }
fields() { tr -d ' \n' | grep -o '"\(schema\|file\|tokens\|documents\|rows\|tokens_run\|name\|layer\|d_model\|dtype\)":[^,}]*'; }
run --json | tee first.json | fields
tr -d ' \n' <first.json | grep -c '"seconds":[0-9.e-]*,"writing_seconds":[0-9.e-]*,"tokens_per_second":[0-9.e]*,'
cp a.h5 before.h5
run | tail -1
cmp a.h5 before.h5
sae capture $model --layer 1 --corpus corpus.jsonl --out all.h5 --skip-first 0 --dtype float32 --json | fields
