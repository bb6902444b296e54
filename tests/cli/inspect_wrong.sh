sae inspect absent.gguf; echo $?
printf 'hello, a text\n' >text.txt
sae inspect text.txt; echo $?
: >empty
sae inspect empty; echo $?
mkdir folder sae
sae inspect folder; echo $?
cp golden/sae_identity/cfg.json sae/
sae inspect sae; echo $?
head -c 3000 golden/models/llama/model.gguf >cut.gguf
sae inspect cut.gguf; echo $?
printf '\211HDF\r\n\032\n and nothing more' >cut.h5
sae inspect cut.h5 2>/dev/null; echo $?
printf 'SQLite format 3\0 and nothing more' >cut.db
sae inspect cut.db; echo $?
sae inspect golden/tokenizers/ggml-vocab-gpt-2.gguf | grep "parameters in"
