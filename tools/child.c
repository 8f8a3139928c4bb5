#include "child.h"

#include "os/os_clock.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

volatile sig_atomic_t child_interrupted;
static volatile sig_atomic_t running; /* its process group; 0: none */

static void interrupt(int signal)
{
    int saved = errno;
    child_interrupted = signal;
    if (running > 0)
        kill(-running, SIGKILL);
    errno = saved;
}

void child_catch(void)
{
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static size_t name_length(const char *setting)
{
    return strcspn(setting, "=");
}

static bool is_set(char *const *settings, const char *variable)
{
    size_t n = name_length(variable);
    for (size_t i = 0; settings[i] != NULL; i++)
        if (name_length(settings[i]) == n && strncmp(settings[i], variable, n) == 0)
            return true;
    return false;
}

/* The environment with the settings in place of the variables they name. */
static char **environment(char *const *settings)
{
    size_t room = 1, n = 0;
    for (char **e = environ; *e != NULL; e++)
        room++;
    for (size_t i = 0; settings[i] != NULL; i++)
        room++;
    char **env = calloc(room, sizeof *env);
    if (env == NULL)
        return NULL;
    for (size_t i = 0; settings[i] != NULL; i++)
        if (strchr(settings[i], '=') != NULL)
            env[n++] = settings[i];
    for (char **e = environ; *e != NULL; e++)
        if (!is_set(settings, *e))
            env[n++] = *e;
    return env;
}

static int spawn(const struct child_plan *plan, char **env, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    const int fds[] = {plan->in, plan->out, plan->err};
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attributes, 0);
    for (int i = 0; i < 3; i++) {
        if (fds[i] < 0)
            posix_spawn_file_actions_addopen(&files, i, "/dev/null", i == 0 ? O_RDONLY : O_WRONLY,
                                             0);
        else if (fds[i] != i)
            posix_spawn_file_actions_adddup2(&files, fds[i], i);
    }
    int error = posix_spawnp(pid, plan->command[0], &files, &attributes, plan->command, env);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

static int64_t nanoseconds(struct timeval t)
{
    return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_usec * 1000;
}

int child_run(const struct child_plan *plan, struct child_figures *figures)
{
    pid_t pid;
    int status;
    struct rusage u;
    char **env = environment(plan->settings);
    if (env == NULL)
        return ENOMEM;
    uint64_t begin = os_clock_ns();
    int error = spawn(plan, env, &pid);
    free(env);
    if (error != 0)
        return error;
    running = pid;
    if (child_interrupted != 0)
        kill(-pid, SIGKILL); /* the signal came before there was anybody to end */
    while (wait4(pid, &status, 0, &u) < 0 && errno == EINTR)
        ;
    running = 0;
    *figures = (struct child_figures){
        .wall_ns = (int64_t)(os_clock_ns() - begin),
        .user_ns = nanoseconds(u.ru_utime),
        .system_ns = nanoseconds(u.ru_stime),
        .rss = (int64_t)u.ru_maxrss * 1024,
        .minor_faults = u.ru_minflt,
        .major_faults = u.ru_majflt,
        .waits = u.ru_nvcsw,
        .preempts = u.ru_nivcsw,
        .status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
    };
    return 0;
}
