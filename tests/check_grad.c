/* Every layer's backward against finite differences in double.
 *
 * nn/ and model/ are compiled once more with fm_real = double over op/ref (see the Makefile), so that the very lines that
 * train in float are differentiated here with an error far below the bound: five-point differences of step 1e-3 have a
 * truncation error of h⁴/30·f⁽⁵⁾ ≈ 3e-14 and a rounding error of eps/h ≈ 2e-13 relative to values of order one.
 * A tensor passes when ‖numeric − analytic‖₂ <= 1e-6·‖numeric‖₂ over its probed elements. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/model.h"

enum { MAX_PARAMS = 512, PROBES = 24 };
static const double BOUND = 1e-6, STEP = 1e-3, NOISE = 1e-10;
enum { MAX_UNUSED = 9 }; /* with this seed; more would mean that gradients vanish */

static int n_passed, n_failed, n_unused;
static struct fm_rng rng;

struct probe {
    const char *name;
    struct {
        const char *name;
        double *x, *g;
        size_t n;
    } p[MAX_PARAMS];
    int n;
    struct fm_ctx c;
    struct fm_arena arena;
    int T, D;
    double *x, *dx, *r; /* input, its gradient, weights of the scalar Σ r·y */
    struct fm_batch batch;
    struct fm_rope rope;
    double (*eval)(struct probe *p, bool backward);
    const void *shape;
    void *w, *dw;
    void *extra;
};

static double *reals(size_t n, double scale)
{
    double *x = fm_calloc(n, sizeof *x);
    if (!x) abort();
    for (size_t i = 0; i < n; i++) x[i] = scale * fm_rng_normal(&rng);
    return x;
}

/* A parameter of [rows, cols] in *w with its gradient in *dw. */
static void param(struct probe *p, const char *name, struct fm_mat *w, struct fm_mat *dw, int rows, int cols,
                  double mean, double scale)
{
    const size_t n = (size_t)rows * (size_t)cols;
    double *x = reals(n, scale), *g = reals(n, 0);
    for (size_t i = 0; i < n; i++) x[i] += mean;
    *w = fm_mat_of(FM_F64, rows, cols, x);
    *dw = fm_mat_of(FM_F64, rows, cols, g);
    p->p[p->n].name = name;
    p->p[p->n].x = x;
    p->p[p->n].g = g;
    p->p[p->n++].n = n;
}

static void matrix(struct probe *p, const char *name, struct fm_mat *w, struct fm_mat *dw, int rows, int cols)
{
    param(p, name, w, dw, rows, cols, 0, 1 / sqrt(cols));
}

static void vector(struct probe *p, const char *name, struct fm_mat *w, struct fm_mat *dw, int n)
{
    param(p, name, w, dw, 1, n, 1, 0.3);
}

static void input(struct probe *p, const char *name, double *x, double *g, size_t n)
{
    p->p[p->n].name = name;
    p->p[p->n].x = x;
    p->p[p->n].g = g;
    p->p[p->n++].n = n;
}

static void zero_grads(struct probe *p)
{
    for (int i = 0; i < p->n; i++) memset(p->p[i].g, 0, p->p[i].n * sizeof(double));
}

static double numeric(struct probe *p, double *x)
{
    const double x0 = *x, h = STEP;
    double f[4];
    const double at[4] = {-2, -1, 1, 2};
    for (int i = 0; i < 4; i++) {
        *x = x0 + at[i] * h;
        f[i] = p->eval(p, false);
    }
    *x = x0;
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h);
}

static void check_param(struct probe *p, int i)
{
    double diff = 0, norm = 0;
    const size_t n = p->p[i].n, probes = n < PROBES ? n : PROBES;
    for (size_t k = 0; k < probes; k++) {
        const size_t at = probes == n ? k : (size_t)fm_rng_below(&rng, n);
        const double a = p->p[i].g[at], b = numeric(p, &p->p[i].x[at]);
        diff += (a - b) * (a - b);
        norm += b * b;
    }
    const bool unused = sqrt(norm) < NOISE && sqrt(diff) < NOISE; /* an expert that no row with a loss has chosen */
    const bool ok = p->c.status == FM_OK && (unused || sqrt(diff) <= BOUND * sqrt(norm));
    n_unused += unused;
    ok ? n_passed++ : n_failed++;
    if (!ok) printf("FAILED %s: %s: relative error %.2e\n", p->name, p->p[i].name, sqrt(diff / norm));
}

static void run(struct probe *p)
{
    zero_grads(p);
    (void)p->eval(p, true);
    for (int i = 0; i < p->n; i++) check_param(p, i);
    for (int i = 0; i < p->n; i++) {
        fm_free(p->p[i].x);
        fm_free(p->p[i].g);
    }
    fm_free(p->r);
    fm_free(p->rope.cs);
    fm_arena_release(&p->arena);
}

/* Two sequences of 5 and 4 rows, so that one row's neighbour may be another sequence. */
static const struct fm_seq SEQS[2] = {{.row0 = 0, .n = 5, .segment_n = 5}, {.row0 = 5, .n = 4, .segment_n = 4}};
static const int32_t POS[9] = {0, 1, 2, 3, 4, 0, 1, 2, 3}, IDS[9] = {3, 1, 4, 1, 5, 9, 2, 6, 5};

static void begin(struct probe *p, const char *name, int D, double (*eval)(struct probe *, bool))
{
    memset(p, 0, sizeof *p);
    p->name = name;
    p->T = 9;
    p->D = D;
    p->eval = eval;
    if (fm_arena_init(&p->arena, "check", (size_t)64 << 20, NULL)) abort();
    p->c = (struct fm_ctx){.op = &fm_ops_ref, .grad = &fm_ops_grad_ref, .arena = &p->arena};
    p->batch = (struct fm_batch){.T = p->T, .n_seqs = 2, .seqs = SEQS, .ids = IDS, .pos = POS};
    const size_t n = (size_t)p->T * (size_t)D;
    p->x = reals(n, 1);
    p->dx = reals(n, 0);
    p->r = reals(n, 1);
    input(p, "input", p->x, p->dx, n);
}

static void rope(struct probe *p, int half, bool interleaved)
{
    double freq[64];
    for (int i = 0; i < half; i++) freq[i] = pow(100, -(double)i / half);
    p->rope = (struct fm_rope){.cs = reals((size_t)(p->T * half * 2), 0), .half = half, .interleaved = interleaved};
    p->c.op->rope_table(&p->c, p->rope.cs, POS, p->T, freq, half);
}

static double weighted_sum(const struct probe *p, const double *y)
{
    double s = 0;
    for (int i = 0; i < p->T * p->D; i++) s += p->r[i] * y[i];
    return s;
}

/* ---- layers ---- */

static double eval_mlp(struct probe *p, bool backward)
{
    const size_t mark = fm_arena_mark(&p->arena);
    struct fm_mlp_saved s;
    double *y = fm_ctx_reals(&p->c, (size_t)(p->T * p->D), "y");
    fm_mlp_forward(&p->c, p->w, p->T, y, p->x, &s);
    if (backward) fm_mlp_backward(&p->c, p->w, p->dw, p->T, p->dx, p->r, p->x, &s, false);
    const double loss = weighted_sum(p, y);
    fm_arena_reset(&p->arena, mark);
    return loss;
}

static void mlp_params(struct probe *p, struct fm_mlp *w, struct fm_mlp *dw, int F, int D)
{
    matrix(p, "gate", &w->gate, &dw->gate, F, D);
    matrix(p, "up", &w->up, &dw->up, F, D);
    matrix(p, "down", &w->down, &dw->down, D, F);
}

static void check_mlp(void)
{
    struct probe p;
    struct fm_mlp w, dw;
    begin(&p, "mlp", 6, eval_mlp);
    mlp_params(&p, &w, &dw, 10, 6);
    p.w = &w, p.dw = &dw;
    run(&p);
}

static double eval_mha(struct probe *p, bool backward)
{
    const size_t mark = fm_arena_mark(&p->arena);
    struct fm_mha_saved s;
    double *y = fm_ctx_reals(&p->c, (size_t)(p->T * p->D), "y");
    fm_mha_forward(&p->c, p->shape, p->w, &p->batch, 0, &p->rope, y, p->x, &s);
    if (backward) fm_mha_backward(&p->c, p->shape, p->w, p->dw, &p->batch, &p->rope, p->dx, p->r, p->x, &s);
    const double loss = weighted_sum(p, y);
    fm_arena_reset(&p->arena, mark);
    return loss;
}

static void check_mha(const char *name, int H, int Hkv, bool interleaved, bool biases, bool norms)
{
    const int D = 6, Dh = 4;
    struct probe p;
    struct fm_mha w = {0}, dw = {0};
    const struct fm_mha_shape s = {.H = H, .Hkv = Hkv, .Dh = Dh, .eps = 1e-5, .scale = 0.5};
    begin(&p, name, D, eval_mha);
    rope(&p, Dh / 2, interleaved);
    matrix(&p, "wq", &w.wq, &dw.wq, H * Dh, D);
    matrix(&p, "wk", &w.wk, &dw.wk, Hkv * Dh, D);
    matrix(&p, "wv", &w.wv, &dw.wv, Hkv * Dh, D);
    matrix(&p, "wo", &w.wo, &dw.wo, D, H * Dh);
    if (biases) {
        vector(&p, "bq", &w.bq, &dw.bq, H * Dh);
        vector(&p, "bk", &w.bk, &dw.bk, Hkv * Dh);
        vector(&p, "bv", &w.bv, &dw.bv, Hkv * Dh);
    }
    if (norms) {
        vector(&p, "q_norm", &w.q_norm, &dw.q_norm, Dh);
        vector(&p, "k_norm", &w.k_norm, &dw.k_norm, Dh);
    }
    p.shape = &s, p.w = &w, p.dw = &dw;
    run(&p);
}

static double eval_mla(struct probe *p, bool backward)
{
    const size_t mark = fm_arena_mark(&p->arena);
    struct fm_mla_saved s;
    double *y = fm_ctx_reals(&p->c, (size_t)(p->T * p->D), "y");
    fm_mla_forward(&p->c, p->shape, p->w, &p->batch, 0, &p->rope, y, p->x, &s);
    if (backward) fm_mla_backward(&p->c, p->shape, p->w, p->dw, &p->batch, &p->rope, p->dx, p->r, p->x, &s);
    const double loss = weighted_sum(p, y);
    fm_arena_reset(&p->arena, mark);
    return loss;
}

static void check_mla(const char *name, int Rq)
{
    const int D = 6;
    struct probe p;
    struct fm_mla w = {0}, dw = {0};
    const struct fm_mla_shape s = {.H = 3, .Rq = Rq, .Rkv = 5, .Dn = 3, .Dr = 4, .Dv = 2, .eps = 1e-6, .scale = 0.4};
    const int Nq = s.H * (s.Dn + s.Dr);
    begin(&p, name, D, eval_mla);
    rope(&p, s.Dr / 2, true);
    if (Rq) {
        matrix(&p, "wq_a", &w.wq_a, &dw.wq_a, Rq, D);
        vector(&p, "q_a_norm", &w.q_a_norm, &dw.q_a_norm, Rq);
        matrix(&p, "wq_b", &w.wq_b, &dw.wq_b, Nq, Rq);
    } else {
        matrix(&p, "wq", &w.wq, &dw.wq, Nq, D);
    }
    matrix(&p, "wkv_a", &w.wkv_a, &dw.wkv_a, s.Rkv + s.Dr, D);
    vector(&p, "kv_a_norm", &w.kv_a_norm, &dw.kv_a_norm, s.Rkv);
    matrix(&p, "wkv_b", &w.wkv_b, &dw.wkv_b, s.H * (s.Dn + s.Dv), s.Rkv);
    matrix(&p, "wo", &w.wo, &dw.wo, D, s.H * s.Dv);
    p.shape = &s, p.w = &w, p.dw = &dw;
    run(&p);
}

static double eval_moe(struct probe *p, bool backward)
{
    const size_t mark = fm_arena_mark(&p->arena);
    const double alpha = *(const double *)p->extra;
    struct fm_moe_saved s;
    double *y = fm_ctx_reals(&p->c, (size_t)(p->T * p->D), "y");
    fm_moe_forward(&p->c, p->shape, p->w, p->T, p->D, y, p->x, &s);
    double loss = alpha > 0 ? fm_moe_balance(&p->c, p->shape, &p->batch, alpha, 0.5, &s) : 0;
    if (backward) fm_moe_backward(&p->c, p->shape, p->w, p->dw, p->T, p->D, p->dx, p->r, p->x, &s);
    loss += weighted_sum(p, y);
    fm_arena_reset(&p->arena, mark);
    return loss;
}

static void check_moe(const char *name, struct fm_router r, int Fs, double alpha)
{
    const int D = 6, F = 5, E = r.E;
    struct probe p;
    struct fm_mat experts[3][8], dexperts[3][8];
    struct fm_moe w = {.gate = experts[0], .up = experts[1], .down = experts[2]};
    struct fm_moe dw = {.gate = dexperts[0], .up = dexperts[1], .down = dexperts[2]};
    const struct fm_moe_shape s = {.router = r, .F = F, .Fs = Fs};
    double *bias = reals((size_t)E, 0.2);
    begin(&p, name, D, eval_moe);
    param(&p, "router", &w.router, &dw.router, E, D, 0, 1);
    for (int e = 0; e < E; e++) {
        matrix(&p, "expert gate", &experts[0][e], &dexperts[0][e], F, D);
        matrix(&p, "expert up", &experts[1][e], &dexperts[1][e], F, D);
        matrix(&p, "expert down", &experts[2][e], &dexperts[2][e], D, F);
    }
    if (r.sigmoid) w.bias = fm_mat_of(FM_F64, 1, E, bias);
    if (Fs) mlp_params(&p, &w.shared, &dw.shared, Fs, D);
    p.shape = &s, p.w = &w, p.dw = &dw, p.extra = &alpha;
    run(&p);
    fm_free(bias);
}

/* ---- whole models ---- */

struct whole {
    struct fm_config cfg;
    struct fm_weights w, dw;
    double freq[64];
    double alpha;
};

static double eval_model(struct probe *p, bool backward)
{
    static const int32_t target[9] = {1, 4, 1, 5, -1, 2, 6, 5, -1}, next[9] = {1, 4, 1, 5, 0, 2, 6, 5, 0},
                         target2[9] = {4, 1, 5, -1, -1, 6, 5, -1, -1};
    struct whole *m = p->extra;
    struct fm_step s = {.target = target,
                        .next = next,
                        .target2 = target2,
                        .scale = 0.7,
                        .scale_mtp = 0.3,
                        .balance_alpha = m->alpha,
                        .balance_seq_weight = 0.5};
    fm_model_step(&p->c, &m->cfg, &m->w, backward ? &m->dw : NULL, m->freq, &p->batch, &s);
    return s.scale * s.loss_sum + s.scale_mtp * s.mtp_loss_sum + s.balance_sum;
}

extern const struct fm_family fm_family_llama, fm_family_qwen2, fm_family_qwen3, fm_family_deepseek_v2,
    fm_family_deepseek_v3;

static void check_model(const struct fm_family *family, bool tied, int n_mtp, double alpha)
{
    struct probe p;
    struct whole m = {.alpha = alpha};
    struct fm_binding *list, *grads;
    int n;
    m.cfg = (struct fm_config){.family = family,
                               .V = 10,
                               .D = 8,
                               .L = 2,
                               .F = 7,
                               .H = 2,
                               .eps = 1e-5f,
                               .tied = tied,
                               .rope_theta = 100,
                               .rope_dim = 4,
                               .n_dense = 1,
                               .n_shared = 1,
                               .n_mtp = n_mtp};
    m.cfg.qkv_bias = family == &fm_family_qwen2;
    m.cfg.head_norms = family == &fm_family_qwen3;
    if (family == &fm_family_deepseek_v2 || family == &fm_family_deepseek_v3) {
        const bool v3 = family == &fm_family_deepseek_v3;
        m.cfg.mla = (struct fm_mla_shape){
            .H = 2, .Rq = v3 ? 6 : 0, .Rkv = 5, .Dn = 3, .Dr = 4, .Dv = 3, .eps = 1e-6, .scale = 0.4};
        m.cfg.moe = (struct fm_moe_shape){.router = {.E = 4,
                                                     .K = 2,
                                                     .n_group = 1,
                                                     .topk_group = 1,
                                                     .sigmoid = v3,
                                                     .group_top2 = v3,
                                                     .norm_topk = v3,
                                                     .scale = 1.5},
                                          .F = 5,
                                          .Fs = 5};
        m.cfg.router_bias = v3;
        m.cfg.rope_interleaved = true;
    } else {
        m.cfg.mha = (struct fm_mha_shape){.H = 2, .Hkv = 1, .Dh = 4, .eps = 1e-5, .scale = 0.5};
    }
    begin(&p, family->name, 8, eval_model);
    p.n = 0; /* the input is made of ids */
    fm_rope_frequencies(&m.cfg, m.freq);
    if (fm_weights_init(&m.w, &m.cfg, NULL) || fm_weights_init(&m.dw, &m.cfg, NULL) ||
        fm_bindings_new(&m.cfg, &m.w, &list, &n, NULL) || fm_bindings_new(&m.cfg, &m.dw, &grads, &n, NULL))
        abort();
    for (int i = 0; i < n; i++) {
        if (list[i].flags & (FM_BIND_SPLIT_PART | FM_BIND_BUFFER)) continue;
        param(&p, list[i].hf, list[i].mat, grads[i].mat, list[i].rows, list[i].cols,
              list[i].flags & FM_BIND_NORM ? 1 : 0, list[i].flags & FM_BIND_VECTOR ? 0.3 : 1 / sqrt(list[i].cols));
    }
    if (tied) m.w.head = m.w.embed, m.dw.head = m.dw.embed;
    p.extra = &m;
    fm_free(p.x);
    fm_free(p.dx);
    run(&p);
    fm_free(list);
    fm_free(grads);
    fm_weights_release(&m.w, &m.cfg);
    fm_weights_release(&m.dw, &m.cfg);
}

int main(void)
{
    fm_rng_init(&rng, 20240);
    check_mlp();
    check_mha("mha", 2, 2, false, false, false);
    check_mha("mha grouped, interleaved", 4, 2, true, false, false);
    check_mha("mha with biases", 2, 1, false, true, false);
    check_mha("mha with head norms", 4, 2, false, false, true);
    check_mla("mla, plain q", 0);
    check_mla("mla, low-rank q", 4);
    check_moe("moe softmax", (struct fm_router){.E = 6, .K = 2, .n_group = 1, .topk_group = 1, .scale = 1}, 0, 0);
    check_moe("moe softmax, groups, renormalised",
              (struct fm_router){.E = 6, .K = 2, .n_group = 3, .topk_group = 2, .norm_topk = true, .scale = 1.5}, 7, 0);
    check_moe("moe sigmoid",
              (struct fm_router){.E = 8,
                                 .K = 3,
                                 .n_group = 4,
                                 .topk_group = 2,
                                 .sigmoid = true,
                                 .group_top2 = true,
                                 .norm_topk = true,
                                 .scale = 2.5},
              7, 0);
    check_moe("moe sigmoid, balance loss",
              (struct fm_router){
                  .E = 6, .K = 2, .n_group = 1, .topk_group = 1, .sigmoid = true, .norm_topk = true, .scale = 2.5},
              0, 0.8);
    check_moe("moe softmax, balance loss",
              (struct fm_router){.E = 6, .K = 2, .n_group = 1, .topk_group = 1, .scale = 1}, 0, 0.8);
    check_model(&fm_family_llama, true, 0, 0);
    check_model(&fm_family_qwen2, false, 0, 0);
    check_model(&fm_family_qwen3, false, 0, 0);
    check_model(&fm_family_deepseek_v2, false, 0, 0);
    check_model(&fm_family_deepseek_v3, false, 1, 0.2);
    if (n_unused > MAX_UNUSED) {
        printf("FAILED: %d tensors have no gradient at all\n", n_unused);
        n_failed++;
    }
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed > 0;
}
