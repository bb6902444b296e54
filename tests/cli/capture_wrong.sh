# One sentence each, with the exit code: no hook, a layer and a hook that the model lacks, a hook twice, a corpus that is
# missing, empty, binary, too short, another capture's file, another kind of file, no folder to write to, no room.
model=golden/models/llama/model.gguf
capture() { # corpus, out, options..
    corpus=$1 out=$2
    shift 2
    sae capture $model --corpus "$corpus" --out "$out" "$@"
    echo "exit $?"
}
echo '{"ids": [5, 6, 7]}' >ids.jsonl
: >empty.jsonl
printf 'a\0b' >binary.txt
echo 'not HDF5' >text.h5
capture ids.jsonl a.h5
capture ids.jsonl a.h5 --layer 3
capture ids.jsonl a.h5 --hook blocks.1.hook_mlp_ou
capture ids.jsonl a.h5 --layer 1 --hook blocks.1.hook_resid_post
capture none.txt a.h5 --layer 1
capture empty.jsonl a.h5 --layer 1
capture binary.txt a.h5 --layer 1
capture ids.jsonl a.h5 --layer 1 --skip-first 3
capture ids.jsonl text.h5 --layer 1
capture ids.jsonl none/a.h5 --layer 1
(ulimit -f 100 && capture ids.jsonl limited.h5 --layer 1)
ls *.h5*
capture ids.jsonl a.h5 --layer 1 >/dev/null
capture ids.jsonl a.h5 --layer 2
