# A file that may not grow: one sentence, exit 1, nothing left behind.
m=golden/models/llama/model.gguf
mkdir corpus
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do printf 'the cat sat on the mat and the dog ran in the park, number %d of all the days of the year' $i >corpus/$i.txt; done
sae capture $m --layer 1 --corpus corpus --out rows.h5 --quiet >/dev/null
trap '' XFSZ
ulimit -f 64
sae encode golden/tiny/sae rows.h5 --out codes.h5 --quiet; echo $?
ls
