model=golden/models/llama/model.gguf
sae tokenize $model "Hello there" "$(printf '\346\235\216\tx<|end|>')"
sae tokenize $model "" "<|end|>" "$(printf 'a\377')" --json
sae tokenize $model "<|end|>" --no-special
printf 'two\nlines' >text.txt
sae tokenize $model --file text.txt
