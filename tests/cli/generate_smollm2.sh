# What a float32 PyTorch run of the same weights says (golden/smollm2/prompts.json): greedy text, and nats per token.
[ -n "$MODEL" ] || exit 77
prompt='Li Bai was a poet of the Tang dynasty who wrote about the moon, wine and'
sae generate "$MODEL" --prompt "$prompt" --tokens 40 --temperature 0 --quiet
printf '%s' "$prompt" >text.txt
sae perplexity "$MODEL" --file text.txt --json --quiet | sed -n 's/"nll": \([0-9]*\.[0-9]\{4\}\).*/\1/p'
