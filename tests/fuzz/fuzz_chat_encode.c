/* libFuzzer target: any bytes as the messages of a conversation, in every chat format, with and without thinking. */
#include <stdlib.h>
#include <string.h>

#include "fathom.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *name;
    for (int i = 0; (name = fm_chat_format_at(i)); i++)
        for (int thinking = 0; thinking < 2; thinking++) {
            struct fm_error err;
            char *text;
            size_t k;
            if (fm_chat_format_encode(name, (const char *)data, n, thinking, &text, &k, &err)) {
                if (!memchr(err.message, 0, sizeof err.message)) abort();
                continue;
            }
            if (text[k]) abort();
            fm_text_free(text);
        }
    return 0;
}
