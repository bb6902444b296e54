# Models to GGUF and to a folder, in other types; what is refused; a file that may not grow leaves nothing behind.
m=golden/models
sae convert $m/gpt2 --out gpt2.gguf --dtype Q8_0
sae convert gpt2.gguf --to safetensors --dtype F16 --out gpt2 --json
sae convert $m/llama3_folder --to gguf --dtype TQ2_0 --out small.gguf
sae generate gpt2.gguf --prompt "the cat" --tokens 6 --temperature 0 --quiet >a && sae generate gpt2 --prompt "the cat" --tokens 6 --temperature 0 --quiet | cmp - a
sae convert $m/mistral --to gguf --out mistral.gguf
sae convert $m/gpt2 --to safetensors --dtype Q4_0 --out none || echo "exit $?"
sae convert $m/gpt2 --to gguf --k 5 --out none || echo "exit $?"
sae convert $m/gpt2 --dtype F16 --out none || echo "exit $?"
sae convert $m/gpt2/model.safetensors --to gguf --out none || echo "exit $?"
sae convert $m/gpt2 --to ggfu --out none || echo "exit $?"
trap '' XFSZ
ulimit -f 64
sae convert $m/gpt2 --to gguf --out none || echo "exit $?"
sae convert $m/gpt2/model.gguf --to safetensors --out none || echo "exit $?"
ls none 2>/dev/null || echo nothing
ls
