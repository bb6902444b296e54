model=golden/models/llama/model.gguf
mkdir corpus
printf 'the cat sat on the mat' >corpus/a.txt
printf '{"text": "the other text"}\n' >corpus/b.jsonl
sae capture $model --layer 1 --corpus corpus --out rows.h5 --quiet >/dev/null
cut_digits() { sed -e 's/\(mean norm\|rms\|"mean_norm":\|"rms":\) [0-9.]*/\1 N/g' -e 's/[0-9a-f]\{64\}/HASH/' -e '/tool_version/d'; }
sae inspect rows.h5 | cut_digits
sae inspect rows.h5 --json | cut_digits
