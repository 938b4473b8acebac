/* How fast a model will be: what it reads and computes, over what the machine reaches.
 *
 *   one token at depth d    Σ over formats  bytes / rate(format)
 *                           + max(cached bytes / attention's reading, multiply-adds / attention's rate)
 *                           + loops · what it costs to share one  (+ bytes that memory does not hold / disk)
 *   a prompt of n tokens    Σ over formats  multiply-adds / rate(format) + attention + loops
 *
 * Terms are added, not overlapped: while one is done the others wait.  What is left out (norms, RoPE, sampling) is small. */
#include <math.h>
#include <string.h>

#include "fathom.h"
#include "quant/format.h"

static void add(struct fm_speed *s, const char *what, const char *unit, double amount, double rate, bool guessed)
{
    if (!(amount > 0) || s->n_rows == (int)(sizeof s->rows / sizeof *s->rows)) return;
    const double seconds = rate > 0 ? amount / rate : 0;
    s->rows[s->n_rows++] = (struct fm_speed_row){what, unit, amount, rate, seconds, guessed};
    s->seconds += seconds;
}

static double bits(enum fm_fmt f) { return 8.0 * fm_formats[f].block_bytes / fm_formats[f].block; }

/* The machine's figures of a format, or, guessed, of the measured one whose size is nearest. */
static const struct fm_machine_format *figures(const struct fm_machine *m, const char *name, bool *guessed)
{
    const struct fm_machine_format *best = NULL;
    const enum fm_fmt want = fm_format_by_name(name);
    double least = INFINITY;
    *guessed = false;
    for (int i = 0; i < m->n_formats; i++) {
        if (!strcmp(m->formats[i].name, name)) return &m->formats[i];
        const enum fm_fmt f = fm_format_by_name(m->formats[i].name);
        const double far = f == FM_FMT_COUNT || want == FM_FMT_COUNT ? 1e9 : fabs(bits(f) - bits(want));
        if (far < least) least = far, best = &m->formats[i];
    }
    *guessed = true;
    return best;
}

/* Weights of a decoded token stay in the last cache where there is room for twice their bytes, and none do where they are
 * twice as large; in between the part that does is taken to fall evenly. */
static double cached_part(const struct fm_machine *m, double bytes)
{
    const double room = (double)m->l3_bytes;
    if (!(room > 0) || bytes >= 2 * room) return 0;
    return bytes <= room / 2 ? 1 : (2 * room - bytes) / (1.5 * room);
}

static bool first_of_format(const struct fm_forecast *f, int i)
{
    for (int k = 0; k < i; k++)
        if (!strcmp(f->weights[k].format, f->weights[i].format)) return false;
    return true;
}

/* Sum over the parts of row i's format. */
static struct fm_weight_row of_format(const struct fm_forecast *f, int i)
{
    struct fm_weight_row sum = {.format = f->weights[i].format};
    for (int k = i; k < f->n_weights; k++) {
        const struct fm_weight_row *r = &f->weights[k];
        if (strcmp(r->format, sum.format) != 0) continue;
        sum.bytes += r->bytes;
        sum.decode_bytes += r->decode_bytes;
        sum.decode_macs += r->decode_macs;
        sum.prefill_macs += r->prefill_macs;
    }
    return sum;
}

static double active_bytes(const struct fm_forecast *f)
{
    double bytes = 0;
    for (int i = 0; i < f->n_weights; i++) bytes += f->weights[i].decode_bytes;
    return bytes;
}

/* Weights that memory cannot hold beside the rest are read again for every step. */
static void add_disk(const struct fm_forecast *f, const struct fm_machine *m, double bytes_read, struct fm_speed *s)
{
    const double room = fmax((double)m->memory_free - (double)f->other_bytes, 0), all = (double)f->weight_bytes,
                 rate = fmax(m->disk, m->disk_direct);
    if (!m->memory_free || room >= all || !(rate > 0)) return;
    add(s, "disk", "B", bytes_read * (1 - room / all), rate, false);
}

void fm_forecast_decode(const struct fm_forecast *f, const struct fm_machine *m, int depth, struct fm_speed *out)
{
    const double active = active_bytes(f), cached = cached_part(m, active);
    *out = (struct fm_speed){0};
    for (int i = 0; i < f->n_weights; i++) {
        bool guessed;
        if (!first_of_format(f, i)) continue;
        const struct fm_machine_format *r = figures(m, f->weights[i].format, &guessed);
        if (!r) continue;
        add(out, f->weights[i].format, "B", of_format(f, i).decode_bytes,
            1 / (cached / r->decode_cache + (1 - cached) / r->decode), guessed);
    }
    const bool latent = f->pair_macs[1] > 0;
    const double bytes = (double)f->kv_bytes_per_token * depth, macs = f->pair_macs[latent] * depth;
    if (m->attn_read > 0 && m->attn_decode > 0) {
        if (bytes / m->attn_read > macs / m->attn_decode)
            add(out, "attention", "B", bytes, m->attn_read, false);
        else
            add(out, "attention", "MAC", macs, m->attn_decode, false);
    }
    if (m->loop_seconds > 0) add(out, "threads", "loops", f->loops, 1 / m->loop_seconds, false);
    add_disk(f, m, active, out);
}

/* Latent attention of a whole prompt in its cheaper form (nn/attn_mla.c): over latents, or expanded anew for each chunk. */
static void add_latent(const struct fm_forecast *f, const struct fm_machine *m, double n, struct fm_speed *s)
{
    const double pairs = n * (n + 1) / 2;
    const double absorbed = n * f->expand_macs + pairs * f->pair_macs[1],
                 expanded = n * f->expand_macs + pairs * f->pair_macs[0];
    bool guessed;
    if (f->deterministic || !f->expand_format || absorbed <= expanded) {
        const struct fm_machine_format *r = figures(m, f->expand_format ? f->expand_format : "Q8_0", &guessed);
        add(s, "absorbed heads", "MAC", n * f->expand_macs, r ? r->prefill : 0, guessed);
        add(s, "attention", "MAC", pairs * f->pair_macs[1], m->attn_decode, false);
        return;
    }
    const struct fm_machine_format *r = figures(m, f->expand_format, &guessed);
    const double full = floor(n / f->chunk);
    const double rows = f->chunk * full * (full + 1) / 2 + (n > full * f->chunk ? n : 0);
    add(s, "expanded latents", "MAC", rows * f->expand_macs, r ? r->prefill : 0, guessed);
    add(s, "attention", "MAC", pairs * f->pair_macs[0], m->attn_prefill, false);
}

/* The head, of the last token: read as when decoding. */
static void add_logits(const struct fm_forecast *f, const struct fm_machine *m, struct fm_speed *s)
{
    for (int i = 0; i < f->n_weights; i++) {
        bool guessed;
        if (!f->weights[i].logits) continue;
        const struct fm_machine_format *r = figures(m, f->weights[i].format, &guessed);
        if (r) add(s, "head", "B", f->weights[i].decode_bytes, r->decode, guessed);
    }
}

void fm_forecast_prefill(const struct fm_forecast *f, const struct fm_machine *m, int n, struct fm_speed *out)
{
    const double steps = ceil((double)n / f->chunk);
    *out = (struct fm_speed){0};
    for (int i = 0; i < f->n_weights; i++) {
        bool guessed;
        if (!first_of_format(f, i)) continue;
        const struct fm_machine_format *r = figures(m, f->weights[i].format, &guessed);
        if (r) add(out, f->weights[i].format, "MAC", n * of_format(f, i).prefill_macs, r->prefill, guessed);
    }
    add_logits(f, m, out);
    if (f->pair_macs[1] > 0)
        add_latent(f, m, n, out);
    else
        add(out, "attention", "MAC", (double)n * (n + 1.0) / 2 * f->pair_macs[0], m->attn_prefill, false);
    if (m->loop_seconds > 0) add(out, "threads", "loops", steps * f->loops, 1 / m->loop_seconds, false);
    add_disk(f, m, steps * (double)f->weight_bytes, out);
}
