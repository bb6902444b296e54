/* The main of a fuzz target without libFuzzer: gives it every file of the folders and files on the command line, each in
 * memory of exactly its size, so that the sanitizers see a read behind its end. Fails when there was nothing to replay. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st)) {
        perror(path);
        return 0;
    }
    size_t size = (size_t)st.st_size;
    uint8_t *bytes = malloc(size ? size : 1);
    if (bytes && fread(bytes, 1, size, f) == size) LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    fclose(f);
    return 1;
}

static int replay(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return replay_file(path);
    int n = 0;
    for (struct dirent *d; (d = readdir(dir));) {
        char name[4096];
        if (d->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", path, d->d_name);
        n += replay(name);
    }
    closedir(dir);
    return n;
}

int main(int argc, char **argv) {
    int n = 0;
    for (int i = 1; i < argc; i++) n += replay(argv[i]);
    printf("%d inputs\n", n);
    return n ? 0 : 1;
}
