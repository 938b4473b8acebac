/* POST infill, llama-server's: what belongs between two texts, for editors.
 *
 *   [BOS] (file NAME text)… file begin input_prefix hole input_suffix end prompt ─► content
 *
 * Other files stand in front where the vocabulary has a mark for them, else as snippets. */
#include <math.h>
#include <string.h>

#include "server/openai.h"

/* ---- the answer ---- */

static void put_head(struct fm_reply *p, const char *text, size_t n, bool stop)
{
    fm_buf_printf(&p->out, "{\"index\":%d,\"content\":", p->index);
    fm_put_text(&p->out, text, n);
    fm_buf_printf(&p->out, ",\"tokens\":[],\"id_slot\":-1,\"stop\":%s", stop ? "true" : "false");
}

static void put_pace(struct fm_buf *b, const char *what, int n, double seconds)
{
    const double s = isfinite(seconds) && seconds > 0 ? seconds : 0;
    fm_buf_printf(b, "\"%s_n\":%d,\"%s_ms\":%.3f,\"%s_per_token_ms\":%.3f,\"%s_per_second\":%.3f", what, n, what,
                  s * 1e3, what, n > 0 ? s * 1e3 / n : 0, what, s > 0 ? n / s : 0);
}

static void put_end(struct fm_reply *p)
{
    struct fm_buf *b = &p->out;
    const struct fm_request_result *r = &p->result;
    const char *type = r->end == FM_END_LENGTH ? "limit" : r->end != FM_END_STOP ? "none" : r->stop ? "word" : "eos";
    fm_buf_str(b, ",\"model\":");
    fm_put_str(b, p->s->name);
    fm_buf_printf(b, ",\"tokens_predicted\":%d,\"tokens_evaluated\":%d,\"tokens_cached\":%d,\"truncated\":false,",
                  r->answer_tokens, r->prompt_tokens, r->cached_tokens);
    fm_buf_printf(b, "\"has_new_line\":%s,\"stop_type\":\"%s\",\"stopping_word\":",
                  p->content.len && memchr(p->content.data, '\n', p->content.len) ? "true" : "false", type);
    fm_put_str(b, r->stop ? r->stop : "");
    fm_buf_printf(b, ",\"timings\":{\"cache_n\":%d,", r->cached_tokens);
    put_pace(b, "prompt", r->prompt_tokens - r->cached_tokens, r->prompt_seconds);
    fm_buf_char(b, ',');
    put_pace(b, "predicted", r->answer_tokens, r->answer_seconds);
    fm_buf_str(b, "}}");
}

static void begin(struct fm_reply *p) { (void)p; }

static void piece(struct fm_reply *p, bool reasoning, const char *text, size_t n)
{
    (void)reasoning;
    fm_buf_str(&p->out, "data: ");
    put_head(p, text, n, false);
    fm_buf_printf(&p->out, ",\"tokens_predicted\":%d,\"tokens_evaluated\":%zu}\n\n", p->n_made, p->ask.n_ids);
}

static void end(struct fm_reply *p)
{
    fm_buf_str(&p->out, "data: ");
    put_head(p, "", 0, true);
    put_end(p);
    fm_buf_str(&p->out, "\n\n");
}

static void whole(struct fm_reply *p)
{
    put_head(p, p->content.len ? p->content.data : "", p->content.len, true);
    put_end(p);
}

static const struct fm_dialect infill = {.type = "text/event-stream; charset=utf-8",
                                         .ping = ": keep-alive\n\n",
                                         .begin = begin,
                                         .piece = piece,
                                         .end = end,
                                         .whole = whole,
                                         .fault = fm_openai_fault,
                                         .fault_in_stream = fm_openai_fault_in_stream};

/* ---- the request ---- */

static bool text_of(struct fm_ask *a, const struct fm_py *v, const char *key, struct fm_span *out)
{
    *out = (struct fm_span){"", 0};
    if (!v || v->kind == FM_PY_NULL) return true;
    if (v->kind != FM_PY_STRING) return fm_fault_set(&a->fault, 400, key, "%s is not a string", key);
    *out = v->text;
    return true;
}

static bool add_str(struct fm_ask *a, const struct fm_server *s, const char *text)
{
    return fm_ask_add_text(a, s, (struct fm_span){text, strlen(text)}, 0);
}

static bool add_file(struct fm_ask *a, const struct fm_server *s, const struct fm_py *file)
{
    struct fm_span name, text;
    if (file->kind != FM_PY_OBJECT)
        return fm_fault_set(&a->fault, 400, "input_extra", "input_extra holds something that is no object");
    if (!text_of(a, fm_py_get(file, "filename"), "input_extra.filename", &name) ||
        !text_of(a, fm_py_get(file, "text"), "input_extra.text", &text))
        return false;
    const bool front = s->fim.file < 0
                           ? add_str(a, s, "\n\n--- snippet ---\n\n")
                           : fm_ask_add_id(a, s->fim.file) && fm_ask_add_text(a, s, name, 0) && add_str(a, s, "\n");
    return front && fm_ask_add_text(a, s, text, 0);
}

static bool add_files(struct fm_ask *a, const struct fm_server *s, const struct fm_py *files)
{
    if (!files || files->kind == FM_PY_NULL) return true;
    if (files->kind != FM_PY_ARRAY) return fm_fault_set(&a->fault, 400, "input_extra", "input_extra is no list");
    if (!files->n) return true;
    for (const struct fm_py *f = files->first; f; f = f->next)
        if (!add_file(a, s, f)) return false;
    return s->fim.file < 0 || (fm_ask_add_id(a, s->fim.file) && add_str(a, s, "filename\n"));
}

static bool read_prompt(struct fm_ask *a, const struct fm_server *s)
{
    struct fm_span prefix, suffix, prompt;
    if (s->fim.begin < 0) {
        (void)fm_fault_set(&a->fault, 501, NULL, "the vocabulary of %.100s has no marks to fill in the middle with",
                           s->name);
        a->fault.code = "not_supported_error";
        return false;
    }
    return text_of(a, fm_py_get(a->body, "input_prefix"), "input_prefix", &prefix) &&
           text_of(a, fm_py_get(a->body, "input_suffix"), "input_suffix", &suffix) &&
           text_of(a, fm_py_get(a->body, "prompt"), "prompt", &prompt) && fm_ask_add_first(a, s) &&
           add_files(a, s, fm_py_get(a->body, "input_extra")) && fm_ask_hole(a, s, prefix, suffix) &&
           fm_ask_add_text(a, s, prompt, 0);
}

static bool read_ask(struct fm_ask *a, const struct fm_server *s)
{
    const bool ok = fm_ask_common(a, s) && fm_ask_int(a, "n_predict", -2, 1 << 30, &a->max_tokens) &&
                    fm_ask_float(a, "repeat_penalty", 0.01, 100, &a->sampling.repeat) && fm_bind_grammar(a) &&
                    read_prompt(a, s) && fm_bind_make(a, s, NULL, 0);
    if (a->max_tokens < 0) a->max_tokens = -1;
    return ok;
}

void fm_api_infill(struct fm_server *s, struct fm_web_request *r)
{
    fm_openai_serve(s, r, &infill, "infill-", read_ask);
}
