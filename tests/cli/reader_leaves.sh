# A pipe whose reader left ends the program like any other in a pipeline: by SIGPIPE, without a word.
mkfifo pipe
(exec 3<pipe) & # opens and leaves
exec 4>pipe
wait
(sae --help >&4)
echo "status $?"
