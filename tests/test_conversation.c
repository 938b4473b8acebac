/* Conversations: the bytes of prompts with and without thinking, what stays of an answer that thought, taking back, and
 * conversations on file. */
#include "run_testing.h"

#include "run/conversation.h"
#include "text/chat_impl.h"

static char file_path[64];

static struct fm_chat *chat(struct fm_engine *e, const char *system, const char *format)
{
    struct fm_chat *c = NULL;
    ok(fm_chat_new(e, 0, system, format, &c, &err));
    return c;
}

static void add(struct fm_chat *c, const char *role, const char *text)
{
    ok(fm_chat_push(c, role, text, strlen(text), &err));
}

/* The prompt of the next answer, ends with a NUL. */
static struct fm_buf prompt(struct fm_chat *c)
{
    struct fm_ids ids = {0};
    struct fm_buf b = {0};
    ok(fm_chat_ids(c, &ids, &err));
    ok(fm_tokenizer_decode(c->s->e->tok, ids.data, ids.n, &b, &err));
    fm_buf_str(&b, "");
    fm_ids_release(&ids);
    return b;
}

static void is_prompt(struct fm_chat *c, const char *want)
{
    struct fm_buf b = prompt(c);
    assert_string_equal(b.data, want);
    fm_buf_release(&b);
}

/* ---- prompts ---- */

#define DS_BOS        "<｜begin▁of▁sentence｜>"
#define DS_EOS        "<｜end▁of▁sentence｜>"
#define DS_TALK(mark) DS_BOS "Be brief.<｜User｜>one<｜Assistant｜></think>1" DS_EOS "<｜User｜>two<｜Assistant｜>" mark
#define QWEN_TALK(end)                                                                                               \
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n" \
    "<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n" end

static void prompts_say_whether_to_think(void **state)
{
    (void)state;
    static const struct {
        const char *format, *off, *on;
    } cases[] = {
        {"qwen3", QWEN_TALK("<think>\n\n</think>\n\n"), QWEN_TALK("")},
        {"deepseek-v3.1", DS_TALK("</think>"), DS_TALK("<think>")},
        {"deepseek-v3.2", DS_TALK("</think>"), DS_TALK("<think>")},
        {"deepseek-v4", DS_TALK("</think>"), DS_TALK("<think>")},
        {"deepseek-v4-0731", DS_TALK("</think>"), DS_TALK("<think>")},
    };
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 4096});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_chat *c = chat(e, "Be brief.", cases[i].format);
        add(c, "user", "one");
        add(c, "assistant", "1");
        add(c, "user", "two");
        assert_int_equal(fm_chat_can_think(c), FM_THINKS_ON_DEMAND);
        assert_false(fm_chat_thinking(c, NULL));
        is_prompt(c, cases[i].off);
        ok(fm_chat_set_thinking(c, true, NULL, &err));
        assert_true(fm_chat_thinking(c, NULL));
        is_prompt(c, cases[i].on);
        ok(fm_chat_set_thinking(c, false, NULL, &err));
        is_prompt(c, cases[i].off);
        fm_chat_free(c);
    }
    fm_engine_close(e);
}

/* The paragraph of an effort stands behind BOS. */
static void efforts_reach_the_prompt(void **state)
{
    (void)state;
    static const struct {
        const char *format, *effort;
        enum fm_paragraph_id paragraph;
    } cases[] = {{"deepseek-v4", "high", FM_PARAGRAPH_COUNT}, /* nothing: the model's own effort */
                 {"deepseek-v4", "max", FM_PARAGRAPH_EFFORT},
                 {"deepseek-v4-0731", "high", FM_PARAGRAPH_EFFORT},
                 {"deepseek-v4-0731", "max", FM_PARAGRAPH_EFFORT_MORE}};
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 4096});
    const char *effort;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_chat *c = chat(e, NULL, cases[i].format);
        struct fm_buf want = {0};
        add(c, "user", "one");
        ok(fm_chat_set_thinking(c, true, cases[i].effort, &err));
        assert_true(fm_chat_thinking(c, &effort));
        assert_string_equal(effort, cases[i].effort);
        fm_buf_str(&want, DS_BOS);
        const enum fm_paragraph_id id = cases[i].paragraph;
        if (id != FM_PARAGRAPH_COUNT) fm_buf_add(&want, fm_paragraphs[id].text, strlen(fm_paragraphs[id].text));
        fm_buf_str(&want, "<｜User｜>one<｜Assistant｜><think>");
        is_prompt(c, want.data);
        fm_buf_release(&want);
        ok(fm_chat_set_thinking(c, false, NULL, &err));
        is_prompt(c, DS_BOS "<｜User｜>one<｜Assistant｜></think>");
        fm_chat_free(c);
    }
    fm_engine_close(e);
}

static void formats_say_what_they_cannot(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 512});
    struct fm_chat *never = chat(e, NULL, "chatml"), *always = chat(e, NULL, "deepseek-r1"),
                   *some = chat(e, NULL, "qwen3"), *text = chat(e, NULL, "plain"), *v4 = chat(e, NULL, "deepseek-v4");
    assert_int_equal(fm_chat_can_think(never), FM_THINKS_NEVER);
    assert_int_equal(fm_chat_can_think(text), FM_THINKS_NEVER);
    assert_int_equal(fm_chat_can_think(always), FM_THINKS_ALWAYS);
    assert_true(fm_chat_thinking(always, NULL));
    assert_int_equal(fm_chat_set_thinking(never, true, NULL, &err), FM_ERR_USAGE);
    assert_int_equal(fm_chat_set_thinking(text, true, NULL, &err), FM_ERR_USAGE);
    assert_int_equal(fm_chat_set_thinking(always, false, NULL, &err), FM_ERR_USAGE);
    assert_int_equal(fm_chat_set_thinking(some, true, "max", &err), FM_ERR_USAGE);
    assert_int_equal(fm_chat_set_thinking(v4, true, "low", &err), FM_ERR_USAGE);
    assert_int_equal(fm_chat_set_thinking(v4, true, "huge", &err), FM_ERR_USAGE);
    assert_int_equal(fm_chat_set_thinking(v4, false, "max", &err), FM_ERR_USAGE);
    assert_false(fm_chat_thinking(some, NULL) || fm_chat_thinking(v4, NULL) || fm_chat_thinking(never, NULL));
    ok(fm_chat_set_thinking(never, false, NULL, &err));
    ok(fm_chat_set_thinking(always, true, NULL, &err));
    fm_chat_free(never);
    fm_chat_free(always);
    fm_chat_free(some);
    fm_chat_free(text);
    fm_chat_free(v4);
    fm_engine_close(e);
}

/* ---- answers ---- */

static void is_content(struct fm_chat *c, const char *all, const char *want)
{
    struct fm_span got = fm_chat_content(c, (struct fm_span){all, strlen(all)});
    assert_int_equal(got.n, strlen(want));
    if (got.n) assert_memory_equal(got.s, want, got.n);
}

static void reasoning_leaves_the_conversation(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        bool thinking;
        const char *all, *content;
    } cases[] = {
        {"chatml", false, "<think>a</think>b", "<think>a</think>b"},
        {"qwen3", true, "<think>\nwhy\n</think>\n\nyes", "yes"},
        {"qwen3", true, "yes </think> no", "yes </think> no"},
        {"qwen3", false, "yes", "yes"},
        {"qwen3", true, "<think>\nit never en", ""},
        {"deepseek-v3.1", true, "why</think>yes", "yes"},
        {"deepseek-v3.1", false, "why</think>yes", "why</think>yes"},
        {"deepseek-v3.2", true, "why</think>\nyes", "\nyes"},
        {"deepseek-v4", true, "why</think>yes</think>", "yes</think>"},
        {"deepseek-v4", true, "wh", ""},
        {"deepseek-r1", true, "why\n</think>\n\nyes", "\n\nyes"},
        {"deepseek-r1", true, "<think>\nwhy\n</think>\n\nyes", "\n\nyes"},
    };
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 512});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_chat *c = chat(e, NULL, cases[i].format);
        if (fm_chat_can_think(c) == FM_THINKS_ON_DEMAND) ok(fm_chat_set_thinking(c, cases[i].thinking, NULL, &err));
        is_content(c, cases[i].all, cases[i].content);
        fm_chat_free(c);
    }
    fm_engine_close(e);
}

struct told {
    struct fm_buf *text, *why;
};

static bool take_text(void *arg, const char *text, size_t n) { return collect(((struct told *)arg)->text, text, n); }

static bool take_reasoning(void *arg, const char *text, size_t n)
{
    return collect(((struct told *)arg)->why, text, n);
}

/* The model knows no </think>: what it says in thinking is reasoning to the end, and without thinking the answer. */
static void answers_are_parsed_as_asked(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 512});
    struct fm_chat *c = chat(e, NULL, "deepseek-v3.1");
    struct fm_generation_stats st;
    const char *role, *text;
    for (int thinking = 0; thinking < 2; thinking++) {
        struct fm_buf said[2] = {{0}, {0}};
        struct told told = {&said[0], &said[1]};
        struct fm_generation g = {.max_tokens = 8, .sampling = {.top_p = 1, .repeat = 1.3f, .repeat_last = 64}};
        g.on_text = take_text;
        g.on_reasoning = take_reasoning;
        g.arg = &told;
        ok(fm_chat_set_thinking(c, thinking, NULL, &err));
        ok(fm_chat_send(c, "hello", &g, &st, &err));
        assert_true(said[thinking].len > 0);
        assert_int_equal(said[!thinking].len, 0);
        assert_true(fm_chat_message(c, 1, &role, &text));
        assert_string_equal(role, "assistant");
        assert_int_equal(strlen(text), thinking ? 0 : said[0].len);
        if (!thinking) assert_memory_equal(text, said[0].data, said[0].len);
        fm_buf_release(&said[0]);
        fm_buf_release(&said[1]);
        assert_true(fm_chat_undo(c));
    }
    fm_chat_free(c);
    fm_engine_close(e);
}

/* ---- taking back ---- */

static bool drop_text(void *arg, const char *text, size_t n)
{
    (void)arg, (void)text, (void)n;
    return true;
}

static const struct fm_generation short_answer = {
    .max_tokens = 6, .on_text = drop_text, .sampling = {.top_p = 1, .repeat = 1.3f, .repeat_last = 64}};

static void questions_can_be_taken_back(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.deterministic = true, .ctx = 512});
    struct fm_chat *c = chat(e, "be a cat", "chatml");
    struct fm_generation_stats st;
    const char *role, *text;
    assert_false(fm_chat_undo(c));
    ok(fm_chat_send(c, "one", &short_answer, &st, &err));
    const int first = st.prompt_tokens;
    struct fm_buf before = prompt(c);
    ok(fm_chat_send(c, "two", &short_answer, &st, &err));
    const int second = st.prompt_tokens;
    assert_true(fm_chat_undo(c));
    assert_true(fm_chat_length(c) >= first && fm_chat_length(c) < second);
    is_prompt(c, before.data);
    assert_true(fm_chat_message(c, 2, &role, &text));
    assert_false(fm_chat_message(c, 3, &role, &text));
    assert_true(fm_chat_undo(c));
    assert_int_equal(fm_chat_length(c), 0);
    assert_false(fm_chat_undo(c));
    assert_true(fm_chat_message(c, 0, &role, &text)); /* the system text */
    assert_string_equal(text, "be a cat");
    fm_buf_release(&before);
    fm_chat_free(c);
    fm_engine_close(e);
}

/* ---- files ---- */

static void write_file(const char *text, size_t n)
{
    FILE *f = fopen(file_path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void saved_conversations_come_back(void **state)
{
    (void)state;
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 4096});
    struct fm_chat *c = chat(e, "Be \"brief\".", "deepseek-v4"), *d = chat(e, NULL, "deepseek-v4"),
                   *other = chat(e, "gone", "chatml");
    const char *effort, *role, *text;
    struct fm_buf file = {0};
    assert_int_equal(fm_chat_save(d, file_path, &err), FM_ERR_USAGE); /* empty */
    add(c, "user", "tab\tline\nü");
    add(c, "assistant", "\xff!");
    ok(fm_chat_set_thinking(c, true, "max", &err));
    ok(fm_chat_save(c, file_path, &err));
    ok(fm_buf_read_file(&file, file_path, 10000, &err));
    assert_string_equal(file.data, "{\"messages\": [\n{\"role\": \"system\", \"content\": \"Be \\\"brief\\\".\"},\n"
                                   "{\"role\": \"user\", \"content\": \"tab\\tline\\nü\"},\n"
                                   "{\"role\": \"assistant\", \"content\": \"\uFFFD!\"}],\n"
                                   "\"thinking\": true, \"reasoning_effort\": \"max\"}\n");
    ok(fm_chat_load(d, file_path, &err));
    assert_true(fm_chat_thinking(d, &effort));
    assert_string_equal(effort, "max");
    assert_true(fm_chat_message(d, 2, &role, &text));
    assert_string_equal(text, "\uFFFD!");
    fm_chat_clear(d); /* the file's system text is this conversation's now */
    assert_true(fm_chat_message(d, 0, &role, &text));
    assert_string_equal(text, "Be \"brief\".");
    ok(fm_chat_load(other, file_path, &err)); /* a format without reasoning */
    assert_false(fm_chat_thinking(other, &effort));
    assert_null(effort);
    fm_buf_release(&file);
    fm_chat_free(c);
    fm_chat_free(d);
    fm_chat_free(other);
    fm_engine_close(e);
}

static void bad_files_change_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "7",
        "{\"messages\":[]}",
        "{\"messages\":[{\"role\":\"user\"}]}",
        "{\"messages\":[{\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":7}]}",
        "{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"thinking\":3}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
        "\"f\"}}]}",
        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
        "\"arguments\":{}}}]}]}",
    };
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 200});
    struct fm_chat *c = chat(e, "s", "qwen3");
    add(c, "user", "one");
    ok(fm_chat_set_thinking(c, true, NULL, &err));
    struct fm_buf before = prompt(c), large = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(bad[i], strlen(bad[i]));
        assert_int_equal(fm_chat_load(c, file_path, &err), FM_ERR_INPUT);
        assert_int_equal(err.code, FM_ERR_INPUT);
        assert_non_null(strstr(err.message, file_path));
        is_prompt(c, before.data);
    }
    fm_buf_str(&large, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    for (int i = 0; i < 300; i++) fm_buf_str(&large, "xq");
    fm_buf_str(&large, "\"}]}");
    write_file(large.data, large.len);
    assert_int_equal(fm_chat_load(c, file_path, &err), FM_ERR_INPUT);
    assert_non_null(strstr(err.message, "context of 200"));
    assert_int_equal(fm_chat_load(c, "/no/such/file", &err), FM_ERR_INPUT);
    assert_int_equal(fm_chat_load(c, "/tmp", &err), FM_ERR_INPUT);
    assert_int_equal(fm_chat_save(c, "/tmp", &err), FM_ERR_USAGE);
    assert_int_equal(fm_chat_save(c, "/no/such/folder/file", &err), FM_ERR_DISK);
    is_prompt(c, before.data);
    fm_buf_release(&before);
    fm_buf_release(&large);
    fm_chat_free(c);
    fm_engine_close(e);
}

static void files_survive_a_lack_of_memory(void **state)
{
    (void)state;
    static const char text[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
                               "\"two\"},{\"role\":\"assistant\",\"content\":\"three\"}],\"thinking\":true}";
    struct fm_engine *e = engine((struct fm_engine_options){.ctx = 512});
    struct fm_chat *c = chat(e, NULL, "qwen3");
    add(c, "user", "one");
    struct fm_buf before = prompt(c);
    write_file(text, sizeof text - 1);
    enum fm_status st = FM_ERR_MEMORY;
    long failed = 0;
    for (long n = 1; st; n++) {
        fm_mem_fail_at(n);
        st = fm_chat_load(c, file_path, &err);
        fm_mem_fail_at(0);
        if (!st) break;
        assert_int_equal(st, FM_ERR_MEMORY);
        is_prompt(c, before.data);
        failed++;
    }
    assert_true(failed > 5);
    assert_true(fm_chat_thinking(c, NULL));
    st = FM_ERR_MEMORY;
    for (long n = 1; st; n++) {
        fm_mem_fail_at(n);
        st = fm_chat_save(c, file_path, &err);
        fm_mem_fail_at(0);
        if (st) assert_int_equal(st, FM_ERR_MEMORY);
    }
    ok(fm_chat_load(c, file_path, &err));
    fm_buf_release(&before);
    fm_chat_free(c);
    fm_engine_close(e);
}

static int write_models(void **state)
{
    (void)state;
    (void)snprintf(model_path, sizeof model_path, "/tmp/fathom-conversation-%d.gguf", (int)getpid());
    (void)snprintf(file_path, sizeof file_path, "/tmp/fathom-conversation-%d.json", (int)getpid());
    write_model(model_path, true);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    (void)unlink(file_path);
    return unlink(model_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_say_whether_to_think),   cmocka_unit_test(efforts_reach_the_prompt),
        cmocka_unit_test(formats_say_what_they_cannot),   cmocka_unit_test(reasoning_leaves_the_conversation),
        cmocka_unit_test(answers_are_parsed_as_asked),    cmocka_unit_test(questions_can_be_taken_back),
        cmocka_unit_test(saved_conversations_come_back),  cmocka_unit_test(bad_files_change_nothing),
        cmocka_unit_test(files_survive_a_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, write_models, remove_models);
}
