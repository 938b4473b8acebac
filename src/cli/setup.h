/* What commands with a model have in common: which model, the engine's options, sampling, the memory plan. */
#ifndef FM_CLI_SETUP_H
#define FM_CLI_SETUP_H

#include <stdio.h>

#include "cli/options.h"

struct fm_setup {
    struct fm_engine_options engine; /* engine.model NULL: not named yet */
    bool quiet, mem, json;
    size_t positions; /* whose logits the command will hold, for the plan */
    const char *log_level, *draft;
};
extern const struct fm_opt fm_model_row[];   /* -m                                     into struct fm_setup */
extern const struct fm_opt fm_engine_rows[]; /* --threads --ctx --exact --deterministic --mem          "    */
extern const struct fm_opt fm_log_rows[];    /* --quiet --log-level                                    "    */
extern const struct fm_opt fm_json_row[];    /* --json                                                 "    */

extern const struct fm_opt fm_draft_rows[]; /* --draft --draft-max                                    "    */

/* Act on --quiet and --log-level: every command calls it once after parsing. */
enum fm_status fm_setup_streams(const struct fm_setup *s, struct fm_error *err) FM_MUST_USE;

/* Fill in the shipped model where none was named.  It lies in models/ of the source tree that the program was built in,
 * or in share/fathom/models of the prefix it was installed in. */
enum fm_status fm_setup_model(struct fm_setup *s, struct fm_error *err) FM_MUST_USE;
/* The same, and a first word names the model, unless -m did. */
enum fm_status fm_setup_model_word(struct fm_setup *s, struct fm_words *w, struct fm_error *err) FM_MUST_USE;
bool fm_is_model_path(const char *path); /* an existing .gguf file, or a folder with config.json */

/* Print the plan of --mem to standard error if it was asked for. */
enum fm_status fm_setup_plan(const struct fm_setup *s, struct fm_error *err) FM_MUST_USE;
/* The same, then open. */
enum fm_status fm_setup_open(const struct fm_setup *s, struct fm_engine **out, struct fm_error *err) FM_MUST_USE;

/* Collects the items of a memory plan and prints them as a table. */
struct fm_plan {
    FILE *stream;
    uint64_t memory, mapped;
};
void fm_plan_item(void *plan, const char *item, uint64_t bytes, bool file_backed); /* an fm_memory_fn */
void fm_plan_total(const struct fm_plan *plan);

struct fm_answer_setup {
    struct fm_generation gen;
    struct fm_opt_list stop;      /* copied to gen by fm_answer_ready */
    const char *grammar, *schema; /* files, see fm_answer_bind */
    struct fm_constraint *bound;
};
extern const struct fm_opt fm_sampling_rows[];   /* --temp … -n                         into struct fm_answer_setup */
extern const struct fm_opt fm_stop_row[];        /* --stop                                                       "   */
extern const struct fm_opt fm_constraint_rows[]; /* --grammar --json-schema                                    "   */
void fm_answer_default(struct fm_answer_setup *a);
/* Act on --grammar and --json-schema; release before the engine is closed. */
enum fm_status fm_answer_bind(struct fm_answer_setup *a, struct fm_engine *e, struct fm_error *err) FM_MUST_USE;
void fm_answer_release(struct fm_answer_setup *a);
void fm_answer_ready(struct fm_answer_setup *a);
/* Act on --draft and --draft-max, for the engine and for answers (a may be NULL). */
enum fm_status fm_setup_draft(struct fm_setup *s, struct fm_answer_setup *a, struct fm_error *err) FM_MUST_USE;

/* "12 prompt tokens (8 cached) in 0.10 s, 50 answered in 2.0 s (25.0/s)" to standard error. */
void fm_answer_report(const struct fm_generation_stats *s);

#endif
