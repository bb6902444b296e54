sae generate --help | head -5
sae tokenize --help | head -5
sae perplexity --help | head -5
