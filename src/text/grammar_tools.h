/* Tool calls as grammars: which tools, and whether the answer has to be a call. */
#ifndef FM_TEXT_GRAMMAR_TOOLS_H
#define FM_TEXT_GRAMMAR_TOOLS_H

#include "text/grammar_json.h"
#include "text/parse.h"

struct fm_tool_use {
    enum fm_calls calls;       /* the dialect                                             */
    const struct fm_py *tools; /* a list: {"type": "function", "function": {"name", "parameters", "strict"}} */
    const char *only;          /* NULL, or the one tool that may be called, once          */
    bool required;             /* the answer is a call; else it may be content and a call */
};

/* Whether one of the tools is strict: its calls are to follow its schema. */
bool fm_tools_strict(const struct fm_py *tools);
/* The rule of answers.  answer: the rule of content where that is bound, −1: any text.  Arguments follow the schemas of strict
 * tools, and, where a call is required, of others whose schema has a grammar; else they are any object.  FM_ERR_USAGE: no such
 * tool, or no calls in this dialect; FM_ERR_INPUT: a strict tool's schema. */
enum fm_status fm_tools_parse(struct fm_gjson *g, const struct fm_tool_use *use, int answer, int *root,
                              struct fm_error *err) FM_MUST_USE;

#endif
