# the fields that scripts may rely on; lists cut to their first entries
sae inspect golden/models/llama/model.gguf --json | sed -n '/"metadata"/,$d; p'
sae inspect golden/models/llama/model.gguf --json | sed -n '/"tensors": \[/,/^    },/p'
