# A template of one's own, and what is refused in one.
model=golden/models/llama/model.gguf
how="--tokens 8 --temperature 0 --quiet"
printf 'the {{ messages[0].content }}' >the.jinja
sae generate $model --prompt "the cat" $how >raw
for prompts in "--chat --prompt cat" "--prompt cat"; do
    sae generate $model $prompts --chat-template the.jinja $how | cmp - raw && echo same
done
sae generate $model --chat-template the.jinja --prompt cat --out chat.jsonl --with-prompt $how >out.txt && cut -c1-16 chat.jsonl
sae steer $model golden/tiny/sae --feature 3=5 --chat-template the.jinja --prompt cat $how --json >chat.json
sae steer $model golden/tiny/sae --feature 3=5 --prompt "the cat" $how --json >raw.json
grep '"text"' chat.json >chat.txt; grep '"text"' raw.json | cmp - chat.txt && echo steered the same

printf 'a\n{%% macro f() %%}{%% endmacro %%}' >macro.jinja
printf '{{ messages[0].content | xmlattr }}' >filter.jinja
printf "{{ raise_exception('System role not supported') }}" >raise.jinja
printf '{%% for m in messages %%}' >cut.jinja
: >empty.jinja
for t in macro filter raise cut empty absent; do
    sae generate $model --prompt cat --chat-template $t.jinja $how; echo $?
done
sae generate $model --prompt cat --chat $how; echo $?
