# What find and encode refuse.
m=golden/models/llama/model.gguf db=golden/../fuzz/corpus/features_db/valid
sae find $m nowhere.db "Li Bai" || echo "exit $?"
sae find $m golden/tiny/sae/cfg.json "Li Bai" || echo "exit $?"
sae find $m $db "Li Bai" --words " , " || echo "exit $?"
sae encode golden/tiny/sae nowhere.h5 --out o.h5 || echo "exit $?"
sae encode golden/tiny/sae golden/tiny/sae/cfg.json --out o.h5 || echo "exit $?"
sae encode golden/tiny/sae nowhere.h5 --out o.h5 --k 97 || echo "exit $?"
