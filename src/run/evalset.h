/* Sets of questions: JSON lines, one item each; or one JSON document, an array of items or an object with "examples".
 *
 *   { "question": "…" | "prompt": "…" | "input": "…" or [messages] | "context": "…" | …,
 *     "choices": ["…", …]                        multiple choice, or nothing: an answer is generated
 *     "answer": 2 | "C" | "a text" | 42 | ["…"]  index from 0, letter, label or text of a choice; or what to answer
 *     "match": "number" }                        how an answer is compared; may be missing
 *
 * evalset.c has the names that published sets use for the same things. */
#ifndef FM_RUN_EVALSET_H
#define FM_RUN_EVALSET_H

#include "base/json.h"
#include "base/str.h"
#include "text/chat.h"

enum fm_match {
    FM_MATCH_AUTO,
    FM_MATCH_EXACT,
    FM_MATCH_TEXT,
    FM_MATCH_STARTS,
    FM_MATCH_CONTAINS,
    FM_MATCH_NUMBER,
    FM_MATCH_COUNT
};
/* By name: "auto", "exact", …; FM_MATCH_COUNT when there is none. */
enum fm_match fm_match_find(const char *name);
extern const char *const fm_match_names[FM_MATCH_COUNT + 1];

enum { FM_EVAL_CHOICES = 256 }; /* of an item at most */

struct fm_eval_item {
    int line;                         /* in the file, or the number in the document; from 1 */
    bool question;                    /* the text is a question: raw prompts say so          */
    struct fm_buf text;               /* with a NUL                                         */
    struct fm_chat_message *messages; /* NULL, or instead of the text … */
    int n_messages;
    const char **choices; /* [n_choices]; NULL: an answer is generated          */
    int n_choices, gold;  /* gold: index of the right choice                    */
    const char **answers; /* [n_answers] that are right, without choices        */
    int n_answers;
    const char *solution; /* what an example shows as its answer                */
    enum fm_match match;
    const char *one; /* room for the only answer  */
    json_t *j;       /* the strings live here, … */
    char *number;    /* … or here                 */
};

static inline const char *fm_eval_answer(const struct fm_eval_item *it, int i)
{
    return it->answers ? it->answers[i] : it->one;
}

struct fm_eval_set {
    struct fm_eval_item *items;
    int n;
    uint64_t fingerprint; /* of the file's bytes */
};
/* FM_ERR_INPUT "read the set: FILE:LINE: WHY" */
enum fm_status fm_eval_set_open(struct fm_eval_set *s, const char *path, struct fm_error *err) FM_MUST_USE;
void fm_eval_set_close(struct fm_eval_set *s);

/* Whether an answer counts as one of the item's; found: receives what was compared, as found in the text. */
bool fm_match_answer(const struct fm_eval_item *item, enum fm_match match, const char *text, size_t n,
                     struct fm_buf *found);

#endif
