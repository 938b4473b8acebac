/* POST embeddings, OpenAI's shape, and Ollama's api/embed and api/embeddings: the mean over an input's tokens of the hidden states behind the final norm, at length 1.
 * A model trained to continue text has no better one; models trained for it are another matter. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "server/openai.h"

enum { INPUTS_MAX = 2048, NUMBERS_MAX = 1 << 22 /* in an answer */ };

/* 1 over the length; 0 where there is none. */
static double scale_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    return sum > 0 && isfinite(sum) ? 1 / sqrt(sum) : 0;
}

static void put_numbers(struct fm_buf *b, const double *x, int n, double scale)
{
    fm_buf_char(b, '[');
    for (int i = 0; i < n; i++) fm_buf_printf(b, "%s%.9g", i ? "," : "", (double)(float)(x[i] * scale));
    fm_buf_char(b, ']');
}

/* Byte i of the numbers as little-endian float32. */
static unsigned byte_of(const double *x, int n, double scale, size_t i)
{
    uint32_t bits;
    if (i >= (size_t)n * 4) return 0;
    const float f = (float)(x[i / 4] * scale);
    memcpy(&bits, &f, 4);
    return bits >> (8 * (i % 4)) & 255;
}

static void put_base64(struct fm_buf *b, const double *x, int n, double scale)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t bytes = (size_t)n * 4;
    fm_buf_char(b, '"');
    for (size_t i = 0; i < bytes; i += 3) {
        const unsigned three =
            byte_of(x, n, scale, i) << 16 | byte_of(x, n, scale, i + 1) << 8 | byte_of(x, n, scale, i + 2);
        fm_buf_char(b, digits[three >> 18]);
        fm_buf_char(b, digits[three >> 12 & 63]);
        fm_buf_char(b, i + 1 < bytes ? digits[three >> 6 & 63] : '=');
        fm_buf_char(b, i + 2 < bytes ? digits[three & 63] : '=');
    }
    fm_buf_char(b, '"');
}

static void whole(struct fm_reply *p)
{
    struct fm_buf *b = &p->out;
    const struct fm_answer *a = p->answer;
    const struct fm_answer_tokens t = fm_answer_tokens(a);
    const bool base64 = fm_py_is(fm_py_get(p->ask.body, "encoding_format"), "base64");
    const int D = p->s->info->dim;
    fm_buf_str(b, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < a->n_shown; i++) {
        const double *x = a->shown[i]->result.embedding;
        fm_buf_printf(b, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "", i);
        (base64 ? put_base64 : put_numbers)(b, x, D, scale_of(x, D));
        fm_buf_char(b, '}');
    }
    fm_buf_str(b, "],\"model\":");
    fm_put_str(b, p->s->name);
    fm_buf_printf(b, ",\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d}}", t.prompt, t.prompt);
}

static const struct fm_dialect embeddings = {
    .whole = whole, .fault = fm_openai_fault, .fault_in_stream = fm_openai_fault_in_stream, .embed = true};

/* ---- Ollama's ---- */

static void put_vector(struct fm_reply *p, int i)
{
    const double *x = p->answer->shown[i]->result.embedding;
    put_numbers(&p->out, x, p->s->info->dim, scale_of(x, p->s->info->dim));
}

static void embed_whole(struct fm_reply *p)
{
    struct fm_buf *b = &p->out;
    fm_buf_str(b, "{\"model\":");
    fm_put_str(b, p->s->name);
    fm_buf_str(b, ",\"embeddings\":[");
    for (int i = 0; i < p->answer->n_shown; i++) {
        if (i) fm_buf_char(b, ',');
        put_vector(p, i);
    }
    fm_buf_printf(b, "],\"total_duration\":%.0f,\"load_duration\":0,\"prompt_eval_count\":%d}",
                  1e9 * (fm_seconds() - fm_web_started(p->r)), fm_answer_tokens(p->answer).prompt);
}

static void one_whole(struct fm_reply *p)
{
    fm_buf_str(&p->out, "{\"embedding\":");
    put_vector(p, 0);
    fm_buf_char(&p->out, '}');
}

static const struct fm_dialect embed = {
    .whole = embed_whole, .fault = fm_ollama_fault, .fault_in_stream = fm_ollama_fault_in_stream, .embed = true};
static const struct fm_dialect one = {
    .whole = one_whole, .fault = fm_ollama_fault, .fault_in_stream = fm_ollama_fault_in_stream, .embed = true};

/* ---- requests ---- */

/* Up to max texts or lists of ids; dimensions: none but the model's. */
static bool read_inputs(struct fm_ask *a, const struct fm_server *s, const char *key, int max)
{
    const int D = s->info->dim, most = NUMBERS_MAX / D < max ? NUMBERS_MAX / D : max;
    int dimensions = D;
    if (!fm_ask_int(a, "dimensions", 1, 1 << 30, &dimensions)) return false;
    if (dimensions != D)
        return fm_fault_set(&a->fault, 400, "dimensions", "dimensions: this model's embeddings have %d", D);
    a->stream = false;
    a->max_tokens = 0;
    return fm_ask_prompts(a, s, fm_py_get(a->body, key), key, most ? most : 1);
}

static bool read_ask(struct fm_ask *a, const struct fm_server *s)
{
    if (!fm_ask_basics(a, s)) return false;
    const struct fm_py *format = fm_py_get(a->body, "encoding_format");
    if (format && format->kind != FM_PY_NULL && !fm_py_is(format, "float") && !fm_py_is(format, "base64"))
        return fm_fault_set(&a->fault, 400, "encoding_format", "encoding_format is neither \"float\" nor \"base64\"");
    return fm_ask_text(a, "user", &a->user) && read_inputs(a, s, "input", INPUTS_MAX);
}

void fm_api_embeddings(struct fm_server *s, struct fm_web_request *r)
{
    fm_openai_serve(s, r, &embeddings, "embd-", read_ask);
}

/* Nothing to embed has no embeddings. */
static void start_ollama(struct fm_server *s, struct fm_web_request *r, const char *key, const struct fm_dialect *d)
{
    struct fm_ask a = {0};
    if (fm_ask_parse(&a, r) && fm_ask_basics(&a, s)) {
        const struct fm_py *v = fm_py_get(a.body, key);
        if (!v || v->kind == FM_PY_NULL || (v->kind != FM_PY_NUMBER && !v->n && !v->text.n)) {
            struct fm_buf b = {0};
            fm_buf_str(&b, d == &one ? "{\"embedding\":[]}" : "{\"embeddings\":[]}");
            fm_reply_json(r, 200, &b);
            fm_ask_release(&a);
            return;
        }
        if (read_inputs(&a, s, key, d == &one ? 1 : INPUTS_MAX)) {
            fm_reply_start(s, r, d, &a, "embd-");
            return;
        }
    }
    fm_ollama_fault(r, &a.fault);
    fm_ask_release(&a);
}

void fm_api_embed(struct fm_server *s, struct fm_web_request *r) { start_ollama(s, r, "input", &embed); }
void fm_api_ollama_embeddings(struct fm_server *s, struct fm_web_request *r) { start_ollama(s, r, "prompt", &one); }
