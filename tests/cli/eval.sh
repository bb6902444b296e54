# Loss and reconstruction on the tiny model, and the bad input around it.
m=golden/models/llama/model.gguf
sae eval $m golden/tiny/sae --corpus golden/tiny/corpus --tokens 2000 --context 64 --quiet | sed 's/[0-9][0-9]*\.[0-9]*/N/g; s/[0-9][0-9]*/N/g; s/-N/N/g; s/  */ /g'
sae eval golden/tiny/sae nowhere.h5 --tokens 5 || echo "exit $?"
sae eval $m golden/tiny/sae --corpus golden/tiny/sae --quiet || echo "exit $?"
sae eval $m golden/tiny/corpus --corpus golden/tiny/corpus --quiet || echo "exit $?"
