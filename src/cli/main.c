/* fathom: the program.  One row per command; exit codes and the failure line are decided here and nowhere else. */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "cli/options.h"
#include "cli/term.h"

static enum fm_status cmd_help(struct fm_cli *cli, struct fm_error *err);

static const struct fm_command commands[] = {
    {"chat", "[MODEL]", "Talk with a model (so does fathom without a command).", fm_cmd_chat},
    {"run", "[MODEL] [PROMPT...]", "Answer one prompt, from the arguments or standard input.", fm_cmd_run},
    {"serve", "[MODEL]", "Put a model behind HTTP: the APIs of OpenAI, Anthropic and DeepSeek.", fm_cmd_serve},
    {"cost", "LEDGER", "Sum up what each key's requests took.", fm_cmd_cost},
    {"ps", "", "Say what a running server is doing.", fm_cmd_ps},
    {"show", "[MODEL]", "Say what a model is: shape, parameters, bytes, work per token.", fm_cmd_show},
    {"plan", "[MODEL|CONFIG]", "Say what a model needs, whether it fits, and how fast it will be.", fm_cmd_plan},
    {"doctor", "[FILE]", "Measure this machine: memory, arithmetic, each format, the disk of FILE.", fm_cmd_doctor},
    {"bench", "[MODEL]", "Measure a model's speed at several depths, beside this machine's limits.", fm_cmd_bench},
    {"tensor", "[NAME]", "List the tensors of a weight file, or print one.", fm_cmd_tensor},
    {"tokenize", "", "Turn standard input into token ids, or back.", fm_cmd_tokenize},
    {"tokenizer", "train PATH...", "Learn a tokenizer from texts.", fm_cmd_tokenizer},
    {"chat-encode", "", "Turn messages (JSON on standard input) into a prompt.", fm_cmd_chat_encode},
    {"chat-decode", "", "Take an answer apart: reasoning, content, tool calls.", fm_cmd_chat_decode},
    {"logits", "", "Compute the logits of given token ids.", fm_cmd_logits},
    {"imatrix", "[MODEL] | --merge FILE...", "Measure on a text which weights matter, for quantising.", fm_cmd_imatrix},
    {"perplexity", "[MODEL]", "Say how well a model foretells a text, and how far two models differ.",
     fm_cmd_perplexity},
    {"eval", "[MODEL] SET", "Ask a model a set of questions and count what is right.", fm_cmd_eval},
    {"train", "PATH...", "Train a model on texts.", fm_cmd_train},
    {"plot", "LOG", "Draw a training log.", fm_cmd_plot},
    {"quantize", "IN OUT", "Convert a model, to smaller formats or to the other container.", fm_cmd_quantize},
    {"export", "FROM TO", "Write a training checkpoint as a model.", fm_cmd_export},
    {"pull", "NAME", "Download a model from the hub.", fm_cmd_pull},
    {"list", "", "List the downloaded models (also: ls).", fm_cmd_list},
    {"rm", "NAME...", "Remove downloaded models (also: delete).", fm_cmd_rm},
    {"verify", "[NAME...]", "Check downloaded models for damage.", fm_cmd_verify},
    {"version", "", "Print version, commit, processor tier and threads.", fm_cmd_version},
    {"help", "[COMMAND]", "List the commands, or explain one.", cmd_help},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const char *const aliases[][2] = {{"ls", "list"}, {"delete", "rm"}};

static const struct fm_command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(name, aliases[i][0])) name = aliases[i][1];
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(name, commands[i].name)) return &commands[i];
    return NULL;
}

static enum fm_status unknown_command(const char *name, struct fm_error *err)
{
    const char *names[N_COMMANDS + 1] = {NULL};
    for (int i = 0; i < N_COMMANDS; i++) names[i] = commands[i].name;
    const char *near = fm_nearest(name, names);
    fm_fail(err, FM_ERR_USAGE, "read arguments: %.80s: no such command", name);
    if (near)
        fm_hint(err, "did you mean fathom %s?", near);
    else
        fm_hint(err, "fathom help lists the commands");
    return FM_ERR_USAGE;
}

static void list_commands(void)
{
    printf("usage: fathom [COMMAND] [OPTIONS] [ARGUMENTS]\n\n");
    for (int i = 0; i < N_COMMANDS; i++) printf("  %-11s %s\n", commands[i].name, commands[i].summary);
    printf("\nfathom COMMAND --help explains one of them.\n"
           "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad input file, 4 memory or disk short, 130 interrupted.\n");
}

static enum fm_status cmd_help(struct fm_cli *cli, struct fm_error *err)
{
    if (!cli->argc || cli->argv[0][0] == '-') {
        list_commands();
        return FM_OK;
    }
    const struct fm_command *c = find_command(cli->argv[0]);
    if (!c) return unknown_command(cli->argv[0], err);
    if (c->run == cmd_help) {
        list_commands();
        return FM_OK;
    }
    char help[] = "--help", *argv[] = {help, NULL};
    struct fm_cli inner = {.command = c, .argc = 1, .argv = argv};
    return c->run(&inner, err);
}

/* No command but options: they are chat's, save for --help and --version. */
static const struct fm_command *pick_command(struct fm_cli *cli, struct fm_error *err)
{
    const char *first = cli->argc ? cli->argv[0] : NULL;
    if (first && (!strcmp(first, "--help") || !strcmp(first, "-h"))) return find_command("help");
    if (first && first[0] == '-' && strcmp(first, "--version") != 0) return find_command("chat");
    if (!first) return find_command("chat");
    const struct fm_command *c = find_command(strcmp(first, "--version") ? first : "version");
    if (!c) (void)!unknown_command(first, err);
    cli->argc--;
    cli->argv++;
    return c;
}

/* A closed standard stream: take its number with a file that refuses the stream's direction, or the next file opened,
 * a checkpoint perhaps, would get the number and the messages.  As gnulib's stdopen. */
static void occupy_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0) (void)!open("/dev/null", fd ? O_RDONLY : O_WRONLY);
}

static void use_utf8(void)
{
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8"); /* numbers stay in the C locale either way */
}

int main(int argc, char **argv)
{
    struct fm_error err = {0};
    struct fm_cli cli = {.argc = argc > 0 ? argc - 1 : 0, .argv = argv + 1};
    occupy_streams();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is noticed when writing */
    signal(SIGXFSZ, SIG_IGN); /* and so is a limit on the size of files */
    use_utf8();
    cli.command = pick_command(&cli, &err);
    enum fm_status st = cli.command ? cli.command->run(&cli, &err) : FM_ERR_USAGE;
    if (!st) st = fm_out_finish(&err);
    if (fm_out_closed()) st = FM_OK; /* whoever read us has seen enough */
    if (st && st != FM_ERR_CANCELLED) fm_print_failure(&err);
    return fm_exit_code(st);
}
