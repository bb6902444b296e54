# A model in Hugging Face's layout is a folder: captured, inspected and read like a file. Its tensors alone are not enough.
m=golden/models/qwen3/
printf 'the moon over the river' >texts.txt
sae capture $m --layer 1 --corpus texts.txt --out rows.h5 --context 16 --quiet >/dev/null
sae inspect rows.h5 | grep -E '^ *(model|architecture) '
sae inspect $m | grep -E 'rchitecture|layers' | head -3
sae perplexity $m --file texts.txt --quiet | grep -c ppl
sae perplexity golden/models/llama/pytorch_model.bin --file texts.txt
