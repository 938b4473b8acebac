/* What stands around the model: who it is, how it fares, its tokens and its prompt (api-and-ux.md §1.9, §2.5). */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "server/ask.h"

/* The one model, with the members that the lists of several services have. */
static void put_model(struct fm_server *s, struct fm_buf *b)
{
    struct fm_scheduler_stats st;
    const time_t at = (time_t)s->started;
    struct tm tm;
    char created[40];
    (void)gmtime_r(&at, &tm);
    (void)strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &tm);
    fm_scheduler_stats(s->scheduler, &st);
    fm_buf_str(b, "{\"id\":");
    fm_put_str(b, s->name);
    fm_buf_printf(b,
                  ",\"object\":\"model\",\"type\":\"model\",\"created\":%lld,\"created_at\":\"%s\","
                  "\"owned_by\":\"fathom\",\"name\":",
                  s->started, created);
    fm_put_str(b, s->name);
    fm_buf_str(b, ",\"display_name\":");
    fm_put_str(b, s->name);
    fm_buf_printf(
        b,
        ",\"context_window\":%d,\"context_length\":%d,\"max_model_len\":%d,\"max_output_tokens\":%d,"
        "\"input_modalities\":[\"text\"],\"output_modalities\":[\"text\"],\"effort\":{\"supported_levels\":%s,"
        "\"default_level\":%s},\"api_capabilities\":{\"anthropic_messages\":{\"system_prompt_update\":"
        "\"in-history\"}}}",
        st.ctx, st.ctx, st.ctx, st.ctx, s->thinks ? "[\"none\",\"low\",\"high\",\"max\"]" : "[\"none\"]",
        s->thinks ? "\"high\"" : "\"none\"");
}

void fm_api_models(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_buf b = {0};
    fm_buf_str(&b, "{\"object\":\"list\",\"data\":[");
    put_model(s, &b);
    fm_buf_str(&b, "],\"has_more\":false,\"first_id\":");
    fm_put_str(&b, s->name);
    fm_buf_str(&b, ",\"last_id\":");
    fm_put_str(&b, s->name);
    fm_buf_char(&b, '}');
    fm_reply_json(r, 200, &b);
}

/* /models/NAME */
void fm_api_model(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_buf b = {0};
    struct fm_fault f = {0};
    const char *name = strstr(fm_web_path(r), "/models/") + 8;
    if (!strcmp(name, s->name)) {
        put_model(s, &b);
        fm_reply_json(r, 200, &b);
        return;
    }
    (void)fm_fault_set(&f, 404, "model", "the model '%.100s' does not exist here: this is %s", name, s->name);
    f.code = "model_not_found";
    fm_openai_fault(r, &f);
}

/* A constant that keeps the balance displays of DeepSeek's clients quiet. */
void fm_api_balance(struct fm_server *s, struct fm_web_request *r)
{
    static const char body[] =
        "{\"is_available\":true,\"balance_infos\":[{\"currency\":\"USD\",\"total_balance\":\"0.00\","
        "\"granted_balance\":\"0.00\",\"topped_up_balance\":\"0.00\"}]}";
    (void)s;
    fm_web_reply(r, 200, "application/json", body, sizeof body - 1);
}

void fm_api_root(struct fm_server *s, struct fm_web_request *r)
{
    (void)s;
    fm_web_reply(r, 200, "text/plain", "fathom is running\n", 18);
}

void fm_api_health(struct fm_server *s, struct fm_web_request *r)
{
    (void)s;
    fm_web_reply(r, 200, "application/json", "{\"status\":\"ok\"}", 15);
}

/* {"content": TEXT, "add_special": false, "parse_special": true, "with_pieces": false} → {"tokens": […]} */
void fm_api_tokenize(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_ask a = {0};
    bool bos = false, special = true, pieces = false;
    int32_t *ids = NULL;
    size_t n = 0;
    struct fm_error err;
    const struct fm_py *text;
    if (fm_ask_parse(&a, r) && fm_ask_bool(&a, "add_special", &bos) && fm_ask_bool(&a, "parse_special", &special) &&
        fm_ask_bool(&a, "with_pieces", &pieces)) {
        text = fm_py_get(a.body, "content");
        if (!text || text->kind != FM_PY_STRING)
            (void)fm_fault_set(&a.fault, 400, "content", "content is missing or not a string");
        else if (fm_text_encode(s->tok, text->text.s, text->text.n,
                                (special ? FM_TEXT_SPECIAL : 0u) | (bos && fm_text_adds_bos(s->tok) ? FM_TEXT_BOS : 0u),
                                &ids, &n, &err))
            (void)fm_fault_of(&a.fault, &err);
    }
    if (a.fault.status) {
        fm_openai_fault(r, &a.fault);
    } else {
        struct fm_buf b = {0};
        fm_buf_str(&b, "{\"tokens\":[");
        for (size_t i = 0; i < n; i++) {
            char *piece = NULL;
            size_t len = 0;
            if (i) fm_buf_char(&b, ',');
            if (!pieces) {
                fm_buf_printf(&b, "%d", (int)ids[i]);
                continue;
            }
            fm_buf_printf(&b, "{\"id\":%d,\"piece\":", (int)ids[i]);
            if (!fm_text_decode(s->tok, &ids[i], 1, &piece, &len, NULL) && fm_utf8_valid(piece, len)) {
                fm_put_text(&b, piece, len);
            } else { /* half a character: its bytes */
                fm_buf_char(&b, '[');
                for (size_t k = 0; k < len; k++) fm_buf_printf(&b, "%s%d", k ? "," : "", (unsigned char)piece[k]);
                fm_buf_char(&b, ']');
            }
            fm_buf_char(&b, '}');
            fm_text_free(piece);
        }
        fm_buf_str(&b, "]}");
        fm_reply_json(r, 200, &b);
    }
    fm_text_free(ids);
    fm_ask_release(&a);
}

/* {"tokens": […]} → {"content": TEXT}; bytes that are no UTF-8 become U+FFFD */
void fm_api_detokenize(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_ask a = {0};
    struct fm_error err;
    char *text = NULL;
    size_t n = 0;
    if (fm_ask_parse(&a, r)) {
        const struct fm_py *ids = fm_py_get(a.body, "tokens");
        if (!ids || ids->kind != FM_PY_ARRAY || (ids->n && ids->first->kind != FM_PY_NUMBER))
            (void)fm_fault_set(&a.fault, 400, "tokens", "tokens is missing or no list of token ids");
        else if (ids->n && fm_ask_ids(&a, s, ids, "tokens") && fm_text_decode(s->tok, a.ids, a.n_ids, &text, &n, &err))
            (void)fm_fault_of(&a.fault, &err);
    }
    if (a.fault.status) {
        fm_openai_fault(r, &a.fault);
    } else {
        struct fm_buf b = {0};
        fm_buf_str(&b, "{\"content\":");
        fm_py_write_text(&b, text ? text : "", n);
        fm_buf_char(&b, '}');
        fm_reply_json(r, 200, &b);
    }
    fm_text_free(text);
    fm_ask_release(&a);
}

/* Messages in chat-encode's shape → {"prompt": TEXT} */
void fm_api_template(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_ask a = {0};
    struct fm_error err;
    char *text = NULL;
    size_t n = 0, n_body;
    const char *body = fm_web_body(r, &n_body);
    if (fm_ask_parse(&a, r) && fm_chat_format_encode(s->format, body, n_body, false, &text, &n, &err))
        (void)fm_fault_of(&a.fault, &err);
    if (a.fault.status) {
        fm_openai_fault(r, &a.fault);
    } else {
        struct fm_buf b = {0};
        fm_buf_str(&b, "{\"prompt\":");
        fm_put_text(&b, text, n);
        fm_buf_char(&b, '}');
        fm_reply_json(r, 200, &b);
    }
    fm_text_free(text);
    fm_ask_release(&a);
}

void fm_api_props(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_scheduler_stats st;
    struct fm_buf b = {0};
    fm_scheduler_stats(s->scheduler, &st);
    fm_buf_printf(&b, "{\"total_slots\":%d,\"busy_slots\":%d,\"waiting\":%d,\"n_ctx\":%d,\"model\":", st.slots, st.busy,
                  st.waiting, st.ctx);
    fm_put_str(&b, s->name);
    fm_buf_str(&b, ",\"architecture\":");
    fm_put_str(&b, s->info->family);
    fm_buf_str(&b, ",\"format\":");
    fm_put_str(&b, s->info->format);
    fm_buf_str(&b, ",\"chat_format\":");
    fm_put_str(&b, s->format);
    fm_buf_printf(
        &b,
        ",\"thinking\":%s,\"modalities\":{\"vision\":false,\"audio\":false},\"sandbox\":{\"files\":%s,\"calls\":%s},"
        "\"build_info\":\"fathom\"}",
        s->thinks ? "true" : "false", s->no_files ? "true" : "false", s->few_calls ? "true" : "false");
    fm_reply_json(r, 200, &b);
}

void fm_api_slots(struct fm_server *s, struct fm_web_request *r)
{
    struct fm_scheduler_stats st;
    struct fm_buf b = {0};
    struct fm_fault f = {0};
    const char *must = fm_web_query(r, "fail_on_no_slot");
    fm_scheduler_stats(s->scheduler, &st);
    if (must && strcmp(must, "0") != 0 && st.busy >= st.slots) {
        (void)fm_fault_set(&f, 503, NULL, "no slot is free: %d are busy, %d requests wait", st.busy, st.waiting);
        fm_openai_fault(r, &f);
        return;
    }
    fm_buf_char(&b, '[');
    for (int i = 0; i < st.slots; i++) {
        struct fm_slot_info x;
        fm_scheduler_slot(s->scheduler, i, &x);
        fm_buf_printf(&b,
                      "%s{\"id\":%d,\"n_ctx\":%d,\"is_processing\":%s,\"prompt_tokens\":%d,\"prompt_done\":%d,"
                      "\"cached_tokens\":%d,\"answer_tokens\":%d,\"seconds\":%.3f,\"answer_seconds\":%.3f}",
                      i ? "," : "", i, st.ctx, x.busy ? "true" : "false", x.prompt_tokens, x.done_tokens,
                      x.cached_tokens, x.answer_tokens, x.seconds, x.answer_seconds);
    }
    fm_buf_char(&b, ']');
    fm_reply_json(r, 200, &b);
}
