model=golden/models/llama/model.gguf
# one prompt streams; greedy text does not depend on the batch, threads or kernels
sae generate $model --prompt "the cat" --tokens 8 --temperature 0 --quiet
printf 'the cat\n\nHello\n' >prompts.txt
sae generate $model --prompts prompts.txt --tokens 8 --temperature 0 --quiet
sae generate $model --prompt "the cat" --tokens 8 --temperature 0 --quiet --json >greedy.json
sed 's/"tokens_per_second": .*/"tokens_per_second": N/' greedy.json
# sampled text depends on seed and index only
for how in '--max-batch 1' '--max-batch 7' '--threads 1'; do
    sae generate $model --prompts prompts.txt --samples 3 --tokens 9 --seed 4 --quiet --json $how | grep -v per_second | cksum
done | uniq -c | sed 's/^ *\([0-9]*\) .*/\1 the same/'
sae generate $model --prompt "the cat" --tokens 9 --seed 5 --quiet --json | grep -v per_second >five
sae generate $model --prompt "the cat" --tokens 9 --seed 6 --quiet --json | grep -v per_second >six
cmp -s five six || echo "another seed, another text"
# what streams is whole characters: cut anywhere, it is what is printed of the same text among others
for n in 1 2 3 4 5 6 7 8 9 10 11 12; do
    sae generate $model --prompt "the cat" --tokens $n --seed 5 --quiet >streamed
    sae generate $model --prompts prompts.txt --tokens $n --seed 5 --quiet | sed -n '2s/^text    //p' | cmp - streamed
done && echo "the same, streamed"
