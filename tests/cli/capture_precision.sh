# Rows from rounded products: what the file says of them, that float32 rows do not go into the same file, a precision
# that does not exist. A text is as likely up to that.
model=golden/models/llama/model.gguf
echo '{"ids": [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]}' >corpus.jsonl
capture() {
    sae capture $model --layer 1 --corpus corpus.jsonl --out rows.h5 --quiet "$@"
    echo "exit $?"
}
capture --precision bf16 | grep float32 | sed 's/0\.[0-9]*/N/g'
rm rows.h5
capture --precision int8 | sed -e 's/[0-9.]* s, [0-9]* tokens/N s, N tokens/' -e 's/\(norm\|rms\) [0-9.]*/\1 N/g'
sae inspect rows.h5 --json | grep -E 'precision|deviation' | sed 's/0\.[0-9]*/N/'
capture
capture --precision int4
printf 'the cat sat on the mat' >text.txt
for precision in f32 bf16 int8; do
    sae perplexity $model --file text.txt --precision $precision --quiet | grep -o 'nll  [0-9]*'
done
