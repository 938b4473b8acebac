/* How far the fast arithmetic is from --exact, for every format that has fast arithmetic: a trained model, requantised, says the
 * same text both ways.  Formats with blocks of 256 do not fit the shipped model's rows: a Llama of width 256 takes its place, which
 * is trained here on the same texts, briefly, so that its logits say something.
 *
 * Perplexity: within 0.1 % of the exact path's, and four standard errors of the difference's mean, as the text is short (four,
 * not two: there are many formats, and each change of a bit anywhere draws anew).
 *
 * Logits: activations are rounded to int8 in blocks of 32, with a step of max|x|/127.  A block's largest value is at most
 * sqrt(32) times its root mean square, so the rounding, even within a step, is at most sqrt(32)/(127·sqrt(12)) = 1.29 % of it;
 * of a cache's groups of 64 1.82 %.  The errors of a product's terms are independent, so its result is as far off.  A layer
 * rounds six times (into attention and out of it, keys, values, into the feed-forward and out of it), the head once more; where no
 * layer makes relative errors larger, the logits' is at most the root of the sum of squares, over 4·1.29² + 2·1.82² per layer.
 * F16 and BF16 go with 14 bits: of activations max|x|/8191, 127/8191 of that; of weights half a step of 2^-12 of the power of two within
 * the largest, sqrt(32)/(4096·sqrt(12)): together 0.045 %.
 * Experts change places at near ties, which no such bound covers: so the median position counts.
 *
 * Usage: test_distance [--quick | MODEL…]: with models, these as they are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "fathom.h"
#include "fathom_train.h"
#include "kernel/kernel.h"

enum { WINDOWS = 12, LENGTH = 256, FIRST = 32 }; /* scored from FIRST on */
static const char MODEL[] = "models/default.gguf";
static const char *const TEXTS[] = {"docs/ARCHITECTURE.md", "docs/MODELS.md", "docs/FORMATS.md"};
static const double PERPLEXITY = 0.001, BLOCK = 0.0129, FINE = 0.00045, GROUP = 0.0182;

static struct fm_error err;
static int n_failed;

static void must(enum fm_status st)
{
    if (!st) return;
    printf("FAILED %s\n", err.message);
    exit(1);
}

/* ---- logits ---------------------------------------------------------------------------------------------------- */

struct text {
    int32_t *ids;
    size_t n;
};

static struct fm_engine *engine(const char *model, bool exact)
{
    struct fm_engine *e;
    const struct fm_engine_options o = {.model = model, .exact = exact, .ctx = LENGTH, .threads = 2};
    must(fm_engine_open(&o, &e, &err));
    return e;
}

/* [LENGTH,V] of one window, read as a context of its own. */
static void say(struct fm_engine *e, const int32_t *ids, float *logits)
{
    struct fm_session *s;
    must(fm_session_new(e, 0, &s, &err));
    must(fm_session_feed(s, ids, LENGTH, logits, &err));
    fm_session_free(s);
}

/* −ln p of a token */
static double loss(const float *z, int V, int32_t id)
{
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < V; i++) top = fmax(top, (double)z[i]);
    for (int i = 0; i < V; i++) sum += exp((double)z[i] - top);
    return top + log(sum) - (double)z[id];
}

/* ---- distances ------------------------------------------------------------------------------------------------- */

struct distance {
    int n;
    double d[WINDOWS * LENGTH], relative[WINDOWS * LENGTH]; /* of −ln p; rms|Δz| over the deviation of z */
    double worst;                                           /* max|Δz| over the range of z               */
};

static void compare(struct distance *m, const float *exact, const float *fast, int V, int32_t next)
{
    double least = INFINITY, most = -INFINITY, far = 0, sum = 0, squares = 0, error = 0;
    for (int i = 0; i < V; i++) {
        const double z = (double)exact[i], d = (double)fast[i] - z;
        least = fmin(least, z);
        most = fmax(most, z);
        far = fmax(far, fabs(d));
        sum += z;
        squares += z * z;
        error += d * d;
    }
    m->worst = fmax(m->worst, far / (most - least));
    m->relative[m->n] = sqrt(error / (squares - sum * sum / V));
    m->d[m->n++] = loss(fast, V, next) - loss(exact, V, next);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void judge(const char *name, struct distance *m, int layers, double block)
{
    double mean = 0, squares = 0;
    for (int i = 0; i < m->n; i++) mean += m->d[i] / m->n;
    for (int i = 0; i < m->n; i++) squares += (m->d[i] - mean) * (m->d[i] - mean);
    qsort(m->relative, (size_t)m->n, sizeof *m->relative, by_value);
    const double error = sqrt(squares / m->n / (m->n - 1)), middle = m->relative[m->n / 2],
                 bound = sqrt(layers * (4 * block * block + 2 * GROUP * GROUP) + block * block);
    const bool ok = fabs(mean) <= PERPLEXITY + 4 * error && middle <= bound;
    printf(
        "%-6s %-8s ln(PPL/PPL(exact)) %+.5f ± %.5f, logits %.2f %% off in the median (bound %.1f), at most %.1f %% of "
        "their range\n",
        ok ? "ok" : "FAILED", name, mean, error, 100 * middle, 100 * bound, 100 * m->worst);
    n_failed += !ok;
}

static void measure(const char *name, const char *model, const struct text *t, double block)
{
    static struct distance m;
    struct fm_engine *ways[2] = {engine(model, true), engine(model, false)};
    const int V = fm_engine_info(ways[0])->vocab, layers = fm_engine_info(ways[0])->n_layers;
    float *z[2];
    m = (struct distance){0};
    for (int i = 0; i < 2; i++)
        if (!(z[i] = malloc((size_t)LENGTH * (size_t)V * sizeof *z[i]))) exit(1);
    for (int w = 0; w < WINDOWS && (size_t)(w + 1) * LENGTH < t->n; w++) {
        const int32_t *ids = t->ids + w * LENGTH;
        for (int i = 0; i < 2; i++) say(ways[i], ids, z[i]);
        for (size_t p = FIRST; p < LENGTH; p++) compare(&m, z[0] + p * V, z[1] + p * V, V, ids[p + 1]);
    }
    judge(name, &m, layers, block);
    for (int i = 0; i < 2; i++) {
        fm_engine_close(ways[i]);
        free(z[i]);
    }
}

/* ---- models ---------------------------------------------------------------------------------------------------- */

static struct text read_text(const char *model)
{
    struct fm_buf b = {0};
    struct fm_engine *e = engine(model, true);
    struct text t;
    for (int i = 0; i < 3; i++) {
        struct fm_buf part = {0};
        must(fm_buf_read_file(&part, TEXTS[i], 1 << 20, &err));
        fm_buf_add(&b, part.data, part.len);
        fm_buf_release(&part);
    }
    must(fm_text_encode(fm_engine_tokenizer(e), b.data, b.len, 0, &t.ids, &t.n, &err));
    fm_buf_release(&b);
    fm_engine_close(e);
    return t;
}

static const char WIDE[] =
    "{\"model_type\":\"llama\",\"vocab_size\":512,\"hidden_size\":256,\"intermediate_size\":512,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":8,\"num_key_value_heads\":8,\"head_dim\":32,\"rms_norm_eps\":1e-6,"
    "\"initializer_range\":0.02,\"tie_word_embeddings\":false,\"rope_theta\":10000.0,\"max_position_embeddings\":256}";

/* A model of width 256 in folder/wide.gguf, trained on the texts. */
static void train_wide(const char *folder)
{
    char config[64], out[64], path[64];
    snprintf(config, sizeof config, "%s/config.json", folder);
    snprintf(out, sizeof out, "%s/out", folder);
    snprintf(path, sizeof path, "%s/wide.gguf", folder);
    FILE *f = fopen(config, "w");
    if (!f || fputs(WIDE, f) < 0 || fclose(f)) exit(1);
    struct fm_train_options o;
    struct fm_train_result r;
    fm_train_options_default(&o);
    o.paths = TEXTS;
    o.n_paths = 3;
    o.config = config;
    o.out = out;
    o.steps = 60;
    o.seq = 128;
    o.batch = 8;
    o.lr = 2e-3F;
    o.seed = 1;
    o.threads = 2;
    must(fm_train_run(&o, &r, &err));
    must(fm_train_export(out, path, "F32", false, &err));
}

/* Every format with an integer product, and those of floats, whose blocks are of 256 or not; model, and files in folder. */
static void all_formats(const char *model, const char *folder, bool of_256, const struct text *t, bool quick)
{
    char path[64];
    const struct fm_kernels *k = fm_kernels_get(NULL);
    snprintf(path, sizeof path, "%s/some.gguf", folder);
    for (int f = 0; f < FM_FMT_COUNT; f++) {
        const bool floats = f == FM_F16 || f == FM_BF16 || f == FM_F8_E4M3;
        const bool chosen = !quick || f == FM_Q4_0 || f == FM_Q8_0;
        if (!(k->gemm_q8[f] || floats) || !fm_formats[f].encode || !chosen || (fm_formats[f].block == 256) != of_256)
            continue;
        struct fm_quantize_result r;
        const struct fm_quantize_options o = {.in = model, .out = path, .type = fm_formats[f].name};
        must(fm_quantize(&o, &r, &err));
        if (strcmp(r.formats[0].name, o.type) != 0) {
            printf("FAILED %s: the model's rows are no whole blocks of it\n", o.type);
            n_failed++;
            continue;
        }
        measure(fm_formats[f].name, path, t, f == FM_F16 || f == FM_BF16 ? FINE : BLOCK);
    }
}

static void both_models(bool quick)
{
    char folder[] = "/tmp/fathom-distance-XXXXXX", path[64], command[64];
    if (!mkdtemp(folder)) exit(1);
    struct text t = read_text(MODEL);
    all_formats(MODEL, folder, false, &t, quick);
    fm_text_free(t.ids);
    if (!quick) { /* training takes minutes without vector instructions */
        train_wide(folder);
        snprintf(path, sizeof path, "%s/wide.gguf", folder);
        t = read_text(path);
        all_formats(path, folder, true, &t, quick);
        fm_text_free(t.ids);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command)) exit(1);
}

int main(int argc, char **argv)
{
    const bool quick = argc > 1 && !strcmp(argv[1], "--quick");
    struct stat st;
    if (argc > 1 && !quick) {
        for (int i = 1; i < argc; i++) {
            struct text t = read_text(argv[i]);
            measure(argv[i], argv[i], &t, BLOCK);
            fm_text_free(t.ids);
        }
    } else {
        if (stat(MODEL, &st)) {
            printf("%s is not here\n", MODEL);
            return 77;
        }
        both_models(quick);
    }
    printf("%d failures\n", n_failed);
    return n_failed > 0;
}
