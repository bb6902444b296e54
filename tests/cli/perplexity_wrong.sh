model=golden/models/llama/model.gguf
sae perplexity $model; echo $?
printf 'x' >short.txt
sae perplexity $model --file short.txt; echo $?
sae perplexity $model --file short.txt --context 1000; echo $?
printf 'the cat sat' >text.txt
mkdir sae
sae perplexity $model --file text.txt --sae sae; echo $?
