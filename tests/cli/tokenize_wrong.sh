model=golden/models/llama/model.gguf
sae tokenize $model; echo $?
sae tokenize $model text --file text.txt; echo $?
sae tokenize $model --file absent.txt; echo $?
sae tokenize absent.gguf text; echo $?
printf 'not a model' >file.gguf
sae tokenize file.gguf text; echo $?
