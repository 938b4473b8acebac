/* What the commands share.  A command is one file cmd_<name>.c and one row in main.c. */
#ifndef FM_CLI_CLI_H
#define FM_CLI_CLI_H

#include "fathom.h"

struct fm_cli;
typedef enum fm_status (*fm_command_fn)(struct fm_cli *cli, struct fm_error *err);

struct fm_command {
    const char *name;
    const char *args;    /* the words after the options, for the usage line */
    const char *summary; /* one line for `fathom help` */
    fm_command_fn run;
};

/* One invocation: argv starts after the command's name. */
struct fm_cli {
    const struct fm_command *command;
    int argc;
    char **argv;
    bool done; /* --help was answered: the command returns FM_OK at once */
};

enum fm_status fm_cmd_bench(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_chat(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_chat_encode(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_chat_decode(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_run(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_serve(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_cost(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_ps(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_show(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_plan(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_doctor(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_tensor(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_tokenize(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_tokenizer(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_logits(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_imatrix(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_perplexity(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_eval(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_train(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_plot(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_quantize(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_export(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_pull(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_list(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_rm(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_verify(struct fm_cli *cli, struct fm_error *err);
enum fm_status fm_cmd_version(struct fm_cli *cli, struct fm_error *err);

/* cmd_chat_format.c: the names of the chat formats, a line each. */
void fm_list_chat_formats(void);
/* The same file: says so if the model's template is of no known format and none was chosen; returns whether it did. */
struct fm_model_info;
bool fm_note_unknown_chat(const struct fm_model_info *info, const char *chosen);

#endif
