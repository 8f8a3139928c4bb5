/*
 * ashlar completion: completion of command lines, for a shell to read.
 *
 * What it offers it takes from the commands' own help when it is asked: their names from `ashlar
 * --help`, their options from the lines of `ashlar COMMAND --help` that begin with one, and what
 * the other words are from its usage (PROGRAM, PID, else files). So nothing is told twice.
 */
#include "ashlar.h"

#include <stdio.h>
#include <string.h>

static int help(void)
{
    puts("usage: ashlar completion bash|zsh|fish\n\n"
         "Prints the completion of this command for a shell. In bash and zsh,\n\n"
         "    source <(ashlar completion bash)\n\n"
         "turns it on; in fish, `ashlar completion fish | source`.");
    return STATUS_OK;
}

/* Behind a program's name its own completion goes on, else files. */
static const char bash[] =
    "_ashlar() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} help usage words i\n"
    "    COMPREPLY=()\n"
    "    if ((COMP_CWORD == 1)); then\n"
    "        words=\"--help --version $(ashlar --help | sed -n 's/^  \\([a-z]*\\) .*/\\1/p')\"\n"
    "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
    "        return\n"
    "    fi\n"
    "    help=$(ashlar \"$command\" --help 2>/dev/null) || return\n"
    "    usage=${help%%$'\\n'*}\n"
    "    if [[ $usage == *PROGRAM* ]]; then\n"
    "        for ((i = 2; i < COMP_CWORD; i++)); do\n"
    "            case ${COMP_WORDS[i]} in\n"
    "            --) ((i++)); break ;;\n"
    "            -* | =) ;;\n"
    "            *) [ \"${COMP_WORDS[i-1]}\" = = ] || break ;;\n"
    "            esac\n"
    "        done\n"
    "        if ((i < COMP_CWORD)); then\n"
    "            if declare -F _command_offset >/dev/null; then\n"
    "                _command_offset \"$i\"\n"
    "            else\n"
    "                COMPREPLY=($(compgen -f -- \"$cur\"))\n"
    "            fi\n"
    "            return\n"
    "        fi\n"
    "    fi\n"
    "    if [[ $cur == -* ]]; then\n"
    "        words=\"--help $(grep -oE '^ +(-[a-z]|--[a-z-]+)' <<<\"$help\")\"\n"
    "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
    "    elif [[ $usage == *PROGRAM* ]]; then\n"
    "        COMPREPLY=($(compgen -c -- \"$cur\"))\n"
    "    elif [[ $usage == *PID* ]]; then\n"
    "        words=$(grep -ls libashlar /proc/[0-9]*/maps | cut -d/ -f3)\n"
    "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
    "    elif [[ $usage == *bash* ]]; then\n"
    "        COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$cur\"))\n"
    "    else\n"
    "        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
    "    fi\n"
    "}\n"
    "complete -F _ashlar ashlar\n";

static const char fish[] =
    "function __ashlar_commands\n"
    "    ashlar --help | string replace -rf '^  ([a-z]+) +(.*)' '$1\\t$2'\n"
    "end\n"
    "function __ashlar_options\n"
    "    set -l words (commandline -opc)\n"
    "    ashlar $words[2] --help | string replace -rf '^ +(-[a-z]|--[a-z-]+)\\S* *(.*)' '$1\\t$2'\n"
    "end\n"
    "function __ashlar_pids\n"
    "    grep -ls libashlar /proc/*/maps | string replace -rf '/proc/(\\d+)/maps' '$1'\n"
    "end\n"
    "function __ashlar_is\n"
    "    set -l words (commandline -opc)\n"
    "    set -q words[2]; and ashlar $words[2] --help 2>/dev/null | head -n 1 | string match -q "
    "\"*$argv*\"\n"
    "end\n"
    "complete -c ashlar -f\n"
    "complete -c ashlar -n __fish_use_subcommand -a '(__ashlar_commands)'\n"
    "complete -c ashlar -n 'not __fish_use_subcommand' -a '(__ashlar_options)'\n"
    "complete -c ashlar -n '__ashlar_is PROGRAM' -a '(__fish_complete_subcommand)'\n"
    "complete -c ashlar -n '__ashlar_is PID' -a '(__ashlar_pids)'\n"
    "complete -c ashlar -n '__ashlar_is bash' -a 'bash zsh fish'\n"
    "complete -c ashlar -n '__ashlar_is FILE' -F\n";

int command_completion(int argc, char **argv)
{
    const char *shell = argc == 2 ? argv[1] : "";
    if (strcmp(shell, "--help") == 0)
        return help();
    if (strcmp(shell, "zsh") == 0)
        puts("autoload -U +X bashcompinit && bashcompinit");
    if (strcmp(shell, "zsh") == 0 || strcmp(shell, "bash") == 0)
        fputs(bash, stdout);
    else if (strcmp(shell, "fish") == 0)
        fputs(fish, stdout);
    else
        return usage_error("completion: name a shell: bash, zsh or fish");
    return STATUS_OK;
}
