/* Sets of questions, how answers are compared, and evaluations on a tiny model made here. */
#include <math.h>
#include <sys/stat.h>

#include "run/evalset.h"
#include "run/logprob.h"
#include "run_testing.h"

enum { V = 280 };
static char uniform_path[64], set_path[64], shots_path[64], out_path[64];

static void write_text(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(text, 1, n, f) == n && !fclose(f));
}

static void write_set(const char *text) { write_text(set_path, text, strlen(text)); }

/* ---- reading --------------------------------------------------------------------------------------------------- */

static void published_shapes_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text;
        bool question;
        int n_choices, gold;
        const char *answer, *solution;
    } rows[] = {
        {"{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":1}", "q", true, 2, 1, NULL, "b"},
        {"{\"prompt\":\"p\",\"choices\":[\"x\",\"y\",\"z\"],\"answer\":\"C\"}", "p", false, 3, 2, NULL, "z"},
        {"{\"context\":\"c\",\"choices\":[\"x\",\"y\"],\"answer\":\"x\"}", "c", false, 2, 0, NULL, "x"},
        {"{\"context\":\"c\",\"question\":\"q\",\"options\":{\"A\":\"x\",\"B\":\"y\"},\"answer\":\"B\"}", "c\nq", true,
         2, 1, NULL, "y"},
        {"{\"passage\":\"c\",\"question\":\"q\",\"answer\":true}", "c\nq", true, 0, 0, "true", "true"},
        {"{\"question\":\"q\",\"choices\":{\"text\":[\"x\",\"y\"],\"label\":[\"1\",\"2\"]},\"answerKey\":\"2\"}", "q",
         true, 2, 1, NULL, "y"},
        {"{\"question\":{\"stem\":\"q\",\"choices\":[{\"text\":\"x\",\"label\":\"A\"},{\"text\":\"y\",\"label\":\"B\"}]},"
         "\"answerKey\":\"B\"}",
         "q", true, 2, 1, NULL, "y"},
        {"{\"ctx\":\"c\",\"endings\":[\"x\",\"y\",\"z\",\"w\"],\"label\":\"3\"}", "c", false, 4, 3, NULL, "w"},
        {"{\"question\":\"q\",\"answer\":\"12/2=6\\n#### 6\"}", "q", true, 0, 0, "6", "12/2=6\n#### 6"},
        {"{\"input\":\"q\",\"target\":43.0,\"type\":\"x\"}", "q", true, 0, 0, "43", "43"},
        {"{\"question\":\"q\",\"golden\":\"18\"}", "q", true, 0, 0, "18", "18"},
        {"{\"input\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"system\",\"name\":\"example_user\",\"content\":\"u\"}"
         "],\"ideal\":[\"a\",\"b\"]}",
         "s\nu", true, 0, 0, "a", "a"},
    };
    struct fm_eval_set s;
    struct fm_buf b = {0};
    const int n = sizeof rows / sizeof *rows;
    for (int round = 0; round < 3; round++) { /* lines, an array, an object with examples */
        static const char *const open[] = {"\n", "[", "{\"canary\":1,\"examples\":["}, *const close[] = {"\n\n", "]",
                                                                                                         "]}"};
        fm_buf_clear(&b);
        fm_buf_str(&b, open[round]);
        for (int i = 0; i < n; i++) fm_buf_printf(&b, "%s%s", i ? (round ? "," : "\n") : "", rows[i].line);
        fm_buf_str(&b, close[round]);
        write_set(b.data);
        ok(fm_eval_set_open(&s, set_path, &err));
        assert_int_equal(s.n, n);
        for (int i = 0; i < n; i++) {
            const struct fm_eval_item *it = &s.items[i];
            assert_string_equal(it->text.data, rows[i].text);
            assert_int_equal(it->question, rows[i].question);
            assert_int_equal(it->n_choices, rows[i].n_choices);
            assert_int_equal(it->gold, rows[i].gold);
            assert_string_equal(it->solution, rows[i].solution);
            assert_int_equal(it->line, round ? i + 1 : i + 2);
            if (rows[i].answer) assert_string_equal(fm_eval_answer(it, 0), rows[i].answer);
        }
        assert_int_equal(s.items[n - 1].n_messages, 2);
        assert_string_equal(s.items[n - 1].messages[1].role, "user");
        assert_int_equal(s.items[n - 1].n_answers, 2);
        fm_eval_set_close(&s);
    }
    fm_buf_release(&b);
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{",
        "7",
        "[1]",
        "{\"question\":\"q\"",
        "{\"question\":\"q\"}",
        "{\"answer\":1}",
        "{\"question\":7,\"answer\":1}",
        "{\"question\":\"q\",\"answer\":{}}",
        "{\"question\":\"q\",\"answer\":[]}",
        "{\"question\":\"q\",\"answer\":[1]}",
        "{\"question\":\"q\",\"answer\":\"x\",\"match\":\"like\"}",
        "{\"question\":\"q\",\"choices\":[],\"answer\":0}",
        "{\"question\":\"q\",\"choices\":[\"a\"],\"answer\":0}",
        "{\"question\":\"q\",\"choices\":[\"a\",2],\"answer\":0}",
        "{\"question\":\"q\",\"choices\":[\"a\",\"\"],\"answer\":0}",
        "{\"question\":\"q\",\"choices\":7,\"answer\":0}",
        "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":2}",
        "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":-1}",
        "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":4294967296}",
        "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":\"C\"}",
        "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":\"99999999999999999999\"}",
        "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":\"c d\"}",
        "{\"question\":\"q\",\"answer\":1,\"answer\":2}",
        "{\"input\":[],\"answer\":1}",
        "{\"input\":[{\"role\":\"user\"}],\"answer\":1}",
        "{\"input\":[{\"content\":\"x\"}],\"answer\":1}",
        "{\"question\":\"\xff\",\"answer\":1}",
    };
    struct fm_eval_set s;
    char where[128];
    (void)snprintf(where, sizeof where, "read the set: %s:3: ", set_path);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fm_buf b = {0};
        fm_buf_printf(&b, "{\"question\":\"q\",\"answer\":1}\n\n%s\n{\"question\":\"q\",\"answer\":1}\n", bad[i]);
        write_text(set_path, b.data, b.len);
        assert_int_equal(fm_eval_set_open(&s, set_path, &err), FM_ERR_INPUT);
        if (strncmp(err.message, where, strlen(where)) != 0) fail_msg("%s: %s", bad[i], err.message);
        fm_buf_release(&b);
    }
    write_set("\n \n");
    assert_int_equal(fm_eval_set_open(&s, set_path, &err), FM_ERR_INPUT);
    assert_int_equal(fm_eval_set_open(&s, "no/such/file", &err), FM_ERR_INPUT);
}

/* ---- comparing ------------------------------------------------------------------------------------------------- */

static void answers_are_compared(void **state)
{
    (void)state;
    static const struct {
        enum fm_match match;
        const char *gold, *answer;
        bool right;
    } rows[] = {
        {FM_MATCH_AUTO, "18", "She has 3 and 15, so 18.", true},
        {FM_MATCH_AUTO, "18", "18 or perhaps 19", false},
        {FM_MATCH_AUTO, "18", "= 17\n#### 18\nThat is 1 more.", true},
        {FM_MATCH_AUTO, "18", "#### none", false},
        {FM_MATCH_AUTO, "18", "#### none, 18", true},
        {FM_MATCH_AUTO, "1234.5", "It costs $1,234.50.", true},
        {FM_MATCH_AUTO, "1,234", "1234", true},
        {FM_MATCH_AUTO, "-3", "It is -3", true},
        {FM_MATCH_AUTO, "-3", "5-3", false},
        {FM_MATCH_AUTO, "3", "5-3", true},
        {FM_MATCH_AUTO, "0.5", "about .5", true},
        {FM_MATCH_AUTO, "3", "1,2,3", true},
        {FM_MATCH_AUTO, "123", "1,23", false},
        {FM_MATCH_AUTO, "43", "43.0", true},
        {FM_MATCH_AUTO, "43", "", false},
        {FM_MATCH_AUTO, "43", "<think>43 it is</think> 44", false},
        {FM_MATCH_AUTO, "44", "<think>43 it is</think> 44", true},
        {FM_MATCH_AUTO, "Paris", " paris. ", true},
        {FM_MATCH_AUTO, "George  Washington", "\"George\nWashington\"", true},
        {FM_MATCH_AUTO, "Paris", "It is Paris", false},
        {FM_MATCH_CONTAINS, "Paris", "It is Paris, of course", true},
        {FM_MATCH_CONTAINS, "Paris", "It is Parisian", false},
        {FM_MATCH_CONTAINS, "ten", "often ten", true},
        {FM_MATCH_STARTS, "Paris", "paris is it", true},
        {FM_MATCH_STARTS, "Paris", "So paris is it", false},
        {FM_MATCH_EXACT, "Paris", " Paris\n", true},
        {FM_MATCH_EXACT, "Paris", "paris", false},
        {FM_MATCH_EXACT, "18", "18.", false},
        {FM_MATCH_NUMBER, "18 apples", "18", false}, /* not a number to compare with */
        {FM_MATCH_TEXT, "18", "18.", true},
        {FM_MATCH_CONTAINS, "", "anything", false},
        {FM_MATCH_AUTO, "\xe4\xbd\xa0", "\xe4\xbd\xa0", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fm_buf found = {0};
        const struct fm_eval_item it = {.n_answers = 1, .one = rows[i].gold};
        const bool right = fm_match_answer(&it, rows[i].match, rows[i].answer, strlen(rows[i].answer), &found);
        if (right != rows[i].right) fail_msg("'%s' for '%s': found '%s'", rows[i].answer, rows[i].gold, found.data);
        fm_buf_release(&found);
    }
    const char *two[] = {"nine", "9"};
    struct fm_buf found = {0};
    const struct fm_eval_item it = {.n_answers = 2, .answers = two, .match = FM_MATCH_TEXT};
    assert_true(fm_match_answer(&it, FM_MATCH_AUTO, "9", 1, &found) &&
                fm_match_answer(&it, FM_MATCH_AUTO, "Nine!", 5, &found));
    fm_buf_release(&found);
}

/* ---- running --------------------------------------------------------------------------------------------------- */

static enum fm_status try_eval(struct fm_engine *e, struct fm_eval_options o, struct fm_eval_result *r)
{
    struct fm_eval *v = NULL;
    if (!o.set) o.set = set_path;
    memset(r, 0, sizeof *r);
    enum fm_status st = fm_eval_new(e, &o, &v, &err);
    if (!st) st = fm_eval_run(v, r, &err);
    fm_eval_free(v);
    r->seconds = 0;
    return st;
}

static struct fm_eval_result eval(struct fm_engine *e, struct fm_eval_options o)
{
    struct fm_eval_result r;
    ok(try_eval(e, o, &r));
    return r;
}

static struct fm_engine *sure_engine(const char *path, int threads)
{
    return engine((struct fm_engine_options){.model = path, .ctx = 300, .threads = threads, .deterministic = true});
}

/* ln P(text | prompt), token by token on a session of its own. */
static double plain_score(struct fm_engine *e, const char *prompt, const char *text)
{
    struct fm_ids whole = {0}, front = {0};
    struct fm_buf b = {0};
    double sum = 0;
    static float row[V];
    fm_buf_printf(&b, "%s%s", prompt, text);
    ok(fm_tokenizer_encode(e->tok, b.data, b.len, fm_tokenizer_add_bos(e->tok) ? FM_ENCODE_BOS : 0, &whole, &err));
    ok(fm_tokenizer_encode(e->tok, prompt, strlen(prompt), fm_tokenizer_add_bos(e->tok) ? FM_ENCODE_BOS : 0, &front,
                           &err));
    size_t from = 0;
    while (from < front.n && from + 1 < whole.n && front.data[from] == whole.data[from]) from++;
    struct fm_session *s = session(e, 0);
    for (size_t i = 0; i + 1 < whole.n; i++) {
        ok(fm_session_feed(s, whole.data + i, 1, row, &err));
        if (i + 1 < from) continue;
        double total = 0;
        for (int k = 0; k < V; k++) total += exp((double)row[k]);
        sum += (double)row[whole.data[i + 1]] - log(total);
    }
    fm_session_free(s);
    fm_ids_release(&whole);
    fm_ids_release(&front);
    fm_buf_release(&b);
    return sum;
}

static char *read_all(const char *path)
{
    struct fm_buf b = {0};
    ok(fm_buf_read_file(&b, path, 1 << 24, &err));
    fm_buf_add(&b, "", 0);
    return b.data;
}

static void choices_score_as_plain_sums(void **state)
{
    (void)state;
    static const char *const names[] = {"the cat", "dogs and logs", "sat", "on the mat and the log while the cats ate"};
    struct fm_engine *e = sure_engine(model_path, 2);
    write_set(
        "{\"question\":\"who sat\",\"choices\":[\"the cat\",\"dogs and logs\",\"sat\",\"on the mat and the log while the "
        "cats ate\"],\"answer\":2}\n"
        "{\"context\":\"the dog \",\"choices\":[\"the cat\",\"dogs and logs\",\"sat\",\"on the mat and the log while the "
        "cats ate\"],\"answer\":0}\n");
    (void)unlink(out_path);
    const struct fm_eval_result r = eval(e, (struct fm_eval_options){.out = out_path});
    int right = 0, norm = 0;
    char *out = read_all(out_path), *line = strchr(out, '\n') + 1;
    for (int k = 0; k < 2; k++) {
        double want[4], per[4];
        int picked = 0, picked_norm = 0;
        json_t *j = NULL;
        ok(fm_json_parse(line, (size_t)(strchr(line, '\n') - line), "line", &j, &err));
        line = strchr(line, '\n') + 1;
        for (int i = 0; i < 4; i++) {
            char text[80];
            (void)snprintf(text, sizeof text, " %s", names[i]);
            want[i] = plain_score(e, k ? "the dog" : "Question: who sat\nAnswer:", text);
            per[i] = want[i] / (double)strlen(names[i]);
            const double have = json_number_value(json_array_get(json_object_get(j, "loglik"), (size_t)i));
            assert_true(fabs(have - want[i]) < 1e-11 * fabs(want[i]));
            picked = want[i] > want[picked] ? i : picked;
            picked_norm = per[i] > per[picked_norm] ? i : picked_norm;
        }
        assert_int_equal(fm_json_int(j, "picked", -1), picked);
        assert_int_equal(fm_json_int(j, "picked_norm", -1), picked_norm);
        right += picked == (k ? 0 : 2);
        norm += picked_norm == (k ? 0 : 2);
        json_decref(j);
    }
    assert_true(r.choice_items == 2 && r.answer_items == 0 && isnan(r.right.value));
    assert_true(r.acc.value == right / 2.0 && r.acc_norm.value == norm / 2.0 && r.chance.value == 0.25);
    free(out);
    fm_engine_close(e);

    e = sure_engine(uniform_path, 1); /* every token costs ln V: the choice of fewest tokens wins */
    write_set("{\"question\":\"q\",\"choices\":[\"the the the\",\"zzz\",\"the\"],\"answer\":2}\n");
    assert_true(eval(e, (struct fm_eval_options){0}).acc.value == 1);
    assert_true(fabs(plain_score(e, "Question: q\nAnswer:", " the") + log(V)) < 1e-12);
    fm_engine_close(e);
}

/* What the model says to a chat with these messages, or behind a plain text. */
static void greedy(struct fm_engine *e, const char *prompt, bool chat, struct fm_buf *out)
{
    struct fm_ids ids = {0};
    static const struct fm_chat_options options = {.generate = true};
    const struct fm_chat_message m = {.role = "user", .text = prompt, .n = strlen(prompt)};
    struct fm_session *s = session(e, 0);
    struct fm_generation g = {.sampling = fm_sampling_default(), .max_tokens = 20, .on_text = collect, .arg = out};
    g.sampling.temp = 0;
    if (chat)
        ok(fm_chat_encode(fm_chat_find(e->chat), e->tok, &m, 1, &options, &ids, &err));
    else
        ok(fm_tokenizer_encode(e->tok, prompt, strlen(prompt), fm_tokenizer_add_bos(e->tok) ? FM_ENCODE_BOS : 0, &ids,
                               &err));
    ok(fm_session_feed(s, ids.data, (int)ids.n, NULL, &err));
    ok(fm_session_generate(s, &g, NULL, &err));
    fm_session_free(s);
    fm_ids_release(&ids);
}

static void answers_are_the_models_own(void **state)
{
    (void)state;
    struct fm_engine *e = sure_engine(model_path, 2);
    for (int chat = 0; chat < 2; chat++) {
        struct fm_buf said = {0}, set = {0};
        greedy(e, chat ? "who" : "Question: who\nAnswer:", chat, &said);
        json_t *item = json_pack("{s:s,s:s,s:s}", "question", "who", "answer", said.data, "match", "exact");
        char *line = json_dumps(item, 0);
        fm_buf_printf(&set, "%s\n{\"question\":\"who\",\"answer\":\"nobody at all\"}\n", line);
        write_text(set_path, set.data, set.len);
        (void)unlink(out_path);
        const struct fm_eval_options o = {.raw = !chat, .max_tokens = 20, .out = out_path};
        const struct fm_eval_result r = eval(e, o);
        assert_true(r.answer_items == 2 && r.right.value == 0.5 && isnan(r.acc.value));
        free(line);
        json_decref(item);
        fm_buf_release(&said);
        fm_buf_release(&set);
    }
    fm_engine_close(e);
}

/* Examples: the prompt of an item with two of them is the text written out by hand. */
static void examples_stand_in_front(void **state)
{
    (void)state;
    struct fm_engine *e = sure_engine(model_path, 1);
    struct fm_eval_result r;
    static const char shots[] = "{\"question\":\"a\",\"answer\":\"cat\"}\n{\"question\":\"b\",\"answer\":\"dog\"}\n";
    static const char plain[] = "Question: a\nAnswer: cat\n\nQuestion: b\nAnswer: dog\n\nQuestion: who\nAnswer:";
    write_text(shots_path, shots, sizeof shots - 1);
    write_set("{\"question\":\"who\",\"choices\":[\"the cat\",\"the dog\"],\"answer\":0}\n");
    (void)unlink(out_path);
    (void)eval(e, (struct fm_eval_options){.shots = 2, .shots_from = shots_path, .out = out_path});
    char *out = read_all(out_path);
    const double have = strtod(strstr(out, "loglik\":[") + 9, NULL), want = plain_score(e, plain, " the cat");
    assert_true(fabs(have - want) < 1e-11 * fabs(want));
    free(out);
    /* of the set itself: never the item; one too many is refused */
    assert_int_equal(try_eval(e, (struct fm_eval_options){.shots = 1}, &r), FM_ERR_USAGE);
    assert_int_equal(try_eval(e, (struct fm_eval_options){.shots = 3, .shots_from = shots_path}, &r), FM_ERR_USAGE);
    write_set(
        "{\"question\":\"a\",\"choices\":[\"x\",\"y\"],\"answer\":0}\n{\"question\":\"b\",\"choices\":[\"x\",\"y\"],"
        "\"answer\":1}\n");
    (void)unlink(out_path);
    (void)eval(e, (struct fm_eval_options){.shots = 1, .out = out_path});
    out = read_all(out_path);
    const double first = strtod(strstr(out, "loglik\":[") + 9, NULL);
    assert_true(fabs(first - plain_score(e, "Question: b\nAnswer: y\n\nQuestion: a\nAnswer:", " x")) < 1e-10);
    free(out);
    fm_engine_close(e);
}

static void write_mixed_set(void)
{
    struct fm_buf b = {0};
    for (int i = 0; i < 6; i++)
        fm_buf_printf(&b,
                      i % 2 ? "{\"question\":\"who %d\",\"answer\":\"%d\"}\n"
                            : "{\"question\":\"who %d\",\"choices\":[\"the cat\",\"a dog\"],\"answer\":%d}\n",
                      i, i / 2 % 2);
    write_text(set_path, b.data, b.len);
    fm_buf_release(&b);
}

static bool stop_at(void *arg, const struct fm_eval_progress *p)
{
    return p->done < *(const int *)arg || p->done == p->total;
}

static bool same_result(const struct fm_eval_result *a, const struct fm_eval_result *b)
{
    return a->items == b->items && a->acc.value == b->acc.value && a->acc.error == b->acc.error &&
           a->acc_norm.value == b->acc_norm.value && a->right.value == b->right.value && a->cut == b->cut;
}

static void going_on_is_not_noticed(void **state)
{
    (void)state;
    struct fm_engine *one = sure_engine(model_path, 1), *two = sure_engine(model_path, 2);
    struct fm_eval_options o = {.max_tokens = 5, .seed = 7, .shots = 1, .out = out_path};
    struct fm_eval_result r;
    write_mixed_set();
    (void)unlink(out_path);
    const struct fm_eval_result whole = eval(one, o);
    char *want = read_all(out_path), *have;
    assert_int_equal(unlink(out_path), 0);
    int stop = 1;
    o.progress = stop_at;
    o.arg = &stop;
    for (; try_eval(stop % 2 ? two : one, o, &r) == FM_ERR_CANCELLED; stop++)
        if (stop == 3) { /* a run that was killed while writing */
            FILE *f = fopen(out_path, "ab");
            assert_true(f && fputs("{\"item\":5,\"gold\"", f) >= 0 && !fclose(f));
        }
    assert_int_equal(stop, 6);
    assert_true(same_result(&r, &whole));
    have = read_all(out_path);
    assert_string_equal(have, want);
    free(have);
    /* cut anywhere it is taken up, unless the first line is another one */
    o.progress = NULL;
    const size_t n = strlen(want);
    for (size_t k = 0; k < n; k += 13) {
        write_text(out_path, want, k);
        assert_int_equal(try_eval(one, o, &r), FM_OK);
        have = read_all(out_path);
        assert_true(same_result(&r, &whole) && !strcmp(have, want));
        free(have);
    }
    o.max_tokens = 6;
    assert_int_equal(try_eval(one, o, &r), FM_ERR_INPUT);
    assert_true(*err.hint);
    o.max_tokens = 5;
    static const char *const bad[] = {
        "{}",           "{\"item\":0,\"right\":true}", "{\"item\":7,\"right\":true}", "7", "{",
        "{\"item\":1}", "{\"item\":1,\"right\":1}"};
    const size_t head = (size_t)(strchr(want, '\n') - want) + 1;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fm_buf b = {0};
        fm_buf_add(&b, want, head);
        fm_buf_printf(&b, "%s\n", bad[i]);
        write_text(out_path, b.data, b.len);
        assert_int_equal(try_eval(one, o, &r), FM_ERR_INPUT);
        fm_buf_release(&b);
    }
    free(want);
    fm_engine_close(one);
    fm_engine_close(two);
}

static void limits_and_seeds(void **state)
{
    (void)state;
    struct fm_engine *e = sure_engine(model_path, 1);
    write_mixed_set();
    assert_int_equal(eval(e, (struct fm_eval_options){.limit = 2, .max_tokens = 2}).items, 2);
    assert_int_equal(eval(e, (struct fm_eval_options){.limit = 200, .max_tokens = 2}).items, 6);
    (void)unlink(out_path);
    (void)eval(e, (struct fm_eval_options){.limit = 3, .max_tokens = 2, .out = out_path, .seed = 3});
    (void)eval(e, (struct fm_eval_options){.limit = 5, .max_tokens = 2, .out = out_path, .seed = 3}); /* two more */
    char *longer = read_all(out_path);
    int lines = 0;
    for (const char *p = longer; *p; p++) lines += *p == '\n';
    assert_int_equal(lines, 6);
    free(longer);
    fm_engine_close(e);
}

static void patterns_extract(void **state)
{
    (void)state;
    struct fm_engine *e = sure_engine(model_path, 1);
    struct fm_eval_result r;
    struct fm_buf said = {0}, set = {0};
    greedy(e, "Question: who\nAnswer:", false, &said);
    assert_true(said.len > 0);
    const char letter = said.data[said.len - 1];
    fm_buf_printf(&set, "{\"question\":\"who\",\"answer\":\"%c\",\"match\":\"exact\"}\n", letter);
    write_text(set_path, set.data, set.len);
    const struct fm_eval_options o = {.raw = true, .max_tokens = 20};
    if (letter != ' ' && said.len > 1) {
        struct fm_eval_options p = o;
        assert_true(eval(e, p).right.value == 0);
        p.pattern = ".";
        assert_true(eval(e, p).right.value == 1); /* the last match */
        p.pattern = "no such words";
        assert_true(eval(e, p).right.value == 0);
    }
    assert_int_equal(try_eval(e, (struct fm_eval_options){.pattern = "("}, &r), FM_ERR_USAGE);
    fm_buf_release(&said);
    fm_buf_release(&set);
    fm_engine_close(e);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    struct fm_engine *e = sure_engine(model_path, 1);
    struct fm_eval_result r;
    struct fm_buf b = {0};
    write_mixed_set();
    assert_int_equal(try_eval(e, (struct fm_eval_options){.set = ""}, &r), FM_ERR_USAGE);
    assert_int_equal(try_eval(e, (struct fm_eval_options){.shots = -1}, &r), FM_ERR_USAGE);
    assert_int_equal(try_eval(e, (struct fm_eval_options){.limit = -1}, &r), FM_ERR_USAGE);
    assert_int_equal(try_eval(e, (struct fm_eval_options){.match = "like"}, &r), FM_ERR_USAGE);
    assert_int_equal(try_eval(e, (struct fm_eval_options){.out = "/tmp"}, &r), FM_ERR_DISK);
    assert_int_equal(try_eval(e, (struct fm_eval_options){.out = "no/such/folder/x"}, &r), FM_ERR_DISK);
    assert_int_equal(try_eval(e, (struct fm_eval_options){.ctx = 8}, &r), FM_ERR_USAGE); /* the prompt is longer */
    assert_non_null(strstr(err.message, ":1: "));
    write_set("{\"prompt\":\"\",\"choices\":[\"the\",\"cat\"],\"answer\":0}\n");
    assert_int_equal(try_eval(e, (struct fm_eval_options){0}, &r), FM_ERR_INPUT);
    write_set("{\"prompt\":\"\",\"answer\":\"the\"}\n");
    assert_int_equal(try_eval(e, (struct fm_eval_options){.raw = true}, &r), FM_ERR_INPUT);
    fm_buf_release(&b);
    fm_engine_close(e);
}

static void memory_may_be_short(void **state)
{
    (void)state;
    struct fm_engine *e = sure_engine(model_path, 1);
    struct fm_eval_result r;
    write_mixed_set();
    const struct fm_eval_options o = {.max_tokens = 2, .shots = 1, .pattern = "[a-z]+", .out = out_path};
    int failures = 0;
    for (long n = 1; n < 4000; n += n < 300 ? 1 : 41) { /* some are made good: the regex's machine code */
        (void)unlink(out_path);
        fm_mem_fail_at(n);
        const enum fm_status st = try_eval(e, o, &r);
        fm_mem_fail_at(0);
        failures += st == FM_ERR_MEMORY;
        if (st && st != FM_ERR_MEMORY) fail_msg("allocation %ld: %s", n, err.message);
    }
    assert_true(failures > 50);
    ok(try_eval(e, o, &r));
    fm_engine_close(e);
}

/* ---- */

static int make_models(void **state)
{
    (void)state;
    const struct {
        char *at;
        const char *name;
    } names[] = {{model_path, "eval.gguf"},
                 {uniform_path, "eval-uniform.gguf"},
                 {set_path, "eval.set"},
                 {shots_path, "eval.shots"},
                 {out_path, "eval.out"}};
    for (int i = 0; i < 5; i++) (void)snprintf(names[i].at, 64, "/tmp/fathom-%d-%s", (int)getpid(), names[i].name);
    write_model(model_path, true);
    head_scale = 0;
    write_model(uniform_path, false);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    const char *const all[] = {model_path, uniform_path, set_path, shots_path, out_path};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) (void)unlink(all[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_shapes_are_read),  cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(answers_are_compared),       cmocka_unit_test(choices_score_as_plain_sums),
        cmocka_unit_test(answers_are_the_models_own), cmocka_unit_test(examples_stand_in_front),
        cmocka_unit_test(going_on_is_not_noticed),    cmocka_unit_test(limits_and_seeds),
        cmocka_unit_test(patterns_extract),           cmocka_unit_test(wrong_requests_are_refused),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
