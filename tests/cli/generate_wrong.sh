model=golden/models/llama/model.gguf
sae generate $model; echo $?
sae generate $model --prompt "" ; echo $?
sae generate $model --prompt x --with-prompt; echo $?
sae generate $model --prompt x --top-p 2; echo $?
sae generate $model --prompt x --chat; echo $?
sae generate $model --prompts absent.txt; echo $?
head -c 4000 $model >cut.gguf
sae generate cut.gguf --prompt x; echo $?
sae generate $model --prompt "$(printf 'word%.0s ' $(seq 100))" ; echo $?
