# One sentence each, with the exit code: no folder, an unknown variant, too few rows, more latents a
# row than there are, words that are neither a number nor a choice, no such file, not HDF5, no such dataset, an autoencoder
# that is not ours to write over.
model=golden/models/llama/model.gguf
train() {
    sae train "$@" --quiet
    echo "exit $?"
}
echo '{"ids": [5, 6, 7, 8, 9, 10, 11, 12]}' >corpus.jsonl
echo 'not HDF5' >text.h5
sae capture $model --layer 1 --corpus corpus.jsonl --out a.h5 --quiet >/dev/null
train a.h5
train a.h5 --out s --variant topkk
train a.h5 --out s
train a.h5 --out s --batch 4 --k 40 --width 30
train a.h5 --out s --batch 4 --rows 3 --k 2 --width 30
train a.h5 --out s --lr fast
train a.h5 --out s --preselect maybe
train none.h5 --out s
train text.h5 --out s
train a.h5 --out s --dataset blocks.2.hook_resid_post
mkdir other && : >other/sae_weights.safetensors
train a.h5 --out other --batch 4 --rows 8 --k 2 --width 30
ls
