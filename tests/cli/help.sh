sae --help >all
head -2 all
sae help | cmp - all
sae --version | sed 's/[0-9.]\{3,\}/N/; s/(.* kernels)/(K kernels)/'
