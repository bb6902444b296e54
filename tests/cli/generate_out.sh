# A corpus written in the order of its prompts. A run that fails in the middle (here: a file may not grow beyond 512 bytes)
# goes on where it was and ends with the same bytes as one that was never stopped.
model=golden/models/llama/model.gguf
printf 'the cat\nHello "you"\nsome words\n' >prompts.txt
how="--prompts prompts.txt --samples 4 --tokens 20 --seed 2 --quiet"
sae generate $model $how --out whole.jsonl --json | sed 's/"tokens_per_second": .*/"tokens_per_second": N/'
sed 's/"text":".*","prompt"/"text":"..","prompt"/' whole.jsonl

(ulimit -f 1; exec sae generate $model $how --out rest.jsonl)
echo "exit $?"
ls rest*
sae generate $model --prompts prompts.txt --samples 4 --tokens 20 --seed 3 --out rest.jsonl
echo "exit $?"
sae generate $model $how --max-batch 2 --out rest.jsonl --json | grep -v per_second | grep -c '"resumed_from": [1-9]'
ls rest*
cmp whole.jsonl rest.jsonl && echo same

sae generate $model --prompt "the cat" --tokens 4 --with-prompt --out one.jsonl --quiet >/dev/null
cut -c1-16 one.jsonl
sae generate $model $how --out whole.jsonl
echo "exit $?"
