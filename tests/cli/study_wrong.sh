# What a study refuses before it works.
m=golden/models/llama/model.gguf
sae study $m --corpus golden/tiny/corpus --out s || echo "exit $?"
sae study $m --corpus golden/tiny/corpus --layer 3 --out s --quiet || echo "exit $?"
sae study $m --corpus golden/tiny/sae --layer 1 --out s --quiet || echo "exit $?"
sae study $m --corpus golden/tiny/corpus --layer 2 --sae golden/tiny/sae --out s --quiet || echo "exit $?"
sae study golden/tiny/sae/cfg.json --corpus golden/tiny/corpus --layer 1 --out s --quiet || echo "exit $?"
mkdir s && echo '{}' >s/study.json
sae study $m --corpus golden/tiny/corpus --layer 1 --out s --quiet || echo "exit $?"
