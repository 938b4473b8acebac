/* A conversation at the prompt and the commands that begin with a slash. */
#ifndef FM_CLI_SLASH_H
#define FM_CLI_SLASH_H

#include "base/str.h"
#include "cli/chat_setup.h"
#include "cli/line.h"
#include "cli/setup.h"

struct fm_dialogue {
    struct fm_setup setup;
    struct fm_answer_setup answer;
    struct fm_chat_setup how;
    struct fm_engine *engine;
    struct fm_chat *chat;
    struct fm_line *line;
    struct fm_generation_stats stats; /* of the last answer */
    int answers;
    struct fm_buf file; /* the name that was last saved to, loaded from, or refused because it is there */
    bool ended_line;    /* the answer's last byte was a newline */
    bool reasoned;      /* reasoning was shown, and no answer yet */
    bool leave;
};

/* cmd_chat.c: ask for an answer and show it.  text NULL: the last one once more. */
enum fm_status fm_dialogue_answer(struct fm_dialogue *d, const char *text, struct fm_error *err) FM_MUST_USE;

/* line: "/name argument", is cut up. */
enum fm_status fm_slash(struct fm_dialogue *d, char *line, struct fm_error *err) FM_MUST_USE;

#endif
