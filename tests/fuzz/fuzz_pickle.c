/* The input is a data.pkl; its archive has the storages 0, of 256 bytes, and 1, of 16 bytes. */
#include "read_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t bytes[256] = {1, 2, 3};
    zip_member members[] = {
        {.name = "a/data/0", .packed = bytes, .packed_size = sizeof bytes, .size = sizeof bytes},
        {.name = "a/data/1", .packed = bytes, .packed_size = 16, .size = 16},
    };
    const zip_archive zip = {members, 2};
    err e = {0};
    weights *w;
    if (weights_new("x.pt", &w, &e)) return 0;
    w->file_size = sizeof bytes;
    err_code rc = torch_add_pickle(w, bytes, &zip, "a/", 2, data, size, &e);
    if (!rc) rc = weights_index(w, &e);
    if (rc && !e.message[0]) abort();
    if (!rc) read_everything(w);
    weights_close(w);
    return 0;
}
