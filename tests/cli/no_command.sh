# Without a command: the help, but on stderr, and a usage error.
sae >out 2>err
echo "exit $?, $(wc -c <out) bytes on stdout"
sae --help | cmp - err
