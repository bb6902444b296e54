# SAE_CPU with a name that is no level: refused, whatever the command; a level lowers the kernels.
SAE_CPU=avx3 sae tokenize golden/models/llama/model.gguf "a"
echo "exit $?"
SAE_CPU=portable sae --version | cut -d" " -f3-
