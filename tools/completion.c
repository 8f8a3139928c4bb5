/* ashlar completion: what a shell has to know to complete command lines, from the table of commands. */
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

static const char *kind_name(enum argument kind)
{
    static const char *const names[] = {[ARGUMENT_FILE] = "file",
                                        [ARGUMENT_NONE] = "none",
                                        [ARGUMENT_PROGRAM] = "program",
                                        [ARGUMENT_PID] = "pid",
                                        [ARGUMENT_SHELL] = "shell"};
    return names[kind];
}

/* Behind a program's name its own arguments are completed: files, where it has no completion. */
static const char bash_begin[] = "_ashlar() {\n"
                                 "    local cur=${COMP_WORDS[COMP_CWORD]} options= kind= i\n"
                                 "    COMPREPLY=()\n"
                                 "    if ((COMP_CWORD == 1)); then\n"
                                 "        COMPREPLY=($(compgen -W '";
static const char bash_commands[] = "--help --version' -- \"$cur\"))\n"
                                    "        return\n"
                                    "    fi\n"
                                    "    case ${COMP_WORDS[1]} in\n";
static const char bash_end[] =
    "    esac\n"
    "    if [ \"$kind\" = program ]; then\n"
    "        for ((i = 2; i < COMP_CWORD; i++)); do\n"
    "            case ${COMP_WORDS[i]} in\n"
    "            --) ((i++)); break ;;\n"
    "            -*|=) ;;\n"
    "            *) [ \"${COMP_WORDS[i-1]}\" = = ] || break ;;\n"
    "            esac\n"
    "        done\n"
    "        if ((i < COMP_CWORD)); then\n"
    "            if declare -F _command_offset >/dev/null; then\n"
    "                _command_offset $i\n"
    "            else\n"
    "                COMPREPLY=($(compgen -f -- \"$cur\"))\n"
    "            fi\n"
    "            return\n"
    "        fi\n"
    "    fi\n"
    "    case $cur in\n"
    "    -*) COMPREPLY=($(compgen -W \"$options --help\" -- \"$cur\")); return ;;\n"
    "    esac\n"
    "    case $kind in\n"
    "    program) COMPREPLY=($(compgen -c -- \"$cur\")) ;;\n"
    "    pid) COMPREPLY=($(compgen -W \"$(grep -ls libashlar /proc/[0-9]*/maps | cut -d/ -f3)\" -- "
    "\"$cur\")) ;;\n"
    "    shell) COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$cur\")) ;;\n"
    "    file) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _ashlar ashlar\n";

static void print_bash(const struct command *all, size_t n)
{
    fputs(bash_begin, stdout);
    for (size_t i = 0; i < n; i++)
        printf("%s ", all[i].name);
    fputs(bash_commands, stdout);
    for (size_t i = 0; i < n; i++)
        printf("    %s) options='%s' kind=%s ;;\n", all[i].name,
               all[i].options != NULL ? all[i].options : "", kind_name(all[i].argument));
    fputs(bash_end, stdout);
}

static void print_zsh(const struct command *all, size_t n)
{
    puts("autoload -U +X bashcompinit && bashcompinit");
    print_bash(all, n);
}

static void fish_options(const struct command *c)
{
    char words[512], *rest;
    snprintf(words, sizeof words, "%s --help", c->options != NULL ? c->options : "");
    for (char *w = strtok_r(words, " ", &rest); w != NULL; w = strtok_r(NULL, " ", &rest))
        printf("complete -c ashlar -n '__fish_seen_subcommand_from %s' %s %s\n", c->name,
               strncmp(w, "--", 2) == 0 ? "-l" : "-s", w + strspn(w, "-"));
}

static void print_fish(const struct command *all, size_t n)
{
    puts("complete -c ashlar -f");
    for (size_t i = 0; i < n; i++) {
        static const char *const arguments[] = {[ARGUMENT_FILE] = "-F",
                                                [ARGUMENT_NONE] = "-f",
                                                [ARGUMENT_PROGRAM] =
                                                    "-a '(__fish_complete_subcommand)'",
                                                [ARGUMENT_PID] = "-a '(__fish_complete_pids)'",
                                                [ARGUMENT_SHELL] = "-a 'bash zsh fish'"};
        printf("complete -c ashlar -n __fish_use_subcommand -a %s -d '%.*s'\n", all[i].name,
               (int)strcspn(all[i].help, ":'"), all[i].help);
        printf("complete -c ashlar -n '__fish_seen_subcommand_from %s' %s\n", all[i].name,
               arguments[all[i].argument]);
        fish_options(&all[i]);
    }
}

int command_completion(int argc, char **argv)
{
    static const struct {
        const char *shell;
        void (*print)(const struct command *all, size_t n);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};
    size_t n;
    const struct command *all = commands_all(&n);
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return help();
    for (size_t i = 0; argc == 2 && i < sizeof shells / sizeof shells[0]; i++)
        if (strcmp(argv[1], shells[i].shell) == 0) {
            shells[i].print(all, n);
            return STATUS_OK;
        }
    return usage_error("completion: name a shell: bash, zsh or fish");
}
