#!/usr/bin/env bash
# fathom chat at a terminal: editing, history, commands, what Ctrl-C does where.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
exec </dev/null # the terminals of this test are its own
command -v python3 >/dev/null || { echo 'no python3'; exit 77; }
train_small

at_terminal() { # exit code, arguments of fathom…; the script in $input
    local want=$1
    shift
    last="$* at a terminal"
    printf '%s\n' "$input" | python3 "$root/tests/cli/terminal.py" "$BIN" "$@" >out 2>err
    [ "$(tail -n 1 out)" = "exit $want" ] || complain "not exit code $want"
}

input='see >>> 
send static int\r
see >>> 
send /stats\r
see context: 
see >>> 
send /nonsense\r
see no such command
see >>> 
send /set temp 200\r
see is not a number from 0 to 100
see >>> 
send /regen\r
see >>> 
send \x1b[A
see /regen
send \x15/bye\r'
at_terminal 0 chat m/model.gguf -n 4
[ "$(stat -c %a state/fathom/history)" = 600 ] || complain 'the history is not private'
grep -q static state/fathom/history || complain 'the history lacks a line'

input='see >>> 
send """one\r
see ... 
send two"""\r
see >>> 
send \x04'
at_terminal 0 chat m/model.gguf -n 4

# on a line with text Ctrl-C clears it, on an empty one it leaves
input='see >>> 
send some words
see words
send \x03
see >>> 
send \x03'
at_terminal 130 chat m/model.gguf

# during an answer it stops the answer; the conversation goes on
input='see >>> 
send static\r
wait
send \x03
see >>> 
send /exit\r'
at_terminal 0 chat m/model.gguf --temp 0 --ctx 100000

# stopped and continued, as by Ctrl-Z and fg: the keys edit again, and are not echoed
input='see >>> 
send nonsense
see nonsense
signal SIGSTOP
wait
cooked
signal SIGCONT
wait
send \x01/
wait
send \r
see no such command
see >>> 
send \x04'
at_terminal 0 chat m/model.gguf
! grep -qF '^A' out || complain 'the terminal echoes what libedit should read'

# a full context is said, not only met
input='see >>> 
send static\r
see is full
send /bye\r'
at_terminal 0 chat m/model.gguf --ctx 20 --temp 0

input='see >>> 
send some words
see words
signal SIGTERM'
at_terminal 130 chat m/model.gguf
finish
