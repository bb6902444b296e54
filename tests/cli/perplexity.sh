# Log-probabilities of the tiny model, cut to digits that no kernel changes. Windows overlap by one token, so every token but the
# first is predicted once.
model=golden/models/llama/model.gguf
cut_digits() { sed -e 's/\(\.[0-9]\)[0-9]*/\1/' -e 's/\(ppl[_a-z": ]*[0-9]\).*/\1../'; }
printf 'the cat sat on the mat' >text.txt
sae perplexity $model --file text.txt --per-token | cut_digits
sae perplexity $model --file text.txt --context 5 --per-token --json | cut_digits

# an autoencoder that gives back what it gets ([I, -I] behind a ReLU) changes rows, but not the text's likelihood
sae perplexity $model --file text.txt --sae golden/sae_identity | cut_digits
sae perplexity $model --file text.txt --sae golden/sae_identity --json | cut_digits
