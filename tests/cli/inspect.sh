sae inspect golden/models/llama/model.gguf --tensors
sae inspect golden/sae_identity
sae inspect golden/sae_identity --json
