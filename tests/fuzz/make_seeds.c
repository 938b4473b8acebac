/* Seeds for the fuzz targets: make_seeds DIR writes small valid files to DIR/gguf and DIR/safetensors. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../file_samples.h"

/* A file with one key or one tensor, so that the fuzzer has short ways to every branch. */
static enum fm_status small(const char *path, enum fm_container kind, int which, struct fm_error *err)
{
    static const char data[64];
    struct fm_writer *w;
    FM_TRY(fm_writer_open(path, kind, &w, err));
    if (which == 0) fm_writer_meta_strs(w, "s", (struct fm_str[]){{"a", 1}, {"bc", 2}}, 2);
    if (which == 1) fm_writer_meta_str(w, "general.name", "x", 1);
    if (which == 2) fm_writer_tensor(w, "t", FM_F32, 1, (uint64_t[]){2});
    enum fm_status st = fm_writer_begin(w, err);
    if (!st && which == 2) st = fm_writer_data(w, data, 8, err);
    if (!st) return fm_writer_commit(w, err);
    fm_writer_abort(w);
    return st;
}

static enum fm_status seeds(const char *dir, const char *name, enum fm_container kind, struct fm_error *err)
{
    char folder[1024], path[1100];
    snprintf(folder, sizeof folder, "%s/%s", dir, name);
    (void)mkdir(dir, 0777);
    (void)mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/all", folder);
    FM_TRY(sample_write(path, kind, err));
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/small-%d", folder, i);
        FM_TRY(small(path, kind, i, err));
    }
    return FM_OK;
}

int main(int argc, char **argv)
{
    struct fm_error err = {0};
    if (argc != 2) return 2;
    if (!seeds(argv[1], "gguf", FM_GGUF, &err) && !seeds(argv[1], "safetensors", FM_SAFETENSORS, &err)) return 0;
    fprintf(stderr, "make_seeds: %s\n", err.message);
    return 1;
}
