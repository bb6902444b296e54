formats=golden/sae_formats
sae convert $formats/saelens_gated --out gated
sae convert $formats/saelens_topk_rescale --to sparsify --out layers.3
sae convert $formats/qwen_scope/layer16.sae.pt --k 6 --to sparsify --out none || echo "exit $?"
sae convert layers.3 --out again --json | sed 's/"[0-9a-f]\{64\}"/"SHA256"/'
sae convert $formats/dictlearn_batch_topk_unset --out unset
sae convert $formats/qwen_scope/layer16.sae.pt --out none || echo "exit $?"
sae convert $formats/sparsify_groupmax/layers.16 --out none || echo "exit $?"
sae convert $formats/hostile_pt_code --out none || echo "exit $?"
sae convert $formats/hostile_unknown_key --out none || echo "exit $?"
ls
