#include "read_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return read_all_weights("x.pt", data, size); }
