/* Whole training runs, small ones: learning, same bits for any thread count and after any kill, failures that keep the
 * last checkpoint, export.  --quick: fewer kills. */
#include "train_samples.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "base/mem.h"
#include "fathom.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

static bool quick;
#if defined(__SANITIZE_ADDRESS__)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/* ---- helpers ---- */

/* Parameters and both moments of a finished run. */
static void get_arrays(const char *dir, struct fm_buf *b)
{
    struct fm_checkpoint k;
    struct fm_error err;
    char path[600];
    snprintf(path, sizeof path, "%s/checkpoint.fmc", dir);
    assert_ok(fm_checkpoint_open(&k, path, &err), &err);
    char *data = malloc(k.array_bytes);
    assert_non_null(data);
    assert_ok(fm_checkpoint_read(&k, &(struct fm_checkpoint_array){data, k.array_bytes}, 1, &err), &err);
    fm_buf_add(b, data, k.array_bytes);
    free(data);
    fm_checkpoint_close(&k);
}

static void assert_same_run(const char *a, const char *b)
{
    struct fm_buf x = {0}, y = {0};
    get_arrays(a, &x);
    get_arrays(b, &y);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    fm_buf_release(&x);
    fm_buf_release(&y);
}

/* What must not depend on the clock or on interruptions: the lines of steps and evaluations, without times. */
static void get_log(const char *dir, struct fm_buf *out)
{
    struct fm_buf b = {0};
    struct fm_error err;
    char path[600];
    snprintf(path, sizeof path, "%s/log.jsonl", dir);
    get_file(path, &b);
    for (char *p = b.data, *end; p && (end = strchr(p, '\n')); p = end + 1) {
        json_t *j = NULL;
        assert_ok(fm_json_parse(p, (size_t)(end - p), "log", &j, &err), &err);
        const char *event = fm_json_str(j, "event", "step");
        if (strcmp(event, "step") == 0 || strcmp(event, "eval") == 0)
            fm_buf_printf(out, "%s %lld %.9g %.9g\n", event, (long long)fm_json_int(j, "step", -1),
                          strcmp(event, "step") ? 0 : fm_json_num(j, "loss", NAN), fm_json_num(j, "val_loss", NAN));
        json_decref(j);
    }
    fm_buf_release(&b);
}

static void assert_same_log(const char *a, const char *b)
{
    struct fm_buf x = {0}, y = {0};
    get_log(a, &x);
    get_log(b, &y);
    assert_string_equal(x.data, y.data);
    fm_buf_release(&x);
    fm_buf_release(&y);
}

static struct fm_train_result run_ok(const struct fm_train_options *o)
{
    struct fm_error err;
    struct fm_train_result r;
    assert_ok(fm_train_run(o, &r, &err), &err);
    return r;
}

/* ---- learning ---- */

static void check_overfit(const char *config, const char *dir)
{
    struct fm_train_options o = small_run(config, in_dir("%s", dir));
    const char *text = in_dir("words.txt");
    put_text(text, "abcdefghijklmnopqrstuvwxyzABCDEF"); /* one byte, one token: each has one successor */
    o.vocab = 257;
    o.paths = &text;
    o.steps = 300;
    o.seq = 32;
    o.batch = 2;
    o.lr = 1e-2f;
    o.weight_decay = 0;
    o.val_fraction = 0;
    o.log_every = 50;
    o.save_every = 1000;
    const struct fm_train_result r = run_ok(&o);
    printf("%s: loss %.2g after %lld steps\n", dir, r.loss, (long long)r.steps);
    assert_true(r.loss < 0.01);
    assert_true(isnan(r.val_loss));
}

static void test_overfit(void **state)
{
    (void)state;
    check_overfit(llama_json, "overfit-llama");
    check_overfit(deepseek_json, "overfit-deepseek");
}

static void test_threads(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(deepseek_json, in_dir("one"));
    o.threads = 1;
    (void)run_ok(&o);
    o = small_run(deepseek_json, in_dir("two"));
    (void)run_ok(&o);
    o = small_run(deepseek_json, in_dir("three"));
    o.threads = 3;
    (void)run_ok(&o);
    assert_same_run(in_dir("one"), in_dir("two"));
    assert_same_run(in_dir("one"), in_dir("three"));
    assert_same_log(in_dir("one"), in_dir("two"));
}

/* The gradient of a batch does not depend on how it is cut, but for rounding. */
static void test_micro(void **state)
{
    (void)state;
    double loss[3];
    const int micro[] = {1, 3, 4};
    for (int i = 0; i < 3; i++) {
        struct fm_train_options o = small_run(deepseek_json, in_dir("micro%d", micro[i]));
        o.steps = 2;
        o.micro = micro[i];
        loss[i] = run_ok(&o).loss;
    }
    assert_true(fabs(loss[0] - loss[2]) < 1e-5 * loss[2]);
    assert_true(fabs(loss[1] - loss[2]) < 1e-5 * loss[2]);
}

/* ---- resuming ---- */

static volatile int stop_flag;
static int stop_after, kill_after;

static void count_lines(void *arg, const struct fm_train_log *log)
{
    (void)arg;
    (void)log;
    if (stop_after && --stop_after == 0) stop_flag = 1;
    if (kill_after && --kill_after == 0) raise(SIGKILL);
}

static void test_stop(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(deepseek_json, in_dir("straight"));
    const struct fm_train_result whole = run_ok(&o);
    assert_int_equal(whole.steps, 12);
    assert_false(whole.stopped);
    o = small_run(deepseek_json, in_dir("stopped"));
    o.on_log = count_lines;
    o.stop = &stop_flag;
    stop_after = 6;
    const struct fm_train_result part = run_ok(&o);
    assert_true(part.stopped && part.steps > 0 && part.steps < 12);
    stop_flag = 0;
    o.resume = true;
    const struct fm_train_result rest = run_ok(&o);
    assert_int_equal(rest.steps, 12);
    assert_same_run(in_dir("straight"), in_dir("stopped"));
    assert_same_log(in_dir("straight"), in_dir("stopped"));
    assert_true(rest.val_loss == whole.val_loss && rest.loss == whole.loss);
    const struct fm_train_result again = run_ok(&o); /* resuming a finished run only finishes it again */
    assert_true(again.val_loss == whole.val_loss);
}

/* Train in a child; 0 when it ended by itself and well. */
static int run_in_child(const struct fm_train_options *o, int lines, unsigned delay_us)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct fm_train_result r;
        struct fm_error err;
        kill_after = lines;
        _exit(fm_train_run(o, &r, &err) ? 1 : 0);
    }
    if (delay_us) {
        usleep(delay_us);
        kill(pid, SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* kill -9 at random lines of the log (before and after saves and evaluations), or at random times. */
static void test_kill(void **state)
{
    (void)state;
    struct fm_rng rng;
    const int rounds = quick ? 3 : 20;
    fm_rng_init(&rng, (uint64_t)time(NULL));
    if (access(in_dir("straight"), F_OK)) {
        struct fm_train_options o = small_run(deepseek_json, in_dir("straight"));
        (void)run_ok(&o);
    }
    for (int i = 0; i < rounds; i++) {
        char dir[512];
        strcpy(dir, in_dir("killed%d", i));
        struct fm_train_options o = small_run(deepseek_json, dir);
        o.on_log = count_lines;
        int kills = 0;
        for (int tries = 0; tries < 200; tries++) {
            const bool by_time = i % 2 == 1 && tries % 2 == 1;
            const int lines = by_time || tries > 20 ? 0 : 1 + (int)fm_rng_below(&rng, 12);
            const unsigned us =
                by_time && tries <= 20 ? 1000 + (unsigned)fm_rng_below(&rng, sanitized ? 400000 : 60000) : 0;
            o.resume = access(in_dir("killed%d/checkpoint.fmc", i), F_OK) == 0;
            const int rc = run_in_child(&o, lines, us);
            if (rc == 0) break;
            assert_int_equal(rc, -1);
            kills++;
        }
        printf("round %d: killed %d times\n", i, kills);
        assert_same_run(in_dir("straight"), dir);
        assert_same_log(in_dir("straight"), dir);
    }
}

/* On the plateau of a WSD schedule a run may be made longer; too near its end it may not be made shorter. */
static void test_resume_longer(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(deepseek_json, in_dir("longer"));
    struct fm_train_result r;
    struct fm_error err;
    o.schedule = FM_SCHEDULE_WSD;
    o.on_log = count_lines;
    o.stop = &stop_flag;
    stop_after = 6;
    const struct fm_train_result part = run_ok(&o);
    assert_true(part.stopped && part.steps > 0 && part.steps < 8);
    stop_flag = 0;
    o.resume = true;
    o.steps = part.steps + 1;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "resume: length: it may change on the plateau");
    o.steps = 20;
    assert_int_equal(run_ok(&o).steps, 20);
}

static void test_resume_refused(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(llama_json, in_dir("refused"));
    struct fm_train_result r;
    struct fm_error err;
    o.resume = true;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_INPUT, &err, "No such file");
    o.resume = false;
    (void)run_ok(&o);
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "holds a checkpoint already");
    o.resume = true;
    o.lr = 0.5f;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "resume: lr: the checkpoint was trained with");
    o = small_run(llama_json, in_dir("refused"));
    o.resume = true;
    const char *other = in_dir("other.txt");
    put_text(other, "another text altogether");
    o.paths = &other;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "corpus");
    o.n_paths = 0; /* the cached tokens do */
    (void)run_ok(&o);
    struct fm_buf b = {0};
    get_file(in_dir("refused/tokens.bin"), &b);
    b.data[b.len / 2] ^= 1;
    put_file(in_dir("refused/tokens.bin"), b.data, b.len);
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_INPUT, &err, "tokens.bin");
    o = small_run(llama_json, in_dir("refused")); /* with the corpus they are made again */
    o.resume = true;
    (void)run_ok(&o);
    get_file(in_dir("refused/checkpoint.fmc"), (fm_buf_clear(&b), &b));
    for (size_t i = 1; i < 8; i++) {
        put_file(in_dir("refused/checkpoint.fmc"), b.data, b.len * i / 8);
        assert_error(fm_train_run(&o, &r, &err), FM_ERR_INPUT, &err, "checkpoint.fmc");
    }
    fm_buf_release(&b);
}

/* ---- failures ---- */

/* A NaN in a parameter stops the run at the next step, names it, and leaves the checkpoint alone. */
static void test_nan(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(llama_json, in_dir("nan"));
    struct fm_train_result r;
    struct fm_error err;
    struct fm_checkpoint k;
    o.on_log = count_lines;
    o.stop = &stop_flag;
    stop_after = 5;
    (void)run_ok(&o);
    stop_flag = 0;
    const char *path = in_dir("nan/checkpoint.fmc");
    assert_ok(fm_checkpoint_open(&k, path, &err), &err);
    struct fm_checkpoint_array a = {malloc(k.array_bytes), k.array_bytes};
    assert_ok(fm_checkpoint_read(&k, &a, 1, &err), &err);
    for (int i = 0; i < 3000; i++) ((float *)a.data)[i] = NAN;
    assert_ok(fm_checkpoint_save(path, k.head, &a, 1, &err), &err);
    const int64_t step = fm_json_int(json_object_get(k.head, "progress"), "step", -1);
    fm_checkpoint_close(&k);
    free(a.data);
    struct fm_buf before = {0}, after = {0};
    get_file(path, &before);
    o.resume = true;
    char part[64];
    snprintf(part, sizeof part, "step %lld: the loss is", (long long)step + 1);
    enum fm_status st = fm_train_run(&o, &r, &err);
    assert_error(st, FM_ERR_FAILED, &err, part);
    assert_non_null(strstr(err.message, "tokens"));
    get_file(path, &after);
    assert_true(before.len == after.len && !memcmp(before.data, after.data, after.len));
    fm_buf_release(&before);
    fm_buf_release(&after);
}

/* In a child: resume where no file may grow beyond limit bytes. */
static int resume_limited(const struct fm_train_options *o, rlim_t limit)
{
    const pid_t pid = fork();
    if (pid == 0) {
        struct fm_train_result r;
        struct fm_error err;
        const struct rlimit l = {limit, limit};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &l);
        const enum fm_status st = fm_train_run(o, &r, &err);
        if (st) fprintf(stderr, "%s\n", err.message);
        _exit((int)st);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void stop_early(struct fm_train_options *o)
{
    o->on_log = count_lines;
    o->stop = &stop_flag;
    stop_after = 5;
    assert_true(run_ok(o).stopped);
    stop_flag = 0;
    o->resume = true;
}

static void test_disk_full(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(deepseek_json, in_dir("full"));
    struct fm_buf before = {0}, after = {0};
    stop_early(&o);
    get_file(in_dir("full/checkpoint.fmc"), &before);
    assert_int_equal(resume_limited(&o, before.len / 2), FM_ERR_DISK);
    get_file(in_dir("full/checkpoint.fmc"), &after);
    assert_true(before.len == after.len && !memcmp(before.data, after.data, after.len));
    (void)run_ok(&o); /* and with room again the run ends as if nothing had been */
    if (access(in_dir("straight"), F_OK) == 0) assert_same_run(in_dir("straight"), in_dir("full"));
    fm_buf_release(&before);
    fm_buf_release(&after);
}

/* The same on a file system that is really full. */
static void test_tmpfs_full(void **state)
{
    (void)state;
    char dir[512];
    mkdir(strcpy(dir, in_dir("tmpfs")), 0777);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=4m")) {
        printf("SKIP test_tmpfs_full: cannot mount a tmpfs: %s\n", strerror(errno));
        skip();
    }
    struct fm_train_options o = small_run(deepseek_json, in_dir("tmpfs/run"));
    struct fm_train_result r;
    struct fm_error err;
    stop_early(&o);
    FILE *f = fopen(in_dir("tmpfs/ballast"), "wb");
    assert_non_null(f);
    for (int i = 0; i < 5000; i++) {
        char page[1024] = {1};
        if (fwrite(page, 1, sizeof page, f) < sizeof page) break;
    }
    fclose(f);
    enum fm_status st = fm_train_run(&o, &r, &err);
    assert_error(st, FM_ERR_DISK, &err, "tmpfs/run/");
    unlink(in_dir("tmpfs/ballast"));
    st = fm_train_run(&o, &r, &err);
    if (!st && access(in_dir("straight"), F_OK) == 0) assert_same_run(in_dir("straight"), in_dir("tmpfs/run"));
    assert_int_equal(umount(dir), 0);
    assert_ok(st, &err);
}

static void test_usage(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(llama_json, in_dir("usage"));
    struct fm_train_result r;
    struct fm_error err;
    const struct fm_train_options good = o;
    o.preset = "tiny";
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "either a preset or a config");
    o = good, o.config = NULL, o.preset = "huge";
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "'huge'");
    o = good, o.beta2 = 1;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "beta2");
    o = good, o.lr = NAN;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "lr");
    o = good, o.warmup = 0.9f, o.decay = 0.9f;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "warmup, decay");
    o = good, o.n_paths = 0;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "no text");
    o = good, o.out = NULL;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "folder");
    o = good, o.seq = 8192;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_INPUT, &err, "one sequence of 8192 tokens needs");
    o = good, o.config = in_dir("none.json");
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_INPUT, &err, "none.json");
    o = good, o.out = o.config;
    assert_error(fm_train_run(&o, &r, &err), FM_ERR_USAGE, &err, "is not a folder");
}

static void test_memory_failures(void **state)
{
    (void)state;
    long n = 1, every = quick ? 7 : 1;
    for (; n < 4000; n += every) { /* the plan touches everything that is decided before the first block */
        struct fm_train_options o = small_run(deepseek_json, in_dir("torture"));
        struct fm_train_result r;
        struct fm_error err;
        o.plan_only = true;
        fm_mem_fail_at(n);
        enum fm_status st = fm_train_run(&o, &r, &err);
        fm_mem_fail_at(0);
        if (!st) break;
        assert_int_equal(st, FM_ERR_MEMORY);
    }
    assert_true(n > 10 && n < 4000);
}

/* ---- memory ---- */

static uint64_t planned;

static void add_item(void *arg, const char *item, uint64_t bytes, bool file_backed)
{
    (void)arg;
    (void)file_backed;
    if (getenv("SHOW")) printf("%-45s %12llu\n", item, (unsigned long long)bytes);
    planned += bytes;
}

static long status_kb(const char *key)
{
    char line[256];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) kb = strtol(line + strlen(key), NULL, 10);
    if (f) fclose(f);
    return kb;
}

static void test_plan(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(deepseek_json, in_dir("planned"));
    o.config = NULL;
    o.preset = "tiny";
    o.vocab = 0;
    o.seq = 0;
    o.batch = 16;
    o.steps = 2;
    o.on_memory = add_item;
    o.plan_only = true;
    (void)run_ok(&o);
    assert_int_not_equal(access(in_dir("planned"), F_OK), 0);
    assert_true(planned > 0);
    if (sanitized) {
        printf("SKIP the resident memory of test_plan: sanitizers need their own\n");
        return;
    }
    o.plan_only = false;
    o.on_memory = NULL;
    const pid_t pid = fork();
    if (pid == 0) {
        struct fm_train_result r;
        struct fm_error err;
        if (fm_train_run(&o, &r, &err)) _exit(1);
        const double peak = (double)status_kb("VmHWM:") * 1024, plan = (double)planned;
        printf("planned %.1f MB, used at most %.1f MB\n", plan / 1e6, peak / 1e6);
        fflush(stdout);
        _exit(peak <= plan * 1.05 + 0x1p24 && peak >= plan * 0.95 - 0x1p24 ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- minutes ---- */

static void test_minutes(void **state)
{
    (void)state;
    struct fm_train_options o = small_run(deepseek_json, in_dir("minutes"));
    o.steps = 0;
    o.minutes = 0.01;
    o.eval_every = 0;
    o.save_every = 50;
    o.log_every = 10;
    const struct fm_train_result r = run_ok(&o);
    assert_true(r.steps >= 1);
    printf("%lld steps in %.2f s for 0.6 s asked\n", (long long)r.steps, r.seconds);
    struct fm_train_options p = small_run(deepseek_json, in_dir("minutes-steps"));
    p.steps = r.steps; /* the rehearsal that measured the time left no trace in the numbers */
    p.eval_every = 0;
    p.save_every = 50;
    p.log_every = 10;
    (void)run_ok(&p);
    assert_same_run(in_dir("minutes"), in_dir("minutes-steps"));
}

/* ---- export ---- */

/* Loss of the first tokens by a model file, over the same ops as the trainer. */
static double loss_of(const struct fm_config *cfg, const struct fm_weights *w)
{
    enum { T = 24 };
    struct fm_arena arena;
    struct fm_error err;
    void *backend = NULL;
    int32_t ids[T], pos[T], target[T];
    double freq[64];
    const struct fm_seq seq = {.n = T, .segment_n = T};
    for (int i = 0; i < T; i++) ids[i] = (i * 37 + 11) % 256, pos[i] = i, target[i] = (i * 53 + 5) % 256;
    const struct fm_batch b = {.T = T, .n_seqs = 1, .seqs = &seq, .ids = ids, .pos = pos};
    assert_ok(fm_arena_init(&arena, "test", (size_t)64 << 20, &err), &err);
    assert_ok(fm_cpu_backend_new(NULL, &backend, &err), &err);
    struct fm_ctx c = {.op = &fm_ops_cpu, .grad = &fm_ops_grad_cpu, .arena = &arena, .backend = backend};
    struct fm_step s = {.target = target, .next = cfg->n_mtp ? target : NULL, .target2 = ids};
    fm_rope_frequencies(cfg, freq);
    fm_model_step(&c, cfg, w, NULL, freq, &b, &s);
    assert_ok(c.status, &c.error);
    fm_cpu_backend_free(backend);
    fm_arena_release(&arena);
    return s.loss_sum + s.mtp_loss_sum;
}

static double loss_of_file(const char *path)
{
    struct fm_file *f = NULL;
    struct fm_model m;
    struct fm_error err;
    assert_ok(fm_file_open(path, &f, &err), &err);
    assert_ok(fm_model_load(f, false, &m, &err), &err);
    const double loss = loss_of(&m.cfg, &m.w);
    fm_model_release(&m);
    fm_file_close(f);
    return loss;
}

static double loss_of_checkpoint(const char *path)
{
    struct fm_checkpoint k;
    struct fm_params p;
    struct fm_config cfg;
    struct fm_error err;
    assert_ok(fm_checkpoint_open(&k, path, &err), &err);
    assert_ok(fm_config_from_json(json_object_get(k.head, "config"), path, &cfg, &err), &err);
    assert_ok(fm_params_init(&p, &cfg, &err), &err);
    assert_ok(fm_params_alloc(&p, false, &err), &err);
    assert_ok(fm_checkpoint_read(&k, &(struct fm_checkpoint_array){p.p, fm_params_bytes(&p)}, 1, &err), &err);
    const double loss = loss_of(&cfg, &p.w);
    fm_params_release(&p);
    fm_checkpoint_close(&k);
    return loss;
}

static void check_export(const char *config, const char *dir)
{
    struct fm_train_options o = small_run(config, in_dir("%s", dir));
    struct fm_error err;
    (void)run_ok(&o);
    const double want = loss_of_checkpoint(in_dir("%s/checkpoint.fmc", dir)),
                 gguf = loss_of_file(in_dir("%s/model.gguf", dir));
    assert_true(fabs(gguf - want) <= 1e-5 * want); /* llama's RoPE pairs other rows there: rounding may differ */
    assert_ok(fm_train_export(in_dir("%s", dir), in_dir("%s-hf", dir), NULL, false, &err), &err);
    assert_true(loss_of_file(in_dir("%s-hf", dir)) == want);
    assert_int_equal(access(in_dir("%s-hf/tokenizer.json", dir), F_OK), 0);
    assert_ok(fm_train_export(in_dir("%s", dir), in_dir("%s/q8.gguf", dir), "q8_0", false, &err), &err);
    assert_true(fabs(loss_of_file(in_dir("%s/q8.gguf", dir)) - want) <= 0.01 * want);
    assert_error(fm_train_export(in_dir("%s", dir), in_dir("%s/x.gguf", dir), "Q9", false, &err), FM_ERR_USAGE, &err,
                 "'Q9'");
    assert_error(fm_train_export(in_dir("none"), in_dir("x.gguf"), NULL, false, &err), FM_ERR_INPUT, &err,
                 "No such file");
    struct fm_engine *e = NULL;
    const struct fm_engine_options eo = {.model = in_dir("%s/model.gguf", dir), .threads = 1};
    assert_ok(fm_engine_open(&eo, &e, &err), &err);
    assert_true(fm_text_vocab(fm_engine_tokenizer(e)) == fm_engine_info(e)->vocab);
    fm_engine_close(e);
}

static void test_export(void **state)
{
    (void)state;
    check_export(llama_json, "export-llama");
    check_export(deepseek_json, "export-deepseek");
}

static void test_text_train(void **state)
{
    (void)state;
    struct fm_error err;
    char *text = make_text(20000, 5);
    char path[512];
    put_text(strcpy(path, in_dir("bpe.txt")), text);
    free(text);
    const char *paths[] = {path};
    const struct fm_text_train_options o = {.paths = paths, .n_paths = 1, .vocab = 280, .threads = 1};
    struct fm_text_train_result r;
    assert_ok(fm_text_train(&o, in_dir("bpe.json"), &r, &err), &err);
    assert_int_equal(r.vocab, 280);
    assert_int_equal(r.corpus_bytes, 20000);
    assert_int_equal(r.files, 1);
    struct fm_tokenizer *t = NULL;
    assert_ok(fm_text_open(in_dir("bpe.json"), NULL, &t, &err), &err);
    assert_int_equal(fm_text_vocab(t), 280);
    fm_text_close(t);
    paths[0] = "/nowhere/at/all";
    assert_error(fm_text_train(&o, in_dir("bpe2.json"), &r, &err), FM_ERR_INPUT, &err, "/nowhere/at/all");
}

int main(int argc, char **argv)
{
    quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overfit),        cmocka_unit_test(test_threads), cmocka_unit_test(test_micro),
        cmocka_unit_test(test_stop),           cmocka_unit_test(test_kill),    cmocka_unit_test(test_resume_longer),
        cmocka_unit_test(test_resume_refused), cmocka_unit_test(test_nan),     cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_tmpfs_full),     cmocka_unit_test(test_usage),   cmocka_unit_test(test_memory_failures),
        cmocka_unit_test(test_plan),           cmocka_unit_test(test_minutes), cmocka_unit_test(test_export),
        cmocka_unit_test(test_text_train),
    };
    return cmocka_run_group_tests_name("train", tests, make_work_dir, remove_work_dir);
}
