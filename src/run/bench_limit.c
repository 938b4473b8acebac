/* What a token costs, and how fast this machine could do it at best.
 *
 *   single tokens   bytes: weights of one token + cached rows;  multiply-adds: weights of one token + pairs with the cache
 *   prompts         bytes: all weights that a chunk's tokens touch, once per chunk, + cached rows, once per chunk;
 *                   multiply-adds: weights of each token + pairs in the cheaper form of latent attention, the head once
 *   limit           tokens / max(bytes / reading, int8 / its peak + float32 / its peak)
 *
 * Attention counts as int8, the faster arithmetic, except in exact runs: the limit is that of the machine, not of a way to
 * compute.  The cached rows count in the type that the cache has. */
#include "run/bench.h"

#include <math.h>
#include <string.h>

#include "op/cpu/limits.h"

/* ---- the machine ----------------------------------------------------------------------------------------------- */

/* Enough to see whether a cache holds a token's weights; the buffer is filled with random numbers, which takes a while. */
static size_t bytes_to_read(double bytes) { return (size_t)fmin(fmax(bytes, 0x1p20), 0x1p29); }

static enum fm_status read_memory(struct fm_limits *l, bool all, double bytes, double *best, struct fm_error *err)
{
    for (int huge = 0; huge < 2; huge++) {
        double rate[2];
        FM_TRY(fm_limits_read(l, bytes_to_read(bytes), huge, rate, NULL, err));
        *best = fmax(*best, rate[all]);
    }
    return FM_OK;
}

static double peak(struct fm_limits *l, bool int8, bool all, char instruction[24])
{
    const char *name = "";
    const double rate = fm_limits_peak(l, int8, all, &name);
    strncpy(instruction, name, 23);
    return rate;
}

enum fm_status fm_bench_measure_limit(int threads, double seconds, double bytes, struct fm_bench_limit *out,
                                      struct fm_error *err)
{
    struct fm_limits l;
    struct fm_bench_limit b = {0};
    FM_TRY(fm_limits_open(&l, threads, seconds, err));
    const bool all = l.n_threads > 1;
    enum fm_status st = read_memory(&l, all, bytes, &b.read, err);
    b.threads = l.n_threads;
    if (!st) {
        b.int8_peak = peak(&l, true, all, b.int8_instruction);
        b.f32_peak = peak(&l, false, all, b.f32_instruction);
        *out = b;
    }
    fm_limits_close(&l);
    return st;
}

/* ---- the work -------------------------------------------------------------------------------------------------- */

double fm_bench_active_bytes(const struct fm_forecast *f)
{
    double bytes = 0;
    for (int i = 0; i < f->n_weights; i++) bytes += f->weights[i].decode_bytes;
    return bytes;
}

/* Sums of what a run does. */
struct work {
    bool exact;
    double bytes, int8, f32;
};

static void add_macs(struct work *w, const char *format, double macs)
{
    const enum fm_fmt f = fm_format_by_name(format);
    const int as_int8 = w->exact || f == FM_FMT_COUNT ? 0 : fm_limits_int8(f);
    *(as_int8 ? &w->int8 : &w->f32) += macs * (as_int8 ? as_int8 : 1);
}

static void add_attention(struct work *w, double macs) { *(w->exact ? &w->f32 : &w->int8) += macs; }

/* n tokens one after another. */
static void decoding(const struct fm_forecast *f, const struct fm_bench_row *row, struct work *w)
{
    const double n = row->tokens, pairs = n * row->depth + n * (n + 1) / 2;
    for (int i = 0; i < f->n_weights; i++) {
        w->bytes += n * f->weights[i].decode_bytes;
        add_macs(w, f->weights[i].format, n * f->weights[i].decode_macs);
    }
    w->bytes += pairs * (double)f->kv_bytes_per_token;
    add_attention(w, pairs * f->pair_macs[f->pair_macs[1] > 0]);
}

/* The part of a row's bytes that `tokens` of them read, each taking its own share as routing does. */
static double touched(const struct fm_weight_row *r, double tokens)
{
    const double share = r->bytes ? fmin(1, r->decode_bytes / (double)r->bytes) : 0;
    return (double)r->bytes * (1 - pow(1 - share, tokens));
}

static void attend(const struct fm_forecast *f, const struct fm_bench_row *row, bool exact, struct work *w)
{
    const double n = row->tokens, end = row->depth + n, pairs = n * row->depth + n * (n + 1) / 2;
    const double absorbed = n * f->expand_macs + pairs * f->pair_macs[1],
                 expanded = end * f->expand_macs + pairs * f->pair_macs[0];
    if (!(f->pair_macs[1] > 0))
        add_attention(w, pairs * f->pair_macs[0]);
    else
        add_attention(w, exact || absorbed < expanded ? absorbed : expanded);
}

static void prompting(const struct fm_forecast *f, const struct fm_bench_row *row, struct work *w)
{
    const double n = row->tokens, chunk = fmin(n, f->chunk), steps = ceil(n / chunk);
    for (int i = 0; i < f->n_weights; i++) {
        const struct fm_weight_row *r = &f->weights[i];
        w->bytes += r->logits ? r->decode_bytes : steps * touched(r, chunk);
        add_macs(w, r->format, r->logits ? r->decode_macs : n * r->prefill_macs);
    }
    w->bytes += steps * (row->depth + n / 2) * (double)f->kv_bytes_per_token;
    attend(f, row, w->exact, w);
}

void fm_bench_work(const struct fm_forecast *f, bool exact, struct fm_bench_row *row)
{
    struct work w = {.exact = exact};
    if (row->decode)
        decoding(f, row, &w);
    else
        prompting(f, row, &w);
    row->bytes = w.bytes / row->tokens;
    row->int8_macs = w.int8 / row->tokens;
    row->f32_macs = w.f32 / row->tokens;
}

static double quotient(double amount, double rate) { return amount > 0 && rate > 0 ? amount / rate : 0; }

void fm_bench_bound(const struct fm_bench_limit *l, struct fm_bench_row *row)
{
    const double reading = quotient(row->bytes, l->read),
                 computing = quotient(row->int8_macs, l->int8_peak) + quotient(row->f32_macs, l->f32_peak);
    const double seconds = fmax(reading, computing);
    row->by_memory = reading >= computing;
    row->limit = seconds > 0 ? 1 / seconds : 0;
}
