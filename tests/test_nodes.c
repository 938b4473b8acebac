/* A machine with several memory nodes, described by a folder as /sys describes it: which rows of packed matrices lie on which
 * node, and that the threads which multiply them stand there; the same bits as without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fathom.h"
#include "op/cpu/backend.h"

static const char MODEL[] = "models/default.gguf";
static char root[64];
static struct fm_error err;

static void ok(enum fm_status st)
{
    if (st) fail_msg("%s", err.message);
}

static void put(const char *path, const char *text)
{
    char full[256];
    (void)snprintf(full, sizeof full, "%s/%s", root, path);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A machine of that many cores on each of up to four nodes, and of nothing else. */
static int pretend(void **state)
{
    static const char *const folders[] = {
        "", "/sys", "/sys/devices", "/sys/devices/system", "/sys/devices/system/cpu", "/sys/devices/system/node"};
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/fathom-nodes-XXXXXX");
    if (!mkdtemp(root)) return -1;
    for (size_t i = 1; i < sizeof folders / sizeof *folders; i++) {
        char full[256];
        (void)snprintf(full, sizeof full, "%s%s", root, folders[i]);
        if (mkdir(full, 0777)) return -1;
    }
    return 0;
}

static int tidy(void **state)
{
    char command[128];
    (void)state;
    (void)unsetenv("FATHOM_SYS");
    (void)snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void machine(int nodes, const int *cores)
{
    char text[64], path[96], folder[256];
    int at = 0;
    for (int k = 0; k < nodes; k++) {
        (void)snprintf(folder, sizeof folder, "%s/sys/devices/system/node/node%d", root, k);
        (void)mkdir(folder, 0777);
        (void)snprintf(path, sizeof path, "sys/devices/system/node/node%d/cpulist", k);
        (void)snprintf(text, sizeof text, "%d-%d\n", at, at + cores[k] - 1);
        put(path, text);
        at += cores[k];
    }
    (void)snprintf(text, sizeof text, "0-%d\n", at - 1);
    put("sys/devices/system/cpu/online", text);
    (void)snprintf(text, sizeof text, "0-%d\n", nodes - 1);
    put("sys/devices/system/node/online", text);
    (void)setenv("FATHOM_SYS", root, 1);
}

static struct fm_pool *pool_of(int n)
{
    struct fm_pool *p;
    ok(fm_pool_new(n, &p, &err));
    assert_int_equal(fm_pool_pin(p), FM_PIN_OFF); /* nothing is pinned to processors that are not there */
    return p;
}

/* ---- the plan -------------------------------------------------------------------------------------------------- */

struct shape {
    int rows;
    size_t row_bytes;
};

/* Bytes of the rows begin … end of a matrix at `at` that the pieces put on node k. */
static size_t on_node(const struct fm_node_piece *p, int n, int k, size_t from, size_t to)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        const size_t a = p[i].at > from ? p[i].at : from, b = p[i].at + p[i].bytes < to ? p[i].at + p[i].bytes : to;
        if (p[i].node == k && b > a) bytes += b - a;
    }
    return bytes;
}

/* One call multiplies with all the shapes.  Each thread's range is an equal part of the list's work: of the bytes that it reads,
 * at most what is rounded to groups of rows, pages and tiles lies elsewhere. */
static void reads_are_near(const struct fm_pool *pool, int threads, const struct shape *shapes, int n)
{
    static struct fm_cpu_product list[4 * FM_NODES_MAX];
    static struct fm_packed packed[4];
    struct fm_node_piece pieces[4][FM_NODES_MAX];
    int counts[4], first[FM_NODES_MAX + 1];
    double all = 0, at = 0, near = 0, rounded = 0;
    int grouped = 0;
    const int nodes = fm_pool_nodes(pool);
    size_t address = (size_t)1 << 40;
    for (int i = 0; i < n; i++) {
        const struct shape *s = &shapes[i];
        packed[i] = (struct fm_packed){.to = (char *)address, .rows = s->rows, .row_bytes = s->row_bytes};
        list[i] = (struct fm_cpu_product){.m = 1, .n = s->rows, .k = (int)s->row_bytes, .packed = s->rows / 16 * 16};
        list[i].w =
            (struct fm_mat){FM_Q8_0, s->rows, (int)s->row_bytes, s->row_bytes, (char *)address, {0}, &packed[i]};
        grouped += list[i].packed;
        counts[i] = fm_cpu_node_pieces(pool, address, s->rows, s->row_bytes, pieces[i]);
        assert_int_equal(counts[i], nodes);
        for (int k = 0; k < nodes; k++) { /* inside of the matrix, in pages, in order */
            const struct fm_node_piece *p = &pieces[i][k];
            assert_int_equal(p->node, k);
            assert_true(p->at % 4096 == 0 && p->bytes % 4096 == 0 && p->at >= address);
            assert_true(p->at + p->bytes <= (k + 1 < nodes ? p[1].at : address + s->rows * s->row_bytes));
        }
        all += (double)s->row_bytes * s->rows;
        const double page = (double)s->row_bytes * s->rows / nodes < 8 << 20 ? 4096 : 2 << 20;
        rounded += (nodes - 1) * (2 * 64.0 * (double)s->row_bytes + page) + 4096;
        address += s->rows * s->row_bytes + 64;
    }
    const int parts = fm_cpu_by_node(pool, list, n);
    assert_int_equal(parts, n * nodes);
    fm_topology_share(fm_pool_topology(pool), threads, first);
    for (int i = 0; i < parts; i++) {
        const struct fm_cpu_product *p = &list[i];
        grouped -= p->packed;
        assert_true(p->packed == p->n || i / n == nodes - 1); /* what is in no group is the end of the last part */
        assert_int_equal(p->n % 64 && i / n < nodes - 1, 0);
        for (int row = 0; row < p->n; row += 64) { /* whose group of rows is it, and where does it lie? */
            const int rows = p->n - row < 64 ? p->n - row : 64, thread = (int)(at / all * threads);
            const size_t from = (size_t)p->w.data + (size_t)row * p->w.row_bytes, bytes = rows * p->w.row_bytes;
            int node = 0;
            while (thread >= first[node + 1]) node++;
            near += (double)on_node(pieces[i % n], counts[i % n], node, from, from + bytes);
            at += (double)bytes;
        }
    }
    assert_true(at == all && grouped == 0); /* every row once */
    assert_true(near >= all - rounded && near > 0.8 * all);
}

static void rows_lie_where_they_are_read(void **state)
{
    static const struct shape gate_up[] = {{10944, 1152}, {10944, 1152}}, head[] = {{102400, 1680}},
                              odd[] = {{32003, 1152}}, qkv[] = {{4096, 2176}, {1024, 2176}, {1024, 2176}};
    static const struct {
        int nodes, cores[4], threads;
    } rows[] = {{2, {4, 4}, 8}, {2, {4, 4}, 6}, {2, {6, 2}, 8}, {4, {2, 2, 2, 2}, 8}, {4, {16, 16, 16, 16}, 64}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        machine(rows[i].nodes, rows[i].cores);
        struct fm_pool *p = pool_of(rows[i].threads);
        assert_int_equal(fm_pool_nodes(p), rows[i].nodes);
        reads_are_near(p, rows[i].threads, gate_up, 2);
        reads_are_near(p, rows[i].threads, qkv, 3);
        reads_are_near(p, rows[i].threads, head, 1);
        reads_are_near(p, rows[i].threads, odd, 1);
        fm_pool_free(p);
    }
}

static void what_is_not_cut(void **state)
{
    struct fm_node_piece pieces[FM_NODES_MAX];
    struct fm_packed packed = {.rows = 4096};
    struct fm_cpu_product list[4] = {{.m = 1, .n = 4096, .packed = 4096}, {.m = 1, .n = 128, .packed = 128}};
    (void)state;
    machine(2, (const int[]){2, 2});
    struct fm_pool *p = pool_of(4);
    assert_int_equal(fm_cpu_node_pieces(p, 1 << 20, 64, 1024, pieces), 0); /* small parts */
    for (int i = 0; i < 2; i++) list[i].w = (struct fm_mat){.fmt = FM_Q8_0, .packed = &packed};
    assert_int_equal(fm_cpu_by_node(p, list, 2), 2); /* a head: part of a matrix */
    list[0].packed = 0;
    assert_int_equal(fm_cpu_by_node(p, list, 1), 1); /* as in the file */
    fm_pool_free(p);
    machine(1, (const int[]){4});
    p = pool_of(4);
    list[0].packed = 4096;
    assert_int_equal(fm_pool_nodes(p), 1);
    assert_int_equal(fm_cpu_by_node(p, list, 1), 1);
    assert_int_equal(fm_cpu_node_pieces(p, 1 << 20, 1 << 20, 4096, pieces), 0);
    fm_pool_free(p);
}

/* ---- the bits -------------------------------------------------------------------------------------------------- */

enum { PROMPT = 70 };

/* Logits of a prompt and of one token more. */
static float *say(int threads, size_t *n)
{
    struct fm_engine *e;
    struct fm_session *s;
    int32_t ids[PROMPT + 1];
    ok(fm_engine_open(&(struct fm_engine_options){.model = MODEL, .threads = threads, .pack = "on", .ctx = 128}, &e,
                      &err));
    const size_t V = (size_t)fm_engine_info(e)->vocab;
    float *z = malloc((*n = (PROMPT + 1) * V) * sizeof *z);
    assert_non_null(z);
    for (int i = 0; i <= PROMPT; i++) ids[i] = 37 * i % (int)V;
    ok(fm_session_new(e, 0, &s, &err));
    ok(fm_session_feed(s, ids, PROMPT, z, &err));
    ok(fm_session_feed(s, ids + PROMPT, 1, z + PROMPT * V, &err));
    fm_session_free(s);
    fm_engine_close(e);
    return z;
}

static void bits_are_the_same(void **state)
{
    struct stat st;
    size_t n, m;
    (void)state;
    if (stat(MODEL, &st)) skip();
    machine(1, (const int[]){1});
    float *one = say(1, &n);
    for (int nodes = 2; nodes <= 3; nodes++) {
        machine(nodes, (const int[]){3, 1, 2});
        float *z = say(2 * nodes, &m);
        assert_int_equal(n, m);
        assert_memory_equal(z, one, n * sizeof *z);
        free(z);
    }
    free(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_lie_where_they_are_read, pretend, tidy),
        cmocka_unit_test_setup_teardown(what_is_not_cut, pretend, tidy),
        cmocka_unit_test_setup_teardown(bits_are_the_same, pretend, tidy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
