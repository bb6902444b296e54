# What was printed must have arrived: a full disk behind stdout is a failure.
sae --help >/dev/full
