/* What the routes of OpenAI's shape share: api_openai.c makes it. */
#ifndef FM_SERVER_OPENAI_H
#define FM_SERVER_OPENAI_H

#include "server/reply.h"

/* {"id":…,"object":…,"created":…,"model":…,"system_fingerprint":… */
void fm_openai_head(struct fm_reply *p, const char *object);
/* "usage":{…} of all choices */
void fm_openai_usage(struct fm_reply *p);
/* Of a chunk, behind its choices: usage where it is the last of all, null where the client wants to see it in every one. */
void fm_openai_chunk_usage(struct fm_reply *p, bool finish);
/* ,"choices":[…], of a whole answer: put writes one choice into its own out. */
void fm_openai_choices(struct fm_reply *p, void (*put)(struct fm_reply *choice));
/* A token's bytes. */
void fm_openai_token_text(struct fm_reply *p, int32_t id, struct fm_buf *text);
void fm_openai_fault_in_stream(struct fm_reply *p, const struct fm_fault *f);
/* Reads the request's body, then what read makes of it, and starts the answer, whose id begins with prefix; or tells the
 * fault. */
void fm_openai_serve(struct fm_server *s, struct fm_web_request *r, const struct fm_dialect *d, const char *prefix,
                     bool (*read)(struct fm_ask *a, const struct fm_server *s));

#endif
