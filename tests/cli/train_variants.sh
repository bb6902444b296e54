# Every variant from a captured file to a folder that inspect knows; options that a variant does not have; transcoders from one
# hook to another.
model=golden/models/llama/model.gguf
i=0
while [ $i -lt 40 ]; do
    echo "{\"ids\": [$((i % 7)), $((i * 3 % 101)), $((i * 5 % 97)), $((i * 11 % 89)), $((i % 13 + 3)), 9, $((i + 1)), 4, $((i % 3))]}"
    i=$((i + 1))
done >corpus.jsonl
sae capture $model --hook blocks.0.hook_resid_post --hook blocks.1.hook_resid_post --corpus corpus.jsonl --out a.h5 --quiet >/dev/null
train() { sae train a.h5 --out "$@" --dataset blocks.1.hook_resid_post --width 48 --rows 4000 --batch 64 --held-out 0.1 --quiet; }
architecture() { grep -o '"\(architecture\|activation\|transcode\|skip_connection\|hook_name\|hook_name_out\)": [^,]*' $1/cfg.json; }
for v in topk batchtopk matryoshka standard gated jumprelu; do
    train $v --variant $v --json 2>>warned | grep -c '"l0"' # too few steps for 32 latents a row: some say so
    architecture $v
done
grep -c '^warning: standard: L0 is .*, wanted was 32: 63 steps' warned || cat warned
for v in transcoder skip_transcoder; do
    train $v --variant $v --target blocks.0.hook_resid_post --k 4 --json | grep -c '"l0"'
    architecture $v
    sae inspect $v | head -3
done
refuse() {
    train no "$@"
    echo "exit $?"
}
refuse --variant standard --k 4
refuse --variant topk --sparsity 1
refuse --variant gated --bandwidth 0.1
refuse --variant batchtopk --prefixes 4,48
refuse --variant matryoshka --prefixes 4,40
refuse --variant matryoshka --prefixes 4,3,48
refuse --variant matryoshka --prefixes four
refuse --variant jumprelu --l0 8 --sparsity 1
refuse --variant batchtopk --l0 8 --k 8
refuse --variant jumprelu --auxk 0.1
refuse --variant transcoder
refuse --variant topk --target blocks.0.hook_resid_post
refuse --variant transcoder --target blocks.7.hook_resid_post
rm warned
ls
